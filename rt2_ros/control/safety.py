# SPDX-License-Identifier: Apache-2.0
"""The one pass between a neural network and a machine that can hurt.

A delta comes in as it was received, nothing of it trusted; out comes a verdict: refused with the
reason, or a target and a trajectory within every limit of the robot profile, with all that had to
be changed on the way.

>>> verdict = SafetyFilter(profile, kinematics).check(delta, situation, history)
>>> verdict.accepted, verdict.changes
(True, ('translation 0.250 m cut to 0.100 m', 'workspace: z -0.020 m raised to 0.012 m'))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rt2_ros.control.history import JointHistory, NotInHistory
from rt2_ros.control.kinematics import Kinematics, Unreachable
from rt2_ros.control.pose import Array, Pose
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.trajectory import Chunk, NoTrajectory, plan_chunk

PATH_TOLERANCE = (
    0.005  # m by which the way between two targets in the workspace may bulge out of it
)
_SHARES = (1.0, 0.5, 0.25)  # of the way to the target, tried until one can be done
_SAMPLE_PERIOD = 0.04  # s, of a chunk, at which the tip is looked at
_WORTH_SAYING = 1e-4  # m; smaller corrections are rounding
_SPEED_MARGIN = 1.02  # for the speed between two samples


@dataclass(frozen=True)
class Delta:
    """A wanted motion, as received: nothing is checked here.

    translation in m and rotation (a vector in rad) are in `frame_id`, relative to the tip's pose at
    `stamp_ns`, when the image was taken. gripper: 0 open .. 1 closed.
    confidence: 0..1, how sure the policy is of it.
    """

    stamp_ns: int
    frame_id: str
    instruction_id: int
    step: int
    translation: Sequence[float]
    rotation: Sequence[float]
    gripper: float
    terminate: bool = False
    confidence: float = 1.0


@dataclass(frozen=True)
class Situation:
    """What a delta is judged against.

    now_ns: the time on the clock that stamps images. instruction_id: the current one. step,
    stamp_ns: of the delta accepted last for it. q, velocity (n,): the motion from which the arm
    would go on, rad and rad/s. gripper: closedness 0..1 as commanded last, None if not known.
    """

    now_ns: int
    instruction_id: int
    step: int
    stamp_ns: int
    q: Array
    velocity: Array
    gripper: float | None


@dataclass(frozen=True)
class Verdict:
    """What became of a delta.

    code: a short word for counters ("accepted" or why refused); reason: the same for a person.
    changes: what was altered, each with both values. target and chunk are None where the arm is not
    to move (refused, terminate, gripper first); gripper is the closedness to command, None to leave
    it.
    """

    accepted: bool
    code: str
    reason: str
    changes: tuple[str, ...] = ()
    target: Pose | None = None
    chunk: Chunk | None = None
    gripper: float | None = None

    @classmethod
    def refused(cls, code: str, reason: str) -> Verdict:
        """Say no."""
        return cls(False, code, reason)


class SafetyFilter:
    """Checks deltas against a robot profile. Keeps no state: all it must know is handed to it."""

    def __init__(self, profile: RobotProfile, kinematics: Kinematics) -> None:
        self._profile = profile
        self._kinematics = kinematics
        self._limits = profile.limits()
        self._low, self._high = np.array(profile.workspace_min), np.array(profile.workspace_max)

    def check(self, delta: Delta, situation: Situation, history: JointHistory) -> Verdict:
        """Judge a delta; never raises for what is in it."""
        refusal = self._refuse_message(delta, situation)
        if refusal is not None:
            return refusal
        if delta.terminate:
            return Verdict(True, "accepted", "terminate")
        gripper = min(max(float(delta.gripper), 0.0), 1.0)
        changes: list[str] = []
        if gripper != delta.gripper:
            changes.append(f"gripper {delta.gripper:.2f} cut to {gripper:.0f}")
        if (
            situation.gripper is None
            or abs(gripper - situation.gripper) > self._profile.gripper_deadband
        ):
            if np.any(delta.translation) or np.any(delta.rotation):
                changes.append("motion left out while the gripper moves")
            return Verdict(True, "accepted", "gripper first", tuple(changes), gripper=gripper)
        try:
            reference = self._kinematics.forward(history.at(delta.stamp_ns))
        except NotInHistory as error:
            return Verdict.refused("history", f"the pose at the image's time is not known: {error}")
        target = self._bounded(reference, delta, changes)
        return self._reach(target, situation, changes)

    def _refuse_message(self, delta: Delta, situation: Situation) -> Verdict | None:
        profile = self._profile
        if not all(map(_finite, (delta.translation, delta.rotation, [delta.gripper] * 3))):
            return Verdict.refused(
                "not finite", "not three finite numbers each, and a finite gripper"
            )
        if delta.frame_id != profile.base_frame:
            return Verdict.refused(
                "frame", f"frame '{delta.frame_id}', expected {profile.base_frame}"
            )
        if delta.instruction_id != situation.instruction_id:
            return Verdict.refused(
                "instruction",
                f"for instruction {delta.instruction_id}, current is {situation.instruction_id}",
            )
        if delta.step <= situation.step or delta.stamp_ns < situation.stamp_ns:
            return Verdict.refused("step", f"step {delta.step} is not after step {situation.step}")
        if delta.stamp_ns <= 0:
            return Verdict.refused("stamp", "without a time stamp")
        age = (situation.now_ns - delta.stamp_ns) * 1e-9
        if age < 0:
            return Verdict.refused("stamp", f"its image is {-age:.3f} s in the future")
        if age > profile.time_to_live:
            return Verdict.refused(
                "stale", f"its image is {age:.3f} s old, time to live {profile.time_to_live:g} s"
            )
        return None

    def _bounded(self, reference: Pose, delta: Delta, changes: list[str]) -> Pose:
        """Return the target within step caps and workspace.

        From a pose outside the workspace the target may lie outside as well, but nearer.
        """
        profile = self._profile
        step = _capped(delta.translation, profile.max_step_translation, "translation", "m", changes)
        turn = _capped(delta.rotation, profile.max_step_rotation, "rotation", "rad", changes)
        wanted = reference.position + step
        inside = np.clip(wanted, self._low, self._high)
        for axis, before, after in zip("xyz", wanted, inside, strict=True):
            if abs(before - after) > _WORTH_SAYING:
                verb = "raised" if after > before else "lowered"
                changes.append(f"workspace: {axis} {before:.3f} m {verb} to {after:.3f} m")
        step = _capped(
            inside - reference.position, profile.max_step_translation, "way back", "m", changes
        )
        return reference.compose_delta(step, turn)

    def _reach(self, target: Pose, situation: Situation, changes: list[str]) -> Verdict:
        """Plan to the target, or part of the way where all of it cannot be done."""
        start = self._kinematics.forward(situation.q)
        step, turn = start.delta_to(target)
        code, reason = "unreachable", ""
        for share in _SHARES:
            goal = target if share == 1 else start.compose_delta(share * step, share * turn)
            try:
                q = self._kinematics.inverse(goal, situation.q)
                chunk = plan_chunk(
                    *(
                        situation.q,
                        situation.velocity,
                        q,
                        self._profile.chunk_duration,
                        self._limits,
                    ),
                    excess=self.excess,
                )
            except Unreachable as error:
                code, reason = "unreachable", str(error)
            except NoTrajectory as error:
                code, reason = "path", str(error)
            else:
                if share < 1:
                    changes.append(f"way cut to {share:.0%}: {reason}")
                return Verdict(True, "accepted", "accepted", tuple(changes), goal, chunk)
        return Verdict.refused(code, reason)

    def excess(self, chunk: Chunk) -> float:
        """Return how many times too fast the tip is on a chunk; inf if it leaves the workspace."""
        worst, allowed = 0.0, None
        count = int(np.ceil(chunk.duration / _SAMPLE_PERIOD)) + 1
        for time in np.linspace(0.0, chunk.duration, count):
            q, velocity = chunk.sample(float(time))
            position, twist = self._kinematics.motion(q, velocity)
            outside = float(np.maximum(self._low - position, position - self._high).max())
            if allowed is None:  # the first sample is where the arm is already
                allowed = max(outside, PATH_TOLERANCE)
                continue
            if outside > allowed:
                return float("inf")
            worst = max(
                worst,
                float(np.linalg.norm(twist[:3])) / self._profile.max_linear_speed,
                float(np.linalg.norm(twist[3:])) / self._profile.max_angular_speed,
            )
        return worst * _SPEED_MARGIN


def _finite(values: Sequence[float]) -> bool:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return array.shape == (3,) and bool(np.isfinite(array).all())


def _capped(
    values: Sequence[float] | Array, cap: float, what: str, unit: str, changes: list[str]
) -> Array:
    """Return the vector (3,), scaled down to the length `cap` if it is longer."""
    array = np.asarray(values, dtype=np.float64)
    largest = float(np.abs(array).max())
    if largest == 0:
        return array
    direction = array / largest
    shape = float(np.linalg.norm(direction))
    length = largest * shape  # not norm(array), whose squares overflow
    if length <= cap * (1 + 1e-9):
        return array
    changes.append(f"{what} {length:.3g} {unit} cut to {cap:.3g} {unit}")
    return direction * (cap / shape)
