# SPDX-License-Identifier: Apache-2.0
"""Episodes in process: the tabletop behind the very controller that the ROS graph runs.

>>> env = TabletopEnv(Tabletop(names))
>>> observation = env.reset(seed=3, object="banana")
>>> observation, done = env.step(expert(observation.truth, env.task))
>>> env.verdict()
Verdict(success=False, reason='timeout', steps=1)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rt2_ros.actions import Action
from rt2_ros.control.arm import ArmController
from rt2_ros.control.command import Command
from rt2_ros.control.profile import GRIPPER_TIME, RobotProfile
from rt2_ros.control.safety import Delta
from rt2_ros.paths import config_path
from rt2_ros.sim.robot import SimulatedRobot
from rt2_ros.sim.scene import Appearance, Placement
from rt2_ros.sim.tabletop import Tabletop, TabletopState
from rt2_ros.sim.tasks import Judge, Task, Verdict
from rt2_ros.sim.world import MAX_OPENING

SIDE = 480  # px, of the square in the middle of the scene camera's picture
MAX_LATENCY = 2.0  # s
STEP_PERIOD = 0.25  # s of simulated time from one action to the next
MAX_STEPS = 40  # of an episode
_JOINT_STATE_PERIOD = 0.01  # s


@dataclass(frozen=True, eq=False)
class Scenario:
    """An episode before it begins: what lies where, how it looks, and what is asked for."""

    seed: int
    task: Task
    instruction: str
    layout: tuple[Placement, ...]
    start: NDArray[np.float64]  # (3,) fingertips, m
    appearance: Appearance
    opening: float = MAX_OPENING  # m between the fingertips


@dataclass(frozen=True, eq=False)
class EnvObservation:
    """What a policy may see (image, state, instruction), and the truth, which it may not."""

    image: NDArray[np.uint8] | None  # RGB (SIDE, SIDE, 3) of the scene camera; None: not rendered
    state: NDArray[np.float64]  # (4,) fingertips x, y, z in m, closedness
    instruction: str
    stamp_ns: int  # simulated time
    truth: TabletopState


class TabletopEnv:
    """One episode at a time; the same seed, arguments and actions give the same episode."""

    frame = "panda_link0"  # of actions

    def __init__(
        self,
        tabletop: Tabletop,
        step_period: float = STEP_PERIOD,
        render: bool = True,
    ) -> None:
        """Set up.

        step_period: s of simulated time from one action to the next.
        render: False leaves the image out of observations, and needs no OpenGL.
        """
        self.tabletop = tabletop
        self._period, self._render = step_period, render
        self._latency = 0.0
        self._profile = RobotProfile.load(config_path("robots", "panda.yaml"))
        self._kinematics = self._profile.kinematics(tabletop.world.urdf)
        self._collisions = self._profile.collisions(tabletop.world.urdf)
        self._robot = SimulatedRobot(tabletop.world)
        self.instruction = ""
        self.task: Task
        self.controller: ArmController
        self.held = False  # whether nothing was done in the last step

    def reset(
        self, seed: int, object: str | None = None, count: int | None = None
    ) -> EnvObservation:
        """Lay the scene of `seed` and ask to pick up `object`, or one of it by the seed if None."""
        objects = [] if object is None else [object]
        truth = self.tabletop.reset(seed, objects, count)
        if object is None:
            names = [o.name for o in truth.objects]
            object = names[int(np.random.default_rng([seed, 1]).integers(len(names)))]
        return self._begin(Task("pick", object), f"pick up the {object}", truth)

    @property
    def latency(self) -> float:
        """From an image to the action that was decided on it, s; where that is longer than a step,
        the next image is taken when the action comes.
        """
        return self._latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        if not 0.0 <= seconds <= MAX_LATENCY:
            raise ValueError(f"latency: {seconds}, expected 0..{MAX_LATENCY:g} s")
        self._latency = seconds

    def begin(self, scenario: Scenario) -> EnvObservation:
        """Start an episode that is given in full.

        Raises:
            KeyError: the task is about something that does not lie there.
        """
        s = scenario
        truth = self.tabletop.lay(s.seed, s.layout, s.start, s.appearance, s.opening)
        return self._begin(s.task, s.instruction, truth)

    def _begin(self, task: Task, instruction: str, truth: TabletopState) -> EnvObservation:
        self.task, self.instruction = task, instruction
        self._judge = Judge(task, truth)
        self._robot.reset()
        world = self.tabletop.world
        self.controller = ArmController(
            self._profile, self._kinematics, self._collisions, lambda: world.time
        )
        self._advance(0.05)  # a short past, as a controller has that has been running
        self.controller.arm()
        self.controller.on_instruction(instruction)
        self.controller.on_policy_status(1, instruction)
        self._step, self._stopped, self._began = 0, False, world.time
        return self._observe()

    def step(self, action: Action | None) -> tuple[EnvObservation, bool]:
        """Act for one period; the next observation, and whether the episode is over.

        It is over when the action says terminate, or after MAX_STEPS or the time that so many take
        without latency. Without an action (None) nothing is sent to the controller, which holds the
        arm before long.
        """
        stamp_ns = self._now_ns()
        self.controller.on_policy_status(1, self.instruction)  # it lives, also without an action
        self._advance(self._latency)
        refused, limited = action is None, False
        if action is not None:
            delta = Delta(
                stamp_ns,
                self._profile.base_frame,
                1,
                self._step,
                tuple(action.translation),
                tuple(action.rotation),
                action.gripper,
                action.terminate,
            )
            self._do(self.controller.on_delta(delta, self._now_ns()))
            verdict = self.controller.verdict
            assert verdict is not None
            refused, limited = not verdict.accepted, verdict.limited
        self.held = refused
        self._advance(self._period - self._latency)
        self._step += 1
        observation = self._observe()
        self._judge.watch(observation.truth, limited)
        self._stopped = action is not None and action.terminate
        left = self._began + MAX_STEPS * self._period - self.tabletop.world.time
        over = self._step >= MAX_STEPS or left < _JOINT_STATE_PERIOD
        return observation, self._stopped or over

    def success(self) -> bool:
        """Whether the task is fulfilled now."""
        return self.verdict().success

    def verdict(self) -> Verdict:
        """How the episode went so far, by the world's state."""
        return self._judge.verdict(self._stopped)

    @property
    def reached(self) -> bool | None:
        """Whether the hand was where the task begins and stayed; see `Judge.reached`."""
        return self._judge.reached

    def _observe(self) -> EnvObservation:
        truth = self.tabletop.state()
        image = self.tabletop.render("scene", SIDE, SIDE) if self._render else None
        return EnvObservation(image, truth.vector, self.instruction, self._now_ns(), truth)

    def _now_ns(self) -> int:
        return round(self.tabletop.world.time * 1e9)

    def _advance(self, seconds: float) -> None:
        """Run physics, the controller seeing joint states at 100 Hz and its clock as often."""
        while seconds > 1e-9:
            step = min(_JOINT_STATE_PERIOD, seconds)
            self._robot.advance(step)
            self._tell_joints()
            self._do(self.controller.tick(self._now_ns()))
            seconds -= step

    def _tell_joints(self) -> None:
        positions = self._robot.positions().tolist()
        names, now_ns = self._robot.joint_names, self._now_ns()
        self._do(self.controller.on_joint_state(now_ns, names, positions, now_ns))

    def _do(self, command: Command | None) -> None:
        if command is None:
            return
        if command.chunk is not None:
            self._robot.follow_arm(command.chunk.points())
        if command.gripper is not None:
            self._robot.follow_gripper([(GRIPPER_TIME, [command.gripper], [0.0])])
