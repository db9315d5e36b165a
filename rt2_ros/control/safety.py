# SPDX-License-Identifier: Apache-2.0
"""The one pass between a neural network and a machine that can hurt.

A delta comes in as it was received, nothing of it trusted; out comes a verdict: refused with the
reason, or a target and a trajectory within every limit of the robot profile, with all that had to
be changed on the way.

>>> verdict = SafetyFilter(profile, kinematics, collisions).check(delta, situation, history)
>>> verdict.accepted, [change.text for change in verdict.changes]
(True, ['translation 0.250 m cut to 0.100 m', 'workspace: z -0.020 m raised to 0.012 m'])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rt2_ros.control.collision import Collisions
from rt2_ros.control.history import JointHistory, NotInHistory
from rt2_ros.control.kinematics import Kinematics, Unreachable
from rt2_ros.control.path import PathCheck
from rt2_ros.control.pose import Array, Pose
from rt2_ros.control.profile import PATH_TOLERANCE, RobotProfile
from rt2_ros.control.trajectory import Chunk, NoTrajectory, plan_chunk

_SHARES = (1.0, 0.5, 0.25)  # of the way to the target, tried until one can be done
_NO_STEP = 1e-3, 0.01  # m, rad; within a bin or so of none: the arm is to stay
_WORTH_SAYING = 1e-4  # m or rad; smaller corrections are rounding
# What the controller refuses or changes in any good episode: steps while the fingers move, steps
# that are long along two axes; and a policy that gets nowhere is no matter of limits.
EVERYDAY = {"gripper", "motion", "rate", "help", "translation", "rotation"}


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
    trusted: a person has said to go on, so the policy's confidence is not asked for.
    """

    now_ns: int
    instruction_id: int
    step: int
    stamp_ns: int
    q: Array
    velocity: Array
    gripper: float | None
    trusted: bool = False


class Change(NamedTuple):
    """What the filter altered: a short word for counters, and a text with both values."""

    code: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """What became of a delta.

    code: a short word for counters ("accepted" or why refused); reason: the same for a person.
    changes: what was altered. target and chunk are None where the arm is not to move (refused,
    terminate, gripper first); gripper is the closedness to command, None to leave it.
    """

    accepted: bool
    code: str
    reason: str
    changes: tuple[Change, ...] = ()
    target: Pose | None = None
    chunk: Chunk | None = None
    gripper: float | None = None

    @classmethod
    def refused(cls, code: str, reason: str) -> Verdict:
        """Say no."""
        return cls(False, code, reason)

    @property
    def limited(self) -> bool:
        """Whether the delta ran into a limit (workspace, joints, collision, time-to-live)."""
        codes = {change.code for change in self.changes} if self.accepted else {self.code}
        return bool(codes - EVERYDAY)


