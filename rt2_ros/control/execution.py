# SPDX-License-Identifier: Apache-2.0
"""The trajectory that the arm is on, and how the next one follows from it without a jump.

>>> execution = Execution(profile, kinematics, safety, time.monotonic, parts=True)
>>> chunk = execution.toward(verdict, now, expiry, history)  # a decision was accepted
>>> chunk = execution.blend(now, history)  # at the control rate: None, or a better one
>>> chunk = execution.brake(history)

Each trajectory starts with the position and the velocity that the one before has at that moment,
and ends at rest, by a brake where its decision counts no longer: decisions may come late,
irregularly, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np

from rt2_ros.control.history import JUMP, STILL, JointHistory, NotInHistory
from rt2_ros.control.kinematics import Kinematics
from rt2_ros.control.pose import Array, Pose
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.safety import SafetyFilter, Verdict
from rt2_ros.control.smoothing import Targets
from rt2_ros.control.trajectory import Chunk, plan_chunk, stop_chunk

# s after which the arm has moved on from where a trajectory begins: it is not sent.
LATE = 0.05
_BRAKE_TRIES = 3  # then it is sent all the same
_TRACKING_TOLERANCE = 0.1  # rad off its trajectory, up to which the arm goes on from there
_ON_TIME = 0.03  # rad that drives may lag; an arm further back began late, or its time goes slower
_LATEST = 0.2  # s that it may be behind in all on one trajectory
_STEP = 0.005  # s between the delays that are tried
OLD = 0.1  # s since the arm was measured, after which it is elsewhere unless on its trajectory
HOME_SHARE = 0.2  # of every limit of speed and acceleration on the way home
_PART = 0.6  # s of the way home that are sent at a time, and a brake: so it ends when we do
_RENEWED = 0.25  # s after which the next part takes its place
_HOME_TOLERANCE = 0.05  # rad off home, up to which the arm is there
_HOME_PATIENCE = 1.0  # s after the way home, before an arm at rest elsewhere is said to be so
_UNHEARD = 1.5  # times the speed that it was told, at which an arm may go on that did not hear
# s after a trajectory's end for drives that lag: what moves then has not heard the brake, and what
# rests elsewhere was moved.
_BRAKE_PATIENCE = 0.3
_LEAD = 0.05  # s before a brake's first inner point, as the arm may be some ms from where we think
_SOONER = 1e-3  # s by which a brake must be over sooner to be worth sending
_BRAKE_MARGIN = 1.25  # for what the way itself asks of the tip while it brakes
_SAME_PLACE, _SAME_TURN = 1e-4, 1e-3  # m, rad: a goal that moves less is not planned for anew


class Execution:
    """Keeps the trajectory under way. Times are s of one steady clock, `clock`.

    chunk, start: the trajectory sent last, and when the arm began it, as far as its motion shows;
    None before the first. tracking: whether the arm was near it when it was last seen; seen: when
    that was. parts: what is sent goes on without us, so its end is sent with it: a brake, and of a
    long way home a part at a time. For bridges that end what is long themselves, all of it at once.
    """

    def __init__(
        self,
        profile: RobotProfile,
        kinematics: Kinematics,
        safety: SafetyFilter,
        clock: Callable[[], float],
        parts: bool,
    ) -> None:
        self.chunk: Chunk | None = None
        self.tracking = False
        self.start = self.seen = self._sent = -np.inf
        self._watched = -np.inf  # since when it has been seen without a gap
        self._rest = -np.inf  # when the arm should be at rest after the last brake
        self._last = -np.inf  # when all that was ever sent has ended, heard or not
        self._told: Array = np.zeros(len(profile.arm_joints))  # rad/s, at most, by any of that
        # All of the way home, and the time on it at which the chunk begins, while there is more to
        # send than the chunk.
        self._way: tuple[Chunk, float] | None = None
        self._profile, self._kinematics, self._safety = profile, kinematics, safety
        self._clock, self._parts = clock, parts
        self._expiry = np.inf  # until when the decision counts that is carried out
        self._limits = profile.limits()
        self._slow = replace(
            self._limits,
            velocity=HOME_SHARE * self._limits.velocity,
            acceleration=HOME_SHARE * self._limits.acceleration,
        )
        self._tip_accelerations = np.array(
            [profile.max_linear_acceleration, profile.max_angular_acceleration]
        )
        self._targets = Targets(
            profile.smoothing_time, profile.ensemble_horizon, profile.ensemble_decay
        )
        self._goal: Pose | None = None  # of the chunk, where targets are blended

    def see(self, now: float, q: Array) -> None:
        """Take the joint positions (n,) that were measured at that time.

        An arm that is behind is taken to have begun later. What follows would otherwise begin ahead
        of it, and it would make up for that by more speed than was planned.
        """
        if now - self.seen > OLD:
            self._watched = now
        self.seen = now
        if self.chunk is None:
            return
        past = now - self.start
        most = min(past, self._sent + _LATEST - self.start)
        delays = np.arange(0.0, max(most, 0.0) + _STEP / 2, _STEP)
        times = np.clip(past - delays, 0.0, self.chunk.duration)
        off = np.abs(self.chunk.at(times)[0] - q).max(axis=1)
        best = int(np.argmin(np.maximum(off, _ON_TIME)))
        self.start += delays[best]
        self.tracking = bool(off[best] < _TRACKING_TOLERANCE)

    def motion(self, now: float, history: JointHistory) -> tuple[Array, Array]:
        """Return the positions and velocities (n,) from which a new trajectory starts.

        Those of the trajectory under way, as a trajectory controller would (so that the lag of the
        drives does not pull each new start back); where the arm is not near it, or was moved since
        it came to rest, the measured ones. An arm that was put elsewhere, as when a simulator is
        reset, is at rest there. Where two nodes say different things of it, it is taken to be on
        its trajectory.
        """
        if self.chunk is not None:
            doubtful = len(history.jumps()) > 1
            if doubtful or (self.tracking and not self._displaced(now, self.chunk, history)):
                return self.chunk.sample(now - self.start)
        return self._measured(history)

    def _measured(self, history: JointHistory) -> tuple[Array, Array]:
        fastest, velocity = self._limits.velocity, history.velocity()
        if history.is_still() or (np.abs(velocity) > JUMP * fastest).any():
            velocity = np.zeros_like(velocity)
        return history.newest()[1], np.clip(velocity, -fastest, fastest)

    def settle(self, history: JointHistory) -> None:
        """Forget the trajectory if the arm is at rest: it may have been moved, or its controller
        started anew, and then the next one begins where it is measured to be.
        """
        with suppress(NotInHistory):
            if history.is_still():
                self.chunk, self.tracking = None, False

    def toward(
        self, verdict: Verdict, now: float, expiry: float, history: JointHistory
    ) -> Chunk | None:
        """Follow an accepted verdict, whose target counts until `expiry`.

        None where planning ended too late after `now`: then a target that is blended is planned to
        at the control rate.
        """
        chunk, self._expiry = verdict.chunk, expiry
        if self._targets.active and verdict.target is not None:
            self._targets.add(verdict.target, expiry)
            self._goal = None
            blended = self._blended(now, history)
            chunk = blended if blended is not None else chunk
        return self._in_time(chunk, now)

    def blend(self, now: float, history: JointHistory) -> Chunk | None:
        """Return a new trajectory if targets are blended and the goal has moved."""
        if not self._targets.active or self._expiry - now < _LEAD:
            return None  # what is under way ends in its own brake
        return self._in_time(self._blended(now, history), now)

    def brake(self, history: JointHistory) -> Chunk | None:
        """Return the trajectory to rest, if one is under way that is not at rest as soon by itself.

        As fast as the joints can, straight on; where that would touch something, or leave the
        workspace, along the trajectory under way, on which there is nothing in the way. Where this
        process stood still meanwhile, from where the arm is by then; an arm that is not on its
        trajectory, from where it was measured.
        """
        self._targets.clear()
        self._way = None
        for _ in range(_BRAKE_TRIES):
            now = self._clock()
            try:
                chunk = self._to_rest(now, history)
            except NotInHistory:  # nobody knows where it is; what it was told last ends at rest
                self._rest = now
                return None
            if self._clock() - now < LATE:
                break
        if chunk is not None:
            self.chunk, self.start, self._sent = chunk, now, now
        if self.chunk is not None:
            self._rest = self.start + self.chunk.duration
        return chunk

    def brake_others(self, history: JointHistory) -> Chunk | None:
        """Return a brake from the measured motion where that is nobody's that we know of.

        Of a controller that has gone since, say, or of another node. None where nothing moves,
        where a trajectory of ours may move it still, and where nobody knows how fast it is.
        """
        now = self._clock()
        if self.chunk is not None and now <= self.start + self.chunk.duration + _BRAKE_PATIENCE:
            return None
        if now - self.seen > OLD or now - self._watched < OLD or history.jumps():
            return None
        if history.is_still():
            return None
        q, velocity = self._measured(history)
        chunk = stop_chunk(q, velocity, self._limits, self._least(q, velocity))
        self._follow(chunk, now)
        self._rest = now + chunk.duration
        return chunk

    def insist(self, now: float, history: JointHistory) -> Chunk | None:
        """Return one more brake where the arm moves on: it has not heard the last one.

        Only while something that was sent would still be under way: what moves the arm after that
        is not ours. Once it was seen at rest, it has heard.
        """
        if now <= self._rest + _BRAKE_PATIENCE or now - self.seen > OLD:
            return None
        if now - self._watched < OLD:  # how fast it is shows only in joint states without a gap
            return None
        if now > self._last + _LATEST or history.jumps():
            return None
        if history.is_still():
            self._last = -np.inf
            return None
        if (np.abs(history.velocity()) > _UNHEARD * self._told + STILL).any():
            return None  # it was put elsewhere: a brake from that speed would drive it on
        self.tracking = False
        q, velocity = self.motion(now, history)
        self.chunk = stop_chunk(q, velocity, self._limits)
        self.start = self._sent = now
        self._rest = now + self.chunk.duration
        return self.chunk

    def _to_rest(self, now: float, history: JointHistory) -> Chunk | None:
        """Raises NotInHistory where the arm is off its trajectory and was not seen lately."""
        if self.chunk is None or now >= self.start + self.chunk.duration:
            return None
        doubtful = len(history.jumps()) > 1
        if not self.tracking and not doubtful and now - self.seen > OLD:
            raise NotInHistory(f"the joint states are {now - self.seen:.2f} s old")
        q, velocity = self.motion(now, history)
        least = self._least(q, velocity)
        chunk = stop_chunk(q, velocity, self._limits, least)
        if not self.tracking and not doubtful:
            return chunk
        if not self._safety.path.is_free(chunk):
            chunk = self.chunk.brake(now - self.start, self._limits, least).spaced(_LEAD)
        left = self.start + self.chunk.duration - now
        return chunk if chunk.duration < left - _SOONER else None  # it rests as soon without

    def _least(self, q: Array, velocity: Array) -> float:
        """Return the time in s that the tip's accelerations ask for to come to rest."""
        twist = self._kinematics.motion(q, velocity)[1]
        lengths = np.linalg.norm(twist.reshape(2, 3), axis=1)
        return float((lengths / self._tip_accelerations).max()) * _BRAKE_MARGIN

    def home(self, now: float, history: JointHistory, direct: bool) -> Chunk:
        """Go to the profile's home, slowly; ValueError where the arm moves or cannot.

        direct: straight in joint space, on a way that is checked like every other. By parts, only
        the first part of such a way is returned, and `onward` gives the others.
        """
        q, velocity = self.motion(now, history)
        if np.any(velocity):
            raise ValueError("the arm is moving: stop it first")
        slow, home = self._slow, self._profile.home

        def excess(chunk: Chunk) -> float:
            return self._safety.path.excess(chunk) / HOME_SHARE if direct else 1.0

        way = np.abs(np.subtract(q, home))
        least = np.maximum(1.5 * way / slow.velocity, np.sqrt(6 * way / slow.acceleration))
        duration = max(self._profile.chunk_duration, float(least.max()))
        chunk = plan_chunk(q, velocity, home, duration, slow, excess)
        self._targets.clear()
        now = self._clock()  # the arm is at rest, however long that took
        if direct and self._parts:
            return self._send_part(chunk, 0.0, now)
        self._follow(chunk, now)
        return chunk

    def onward(self, now: float) -> Chunk | None:
        """Return the next part of the way home; None while the last one is new, or goes all the
        way. It begins with the motion that the arm has on the last one.
        """
        if self._way is None or now - self._sent < _RENEWED:
            return None
        way, time = self._way
        return self._send_part(way, time + now - self.start, now)

    def _send_part(self, way: Chunk, time: float, now: float) -> Chunk:
        least = self._least(*way.sample(time + _PART))
        part = way.part(time, _PART, self._slow, least)
        self._follow(part, now)
        if (part.positions[-1] != way.positions[-1]).any():
            self._way = way, time
        return part

    def home_problem(self, now: float, history: JointHistory) -> str | None:
        """Say why an arm does not get home; empty if it is there, None while it is on its way.

        Drives lag behind the plan, and may begin late.
        """
        if self.chunk is None:
            return None
        past, q = now - self.start, history.newest()[1]
        if self._way is not None:
            if past > _PART:  # it brakes: nothing goes on because this process does
                return "the controller stood still on the way home"
            where = self.chunk.sample(past)[0]
            return None if self.tracking else f"off the way home: {self._elsewhere(q, where)}"
        late, home = past - self.chunk.duration, np.array(self._profile.home)
        if late < 0 or not history.is_still():
            return None
        if np.abs(q - home).max() <= _HOME_TOLERANCE:
            return ""
        return None if late < _HOME_PATIENCE else f"not at home: {self._elsewhere(q, home)}"

    def _elsewhere(self, q: Array, wanted: Array) -> str:
        worst = int(np.abs(q - wanted).argmax())
        joint = self._profile.arm_joints[worst]
        return f"{joint} at {q[worst]:.2f} rad, expected {wanted[worst]:.2f}"

    def _displaced(self, now: float, chunk: Chunk, history: JointHistory) -> bool:
        """Whether the arm sagged, or was led by hand, after it had come to rest."""
        if now <= self.start + chunk.duration + _BRAKE_PATIENCE or not history.is_still():
            return False
        return bool(np.abs(history.newest()[1] - chunk.positions[-1]).max() > _ON_TIME)

    def _in_time(self, chunk: Chunk | None, now: float) -> Chunk | None:
        """Follow a trajectory from `now` on, unless the arm has moved on while it was planned."""
        if chunk is None:
            return None
        if self._clock() - now > LATE:
            self._goal = None  # there is no way to it yet
            return None
        if self._parts:
            left = max(self._expiry - now, _LEAD)
            chunk = chunk.until(left, self._limits, self._least(*chunk.sample(left)))
        self._follow(chunk, now)
        return chunk

    def _follow(self, chunk: Chunk, now: float) -> None:
        self.chunk, self.start, self._sent = chunk, now, now
        if now > self._last:
            self._told = np.zeros_like(self._told)
        self._last = max(self._last, now + chunk.duration)
        self._told = np.maximum(self._told, np.abs(chunk.velocities).max(axis=0))
        self._way = None
        self.tracking = True  # it begins with the motion that the arm has

    def _blended(self, now: float, history: JointHistory) -> Chunk | None:
        """Plan to where the targets' blend is now; None if it is not new or cannot be done."""
        q, velocity = self.motion(now, history)
        goal = self._targets.goal(now, self._kinematics.forward(q))
        if goal is None:
            return None
        if self._goal is not None:
            step, turn = self._goal.delta_to(goal)
            if np.abs(step).max() < _SAME_PLACE and np.abs(turn).max() < _SAME_TURN:
                return None
        self._goal = goal
        return self._safety.reach(goal, q, velocity).chunk
