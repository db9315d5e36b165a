# SPDX-License-Identifier: Apache-2.0
"""When the arm may move: the controller's states, as plain logic without ROS.

Events go in, commands come out; controller_node and the simulator's in-process environment run this
same code.

    disarmed --arm--> armed --delta--> moving --late, terminate, new instruction--> holding
    holding --delta--> moving     any --disarm, clock jumps--> disarmed
    any --stop--> stopped (latched) --arm--> armed
    moving --unsure, no progress, paused--> holding, asks for help --new instruction, arm--> holding

The arm moves only for an instruction that was given while it was armed: not because a node starts,
restarts or is armed again. Every command it sends ends at rest, so that silence stops it too.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

import numpy as np

from rt2_ros.actions import is_stop
from rt2_ros.control.collision import Collisions
from rt2_ros.control.command import Command, State
from rt2_ros.control.execution import HOME_SHARE, LATE, OLD, Execution
from rt2_ros.control.gripper import Gripper
from rt2_ros.control.history import NotInHistory
from rt2_ros.control.joint_states import ClockWentBack, JointStates
from rt2_ros.control.kinematics import Kinematics
from rt2_ros.control.mandate import Mandate
from rt2_ros.control.plans import plan_problem
from rt2_ros.control.pose import Pose
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.safety import Delta, SafetyFilter, Situation, Verdict
from rt2_ros.control.trajectory import Chunk
from rt2_ros.control.watch import ClockWatch

UNARMED = "not armed"  # the reason before anybody arms it
NEEDS_HELP = "needs help: "  # how `reason` begins while a person is asked for
# s without ticks, joint states or a decision that is taken, after which a person says whether to go
# on: nothing moves because a node that was away is back.
_PAUSE = 2.0
_FIRST_PAUSE = 60.0  # s, the same for an instruction's first decision: a policy may think long,
_SILENT = 5.0  # but says every second that it does


class ArmController:
    """Decides what the arm does. Call from one thread.

    `clock` is the controller's own steady clock in s, for the watchdog and for where on its
    trajectory the arm is; stamps of images and joint states, in ns, are on the ROS clock
    (`now_ns`). parts: what is sent goes on without us, so that every trajectory has its brake in
    it, and the way home is told part by part, by `tick`; see Execution.

    state, reason: where it is and why. accepted, refused: deltas so far; refusals: by Verdict.code;
    changes: what was altered, by Change.code; limited: deltas that ran into a limit, refused or
    changed. joint_states: what is known of where the arm is, with `history` of it.
    verdict: on the last delta. collisions: None where the profile wants none checked.

    blocked, busy are the bridge's word, set before each event. blocked: why nothing may move
    (controllers are missing, Servo has halted); busy: what it is still carrying out (a planned
    motion, which lasts longer than a delta lives). Either refuses deltas; blocked also brakes.
    A policy says terminate once: that is heard all the same, also while a person is asked, and what
    the bridge carries out goes on.
    """

    def __init__(
        self,
        profile: RobotProfile,
        kinematics: Kinematics,
        collisions: Collisions | None,
        clock: Callable[[], float] = time.monotonic,
        armed: bool = False,
        parts: bool = True,
    ) -> None:
        self.profile, self.kinematics = profile, kinematics
        self.joint_states = JointStates(profile, clock)
        self.history = self.joint_states.history
        self.state = State.ARMED if armed else State.DISARMED
        self.reason = "armed at the start" if armed else UNARMED
        self.accepted = 0
        self.refusals: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self.limited = 0
        self.verdict: Verdict | None = None
        self.blocked = self.busy = ""
        self._safety = SafetyFilter(profile, kinematics, collisions)
        self._execution = Execution(profile, kinematics, self._safety, clock, parts)
        self._clock_watch, self._mandate = ClockWatch(), Mandate(profile.no_progress_time)
        self._clock = clock
        self._tick_time = self._decision_time = -np.inf
        self._word_time = -np.inf  # of the policy's status
        self._gripper = Gripper(profile)
        self._expiry_time = -np.inf
        self._accept_times: deque[float] = deque(maxlen=20)
        self._homing = False

    @property
    def instruction_id(self) -> int:
        """The current instruction's number, 0 if there is none."""
        return self._mandate.number

    @property
    def gripper_closedness(self) -> float | None:
        """How far the gripper is measured to be closed, 0 to 1; None if it never was."""
        return self._gripper.measured

    @property
    def needs_help(self) -> bool:
        """Whether it holds until a person gives a new instruction, or arms it to resume."""
        return self._mandate.asking

    @property
    def refused(self) -> int:
        """Deltas refused so far."""
        return sum(self.refusals.values())

    def rate(self) -> float:
        """Return how many deltas per second were accepted lately (Hz)."""
        recent = [t for t in self._accept_times if t > self._clock() - 2.0]
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0

    def pose(self) -> Pose:
        """Return the tip's measured pose in the base frame; NotInHistory without joint states."""
        return self.kinematics.forward(self.history.newest()[1])

    def arm(self) -> None:
        """Allow motion, for the next instruction; the only way out of stopped and disarmed.

        Where the arm holds and asks for help, a person so says that it may go on.
        """
        if self.state in (State.DISARMED, State.STOPPED):
            self.state, self.reason = State.ARMED, "armed: waiting for an instruction"
            self._mandate.end()
            self._mandate.hear("", self._clock())
            self._execution.settle(self.history)
        else:
            self.resume()

    def resume(self) -> None:
        """Go on with the instruction after a call for help.

        For the profile's no_progress_time, decisions of little confidence are taken as well.
        """
        if self._mandate.asking:
            self._decision_time = self._word_time = self._clock()
            self._mandate.resume(self._decision_time)
            self._gripper.forget()  # a person may have opened the hand
            self._execution.settle(self.history)
            self.reason = "resumed: waiting for the next decision"

    def disarm(self, reason: str = "disarmed") -> Command | None:
        """Brake and take no more deltas."""
        return self._end(State.DISARMED, reason)

    def stop(self, reason: str = "stopped") -> Command | None:
        """Brake, whoever moves the arm, and take no more deltas until armed again."""
        if command := self._end(State.STOPPED, reason):
            return command
        chunk = self._execution.brake_others(self.history)
        return None if chunk is None else Command(chunk=chunk, reason=reason, brake=True)

    def home(self, direct: bool = True) -> Command:
        """Go to the profile's home, slowly; ends the instruction. ValueError says why it cannot.

        direct: straight in joint space, on a way that is checked like every other. Otherwise the
        bridge plans its own way, and only the chunk's end counts.
        """
        now = self._clock()
        if self.state in (State.DISARMED, State.STOPPED):
            raise ValueError(f"the arm is {self.state.name.lower()}: call ~/arm first")
        if self.blocked or self.busy:
            raise ValueError(self.blocked or self.busy)
        if now - self._execution.seen > self.profile.joint_state_timeout:
            timeout = self.profile.joint_state_timeout
            raise ValueError(self.joint_states.missing(f" of the last {timeout:g} s"))
        if doubt := self.history.doubt():
            raise ValueError(doubt)
        if self._gripper.settles(now):
            raise ValueError("the gripper is moving")
        chunk = self._execution.home(now, self.history, direct)
        self._mandate.end()
        self.state, self.reason = State.MOVING, "moving home"
        self._homing = True
        return Command(chunk=chunk, reason=self.reason, joint_goal=True)

    def plan_problem(self, chunk: Chunk) -> str:
        """Say why a plan of somebody else's must not be executed; empty if it may.

        Home, it must be as slow as our own.
        """
        try:
            measured = self.history.newest()[1]
        except NotInHistory as error:
            return str(error)
        limits, path = self.profile.limits(), self._safety.path
        share = HOME_SHARE if self._homing else 1.0
        return plan_problem(chunk, limits, path, self.profile.arm_joints, measured, share)

    def gripper_refused(self, reason: str) -> Command | None:
        """Hold, because the gripper did not take its command; the next decision repeats it."""
        self._gripper.refused()
        return self._brake(State.HOLDING, reason) if self.state == State.MOVING else None

    def on_joint_state(
        self, stamp_ns: int, names: Sequence[str], positions: Sequence[float], now_ns: int
    ) -> Command | None:
        """Take joints' positions, as `JointStates.take` does; the gripper's may be among them, or
        alone. A clock that goes back disarms.
        """
        self._gripper.measure(names, positions)
        try:
            counts = self.joint_states.take(stamp_ns, names, positions, now_ns)
        except ClockWentBack as error:
            self._execution.seen = -np.inf
            return self.disarm(str(error))
        if counts:
            age = min(max(now_ns - stamp_ns, 0) * 1e-9, 1.0)
            self._execution.see(self.joint_states.time - age, self.history.newest()[1])
        return None

    def on_instruction(self, text: str) -> Command | None:
        """Hear what a person says; nothing, or "stop", ends the current instruction at once."""
        stop = is_stop(text)
        self._mandate.hear("" if stop else text, self._clock())
        return self._end_instruction(State.ARMED, "told to stop") if stop else None

    def overhear(self, text: str) -> None:
        """Hear what a person says while it must not be obeyed, whoever takes it up later."""
        self._mandate.hear(text, self._clock())
        self._mandate.hear("", self._clock())

    def on_policy_status(self, instruction_id: int, text: str) -> Command | None:
        """Follow the policy's word on which instruction, under which number, it works on (0: none).

        A new one drops what is under way. One that is older than this controller, was taken up
        before, or was given while it was not armed, taken back or given long ago, is known but not
        obeyed: it must be given again.
        """
        self._word_time = self._clock()
        armed = self.state not in (State.DISARMED, State.STOPPED)
        what = self._mandate.follow(instruction_id, text, armed, self._word_time)
        if what == "same":
            return None
        if what == "none":
            return self._end_instruction(State.ARMED, "no instruction")
        if not armed:
            return None
        if what == "old":
            return self._brake(State.HOLDING, "the instruction was given before: repeat it")
        self._decision_time = self._clock()
        self._gripper.forget()  # somebody may have opened the hand since it was told to close
        return self._brake(State.HOLDING, "new instruction: waiting for its first decision")

    def on_delta(self, delta: Delta, now_ns: int) -> Command | None:
        """Judge a delta and, if all is well, say how to move; `verdict` tells what came of it."""
        now = self._clock()
        if self._mandate.live and not self._mandate.progress.running:
            self._mandate.progress.begin(now)
        self.verdict = self._judge(delta, now_ns)
        late = self._clock() - now
        if self.verdict.chunk is not None and late > LATE:
            self.verdict = Verdict.refused("late", f"planning took {late:.2f} s: the arm moved on")
        self.limited += self.verdict.limited
        if not self.verdict.accepted:
            self.refusals[self.verdict.code] += 1
            if self.verdict.code == "confidence":
                return self._ask(self.verdict.reason)
            if self.state == State.HOLDING and self._mandate.live:
                self.reason = self.verdict.reason
            return None
        self.accepted += 1
        self.changes.update(change.code for change in self.verdict.changes)
        self._decision_time = now
        self._mandate.take(delta)
        if delta.terminate:
            return self._finish("done: the policy says terminate")
        self._accept_times.append(now)
        self._expiry_time = now + self.profile.time_to_live - (now_ns - delta.stamp_ns) * 1e-9
        if self.verdict.gripper is not None:
            return self._move_gripper(self.verdict.gripper)
        self.state = State.MOVING
        self.reason = "; ".join(change.text for change in self.verdict.changes) or "moving"
        chunk = self._execution.toward(self.verdict, now, self._expiry_time, self.history)
        return None if chunk is None else Command(chunk=chunk, reason=self.reason)

    def tick(self, now_ns: int) -> Command | None:
        """Look at clocks, joint states and progress: to be called at the control rate.

        now_ns: the time on the clock that stamps images.
        """
        now = self._clock()
        gap, self._tick_time = now - self._tick_time, now
        clock_problem = self._clock_watch.look(now_ns, now)
        if self.state in (State.DISARMED, State.STOPPED):
            return self._insist(now)
        if clock_problem:
            return self.disarm(clock_problem)
        silence = self.joint_states.silence()
        mandate = self._mandate
        if mandate.live and not mandate.asking and np.isfinite(silence + gap):
            if gap > _PAUSE:
                return self._ask(f"the controller stood still for {gap:.1f} s")
            if silence > _PAUSE:
                return self._ask(self.joint_states.missing(f" for {_PAUSE:g} s"))
            if not mandate.begun and now - self._word_time > _SILENT:
                return self._ask(f"the policy has said nothing for {_SILENT:g} s")
            if self.busy:
                self._decision_time = now
            # A decision may take as long as it lives; while the fingers move none is taken.
            pause = max(_PAUSE, self.profile.time_to_live + 1.0) if mandate.begun else _FIRST_PAUSE
            if now - max(self._decision_time, self._gripper.settled_time) > pause:
                return self._ask(f"no decision to act on for {pause:g} s")
            if mandate.progress.running and not mandate.progress.look(now, self.pose()):
                return self._ask(f"no progress for {mandate.progress.patience:g} s")
        if self.state == State.MOVING:
            return self._tick_moving(now, now_ns, silence)
        if self.blocked:  # what carries out commands may begin anew, from where the arm is then
            self._execution.settle(self.history)
        return self._insist(now)

    def _tick_moving(self, now: float, now_ns: int, silence: float) -> Command | None:
        if silence > self.profile.joint_state_timeout:
            return self._brake(State.HOLDING, self.joint_states.missing(f" for {silence:.2f} s"))
        if self.blocked:
            return self._brake(State.HOLDING, self.blocked)
        if len(self.history.jumps()) > 1:
            return self._brake(State.HOLDING, self.history.doubt())
        if self._homing:
            return None if self.busy else self._tick_home(now)
        if now > max(self._expiry_time, self._gripper.settled_time) and not self.busy:
            if not self._mandate.live:  # it has ended before this motion
                return self._brake(State.HOLDING, self.reason)
            return self._brake(
                State.HOLDING,
                f"no decision on an image of the last {self.profile.time_to_live:g} s",
            )
        if self._lost(now_ns):
            return None
        chunk = self._execution.blend(now, self.history)
        return None if chunk is None else Command(chunk=chunk, reason=self.reason)

    def _tick_home(self, now: float) -> Command | None:
        if self.history.doubt():
            return None
        problem = self._execution.home_problem(now, self.history)
        if problem is not None:
            state = State.HOLDING if problem else State.ARMED
            return self._brake(state, problem or "at home")
        chunk = self._execution.onward(now)
        return None if chunk is None else Command(chunk=chunk, reason=self.reason)

    def _insist(self, now: float) -> Command | None:
        """Brake again where the arm, which should be at rest, is not."""
        chunk = self._execution.insist(now, self.history)
        return None if chunk is None else Command(chunk=chunk, reason=self.reason, brake=True)

    def _lost(self, now_ns: int) -> str:
        """Say so where nobody knows where the arm is: off its trajectory, not measured lately, or
        measured to be at two places.
        """
        old = (now_ns - self.history.newest()[0]) * 1e-9
        lost = old > OLD and not self._execution.tracking
        return f"the joint states are {old:.2f} s old" if lost else self.history.doubt()

    def _judge(self, delta: Delta, now_ns: int) -> Verdict:
        now, mandate = self._clock(), self._mandate
        if self.state in (State.DISARMED, State.STOPPED):
            return Verdict.refused(self.state.name.lower(), f"the arm is {self.state.name.lower()}")
        if not mandate.live:
            return Verdict.refused("instruction", "no instruction to act on")
        if mandate.asking and not delta.terminate:
            return Verdict.refused("help", self.reason)
        if np.isinf(self.joint_states.time):
            return Verdict.refused("joint states", self.joint_states.missing())
        refusal = None if delta.terminate else self._refuse_motion(now, now_ns)
        if refusal is not None:
            return refusal
        situation = Situation(
            *(now_ns, mandate.number, mandate.step, mandate.stamp_ns),
            *self._execution.motion(now, self.history),
            self._gripper.before(delta.gripper),
            trusted=mandate.is_trusted(now),
        )
        return self._safety.check(delta, situation, self.history)

    def _refuse_motion(self, now: float, now_ns: int) -> Verdict | None:
        """Say what keeps the arm from moving at this moment."""
        if self.blocked or self.busy:
            return Verdict.refused("bridge", self.blocked or self.busy)
        if self.joint_states.silence() > self.profile.joint_state_timeout:
            return Verdict.refused("joint states", self.joint_states.missing())
        if lost := self._lost(now_ns):
            return Verdict.refused("joint states", lost)
        if self._gripper.settles(now):
            return Verdict.refused("gripper", "the gripper is moving")
        if self._accept_times and now - self._accept_times[-1] < 0.999 / self.profile.control_rate:
            return Verdict.refused(
                "rate", f"more than {self.profile.control_rate:g} deltas a second"
            )
        return None

    def _move_gripper(self, closedness: float) -> Command:
        """Send the gripper and hold the arm still until it has settled."""
        brake = self._brake(State.MOVING, "the gripper moves")
        now = self._clock()
        if self._gripper.tell(closedness, now):
            self._mandate.progress.act(now)  # said again to a gripper that refuses, it is none
        return Command(
            chunk=brake.chunk if brake else None,
            gripper=self.profile.gripper_position(closedness),
            reason=self.reason,
            brake=brake is not None,
        )

    def _ask(self, problem: str) -> Command | None:
        """Hold, and go on only when a person has said something."""
        self._mandate.asking = True
        words = f"{NEEDS_HELP}{problem}; give an instruction, or arm to resume"
        return self._brake(State.HOLDING, words)

    def _end(self, state: State, reason: str) -> Command | None:
        self._mandate.end()
        return self._brake(state, reason)

    def _finish(self, reason: str) -> Command | None:
        """End the instruction, and hold: once the bridge has carried out what it is busy with."""
        if self.state != State.MOVING or not self.busy:
            return self._end_instruction(State.HOLDING, reason)
        self._mandate.end()
        self.reason, self._expiry_time = reason, self._clock()
        return None

    def _end_instruction(self, state: State, reason: str) -> Command | None:
        self._mandate.end()
        if self.state in (State.DISARMED, State.STOPPED):
            return None
        return self._brake(state, reason)

    def _brake(self, state: State, reason: str) -> Command | None:
        """Change state; return the trajectory to rest if one is under way."""
        self.state, self.reason = state, reason
        self._homing = False
        chunk = self._execution.brake(self.history)
        return None if chunk is None else Command(chunk=chunk, reason=reason, brake=True)