class SafetyFilter:
    """Checks deltas against a robot profile. Keeps no state: all it must know is handed to it."""

    def __init__(
        self, profile: RobotProfile, kinematics: Kinematics, collisions: Collisions | None
    ) -> None:
        self.path = PathCheck(profile, kinematics, collisions)
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
        changes: list[Change] = []
        if gripper != delta.gripper:
            text = f"gripper {delta.gripper:.2f} cut to {gripper:.0f}"
            changes.append(Change("gripper", text))
        if self._profile.gripper_command != "none" and (
            situation.gripper is None
            or abs(gripper - situation.gripper) > self._profile.gripper_deadband
        ):
            if np.any(delta.translation) or np.any(delta.rotation):
                changes.append(Change("motion", "motion left out while the gripper moves"))
            return Verdict(True, "accepted", "gripper first", tuple(changes), gripper=gripper)
        try:
            reference = self._kinematics.forward(history.at(delta.stamp_ns))
        except NotInHistory as error:
            return Verdict.refused("history", f"the pose at the image's time is not known: {error}")
        target = self._bounded(reference, delta, self._kinematics.forward(situation.q), changes)
        return self.reach(target, situation.q, situation.velocity, changes)

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
        if delta.stamp_ns <= 0:
            return Verdict.refused("stamp", "without a time stamp")
        if delta.step <= situation.step or delta.stamp_ns < situation.stamp_ns:
            return Verdict.refused("step", f"step {delta.step} is not after step {situation.step}")
        age = (situation.now_ns - delta.stamp_ns) * 1e-9
        if age < 0:
            return Verdict.refused("stamp", f"its image is {-age:.3f} s in the future")
        if age > profile.time_to_live:
            return Verdict.refused(
                "stale", f"its image is {age:.3f} s old, time to live {profile.time_to_live:g} s"
            )
        if not (situation.trusted or delta.confidence >= profile.min_confidence):
            return Verdict.refused(
                "confidence",
                f"confidence {delta.confidence:.2f}, at least {profile.min_confidence:g} wanted",
            )
        return None

    def _bounded(self, reference: Pose, delta: Delta, now: Pose, changes: list[Change]) -> Pose:
        """Return the target within step caps and workspace.

        The caps hold from where the hand was in the picture, and from where it is now: it may have
        been led elsewhere meanwhile. An arm outside the workspace, by more than a way may bulge out
        of it, comes in with any step, and stays where it is, `now`, when it is asked to.
        """
        profile = self._profile
        step = _capped(delta.translation, profile.max_step_translation, "translation", "m", changes)
        turn = _capped(delta.rotation, profile.max_step_rotation, "rotation", "rad", changes)
        start, wanted = reference.position, reference.position + step
        low, high = self._low, self._high
        if np.linalg.norm(step) < _NO_STEP[0] and np.linalg.norm(turn) < _NO_STEP[1]:
            low = np.where(now.position < low - PATH_TOLERANCE, now.position, low)
            high = np.where(now.position > high + PATH_TOLERANCE, now.position, high)
        inside = np.clip(wanted, low, high)
        for axis, before, after in zip("xyz", wanted, inside, strict=True):
            if abs(before - after) > _WORTH_SAYING:
                verb = "raised" if after > before else "lowered"
                text = f"workspace: {axis} {before:.3f} m {verb} to {after:.3f} m"
                changes.append(Change("workspace", text))
        step = _capped(inside - start, profile.max_step_translation, "way back", "m", changes)
        target = reference.compose_delta(step, turn)
        way, turn = now.delta_to(target)
        step = _capped(way, profile.max_step_translation, "translation", "m", changes)
        rest = _capped(turn, profile.max_step_rotation, "rotation", "rad", changes)
        return target if step is way and rest is turn else now.compose_delta(step, rest)

    def reach(
        self, target: Pose, q: Array, velocity: Array, changes: Sequence[Change] = ()
    ) -> Verdict:
        """Plan from joint positions q (n,) rad, moving at `velocity` (n,) rad/s, to a target, or
        part of the way where all of it cannot be done.
        """
        start = self._kinematics.forward(q)
        step, turn = start.delta_to(target)
        code, reason = "unreachable", ""
        duration, limits = self._profile.chunk_duration, self._limits
        for share in _SHARES:
            goal = target if share == 1 else start.compose_delta(share * step, share * turn)
            try:
                end = self._kinematics.inverse(goal, q)
                chunk = plan_chunk(q, velocity, end, duration, limits, self.path.excess)
                self.path.refuse_detour(chunk, goal)
            except Unreachable as error:
                code, reason = "unreachable", str(error)
            except NoTrajectory as error:
                code, reason = error.code, str(error)
            else:
                made = list(changes)
                if share < 1:
                    made.append(Change("way", f"way cut to {share:.0%}: {reason}"))
                condition = self.path.condition(chunk)
                if condition > self._profile.singularity_slow:
                    text = f"slowed near a singularity: condition number {condition:.0f}"
                    made.append(Change("singularity", text))
                return Verdict(True, "accepted", "accepted", tuple(made), goal, chunk)
        return Verdict.refused(code, reason)


def _finite(values: Sequence[float]) -> bool:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return array.shape == (3,) and bool(np.isfinite(array).all())


def _capped(
    values: Sequence[float] | Array, cap: float, what: str, unit: str, changes: list[Change]
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
    if length > cap + _WORTH_SAYING:
        changes.append(Change(what, f"{what} {length:.3g} {unit} cut to {cap:.3g} {unit}"))
    return direction * (cap / shape)
