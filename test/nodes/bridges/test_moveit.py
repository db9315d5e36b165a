# SPDX-License-Identifier: Apache-2.0
"""How the bridge to MoveIt stops an arm, with a planner that the test plays."""

from types import SimpleNamespace

import numpy as np
import pytest

from rt2_ros.control.arm import ArmController
from rt2_ros.control.command import Command
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.trajectory import stop_chunk
from rt2_ros.nodes.bridges import moveit
from rt2_ros.nodes.bridges.base import trajectory_msg
from rt2_ros.nodes.bridges.goals import points_of
from rt2_ros.paths import config_path

PROFILE = RobotProfile.load(config_path("robots", "panda.yaml"))
URDF = config_path("robots", "panda.urdf").read_text(encoding="utf-8")
KINEMATICS = PROFILE.kinematics(URDF)
HOME = np.array(PROFILE.home)
ASIDE = np.array([0.1, 0, 0, 0, 0, 0, 0])


class Planner:
    """Does nothing by itself."""

    def __init__(self, node, profile, planned, ended):
        self.planned, self.ended = planned, ended
        self.executes, self.cancels = False, 0  # executes: it has begun, or will
        self.answers = []  # at teardown, whether it executes then

    def plan(self, goal):
        pass

    def execute(self):
        self.executes = True

    def cancel(self):
        self.cancels += 1

    def executing(self):
        return self.executes

    def hear(self):
        self.executes = self.answers.pop(0) if self.answers else self.executes


class Rig:
    """The bridge and what it publishes; an arm that is measured where the test says."""

    def __init__(self):
        self.now, self.published, self.timers, self.teardowns = 10.0, {}, [], []
        self.active = True
        self.arm = ArmController(PROFILE, KINEMATICS, None, clock=lambda: self.now, armed=True)
        node = SimpleNamespace(
            value=lambda name: "",
            get_logger=lambda: SimpleNamespace(info=lambda text: None, warning=lambda text: None),
            publish=self._publish,
            every=lambda period, callback: self.timers.append(callback),
            at_teardown=self.teardowns.append,
            now_ns=lambda: self.stamp(),
        )
        self.bridge = moveit.MoveItBridge(node, PROFILE, None)
        self.bridge.start()
        self.planner = self.bridge._planner
        self.bridge.attach(self.arm)
        self.measure(HOME)

    def _publish(self, topic, *, always=False):
        sent = self.published.setdefault(topic.name, [])
        speaks = lambda: always or self.active  # noqa: E731
        return SimpleNamespace(publish=lambda msg: speaks() and sent.append(msg))

    @property
    def events(self):
        return [msg.data for msg in self.published["trajectory_execution_event"]]

    @property
    def brakes(self):
        """The points of each brake, (time, positions, velocities)."""
        return [points_of(msg) for msg in self.published["panda_arm_controller/joint_trajectory"]]

    def stamp(self):
        return round(self.now * 1e9)

    def measure(self, q, stamp=None):
        stamp = self.stamp() if stamp is None else stamp
        return self.arm.on_joint_state(stamp, PROFILE.arm_joints, q, self.stamp())

    def move(self, velocity, seconds):
        """Let the time pass, in which the arm moves from where it is (n,) rad/s."""
        for _ in range(round(seconds / 0.01)):
            self.now += 0.01
            self.measure(self.arm.history.newest()[1] + 0.01 * velocity)

    def look(self):
        for timer in self.timers:
            timer()

    def sleep(self, seconds):
        self.now += seconds

    def tear_down(self):
        for step in reversed(self.teardowns):
            step()

    def begin(self):
        """Have a plan executed."""
        chunk = stop_chunk(HOME, ASIDE, PROFILE.limits(), least=1.0)
        self.bridge.send(Command(chunk=chunk))
        plan = trajectory_msg(PROFILE.arm_joints, chunk.points())
        first = (0.0, HOME.tolist(), [0.0] * 7)
        self.planner.planned(plan.joint_names, [first, *points_of(plan)], "")
        assert self.planner.executes


@pytest.fixture
def rig(monkeypatch):
    monkeypatch.setattr(moveit, "MoveGroup", Planner)
    monkeypatch.setattr(moveit, "Controllers", lambda *args: None)
    rig = Rig()
    monkeypatch.setattr(moveit, "time", SimpleNamespace(monotonic=lambda: rig.now, sleep=rig.sleep))
    return rig


def test_where_nobody_knows_where_the_arm_is_moveit_is_told_to_stop(rig):
    rig.begin()
    rig.now += 0.01
    command = rig.measure(HOME, stamp=rig.stamp() - 5_000_000_000)
    assert command is None and rig.arm.reason == "the clock of the joint states went back"
    rig.bridge.hold(rig.arm.reason)
    assert rig.events == ["stop"] and rig.planner.cancels == 1 and rig.brakes == []


def test_moveit_is_told_to_stop_until_it_has_ended(rig):
    rig.begin()
    rig.bridge.hold("stopped")
    assert len(rig.brakes) == 1
    for _ in range(20):  # the stop came before it begins
        rig.move(0 * ASIDE, 0.1)
        rig.look()
    assert rig.events == ["stop"] * 21 and rig.bridge.busy() == "busy: MoveIt is told to stop"
    assert len(rig.brakes) == 1  # an arm at rest is left alone
    rig.planner.executes = False
    for _ in range(2):
        rig.move(0 * ASIDE, 0.1)
        rig.look()
    assert len(rig.events) == 21 and rig.bridge.busy() == ""


def test_an_arm_that_moves_on_is_braked_from_its_motion_as_it_is_then(rig):
    rig.begin()
    rig.bridge.hold("stopped")
    rig.move(0 * ASIDE, 0.5)
    rig.look()
    rig.move(2 * ASIDE, 0.2)
    rig.look()
    first, second = rig.brakes
    assert np.allclose(first[-1][1], HOME)
    time, positions, velocities = second[-1]
    assert np.allclose(positions, HOME + 0.2 * 2 * ASIDE + 2 * ASIDE * time / 2, atol=1e-6)
    assert not np.any(velocities)
    rig.look()
    assert len(rig.brakes) == 2  # it has been told just now


@pytest.mark.parametrize("state", ["executing", "stopping"])
def test_an_arm_that_was_put_elsewhere_is_not_braked_as_if_it_had_moved_there(rig, state):
    rig.begin()
    if state == "stopping":
        rig.bridge.hold("stopped")
        rig.move(0 * ASIDE, 0.5)
        rig.look()
    brakes = len(rig.brakes)
    rig.now += 0.01
    rig.measure(HOME + 5 * ASIDE)
    if state == "executing":
        rig.bridge.hold("stopped")
    else:
        rig.look()
    assert rig.events and len(rig.brakes) == brakes


def test_a_stop_while_planning_leaves_nothing_to_wait_for(rig):
    rig.bridge.send(Command(chunk=stop_chunk(HOME, ASIDE, PROFILE.limits())))
    assert rig.bridge.busy() == "busy: MoveIt plans"
    rig.bridge.hold("stopped")
    assert rig.bridge.busy() == "" and rig.events == rig.brakes == []


@pytest.mark.parametrize("planning", [False, True])
def test_a_stop_ends_also_what_somebody_else_told_moveit(rig, planning):
    """By RViz, or a controller that has gone since."""
    if planning:
        rig.bridge.send(Command(chunk=stop_chunk(HOME, ASIDE, PROFILE.limits())))
    rig.move(2 * ASIDE, 0.1)
    rig.look()
    rig.bridge.hold("disarmed")
    assert rig.events == [] and rig.bridge.busy() == ""
    rig.bridge.stop("stopped")
    rig.move(2 * ASIDE, 0.1)
    rig.look()
    assert rig.events == ["stop"] and len(rig.brakes) == 1 and rig.bridge.busy()
    time, positions, velocities = rig.brakes[0][-1]
    assert np.allclose(positions, HOME + 0.2 * 2 * ASIDE + 2 * ASIDE * time / 2, atol=1e-6)
    for _ in range(2):
        rig.move(0 * ASIDE, 0.6)
        rig.look()
    assert rig.bridge.busy() == "" and len(rig.brakes) == 1


@pytest.mark.parametrize(("seconds", "executes"), [(1.0, False), (5.0, True)])
def test_a_plan_home_must_be_slow(rig, seconds, executes):
    rig.measure(HOME - 3 * ASIDE, rig.stamp() + 1)
    rig.move(0 * ASIDE, 0.3)
    rig.bridge.send(rig.arm.home(direct=False))
    chunk = stop_chunk(HOME - 3 * ASIDE, 6 / seconds * ASIDE, PROFILE.limits(), least=seconds)
    points = [(0.0, (HOME - 3 * ASIDE).tolist(), (6 / seconds * ASIDE).tolist())]
    points += points_of(trajectory_msg(PROFILE.arm_joints, chunk.points()))
    rig.planner.planned(PROFILE.arm_joints, points, "")
    assert rig.planner.executes == executes
    assert rig.arm.plan_problem(chunk).startswith("" if executes else "panda_joint1 at 0.60 rad/s")


def test_a_plan_that_takes_too_long_is_given_up_and_one_that_comes_late_not_executed(rig):
    chunk = stop_chunk(HOME, ASIDE, PROFILE.limits(), least=1.0)
    plan = trajectory_msg(PROFILE.arm_joints, chunk.points())
    points = [(0.0, HOME.tolist(), [0.0] * 7), *points_of(plan)]
    rig.bridge.send(Command(chunk=chunk))
    rig.now += moveit.PLAN_PATIENCE - 0.1
    rig.look()
    assert rig.bridge.busy() == "busy: MoveIt plans" and rig.planner.cancels == 0
    rig.now += 0.2
    rig.look()
    assert rig.bridge.busy() == "" and rig.planner.cancels == 1
    assert str(rig.bridge._trouble) == "MoveIt: no plan within 5 s"
    # This process stood still: the plan is the first that it sees again.
    rig.bridge.send(Command(chunk=chunk))
    rig.now += moveit.PLAN_PATIENCE + 1.0
    rig.planner.planned(plan.joint_names, points, "")
    assert not rig.planner.executes and rig.bridge.busy() == ""


def test_a_node_that_was_deactivated_insists_all_the_same(rig):
    rig.begin()
    rig.bridge.hold("the controller was deactivated")
    rig.active = False
    rig.move(0 * ASIDE, 0.5)
    rig.look()
    rig.move(2 * ASIDE, 0.1)
    rig.look()
    assert rig.events == ["stop"] * 3 and len(rig.brakes) == 2


def test_without_moveit_an_arm_that_moves_on_is_braked_until_it_rests(rig):
    rig.begin()
    rig.move(2 * ASIDE, 0.1)
    rig.look()
    rig.now += 0.2  # a stall: nobody knows where the arm is
    rig.planner.executes = False
    rig.bridge.hold("moveit_py has ended")
    rig.look()
    assert rig.events == ["stop"] and rig.brakes == []
    for brakes in (1, 2):  # the first is lost
        rig.move(2 * ASIDE, 0.5)
        rig.look()
        assert len(rig.brakes) == brakes and rig.bridge.busy()
    rig.move(0 * ASIDE, 0.5)
    rig.look()
    assert rig.bridge.busy() == "" and len(rig.brakes) == 2 and rig.events == ["stop"]


def test_an_execution_that_fails_is_watched_until_the_arm_rests(rig):
    rig.begin()
    rig.move(2 * ASIDE, 0.1)
    rig.planner.executes = False
    rig.planner.ended("ABORTED")
    assert len(rig.brakes) == 1 and "ABORTED" in rig.bridge._last
    rig.look()
    rig.move(2 * ASIDE, 1.0)
    rig.look()
    assert len(rig.brakes) == 2 and rig.bridge.busy()
    rig.look()
    rig.move(0 * ASIDE, 1.0)
    rig.look()
    assert len(rig.brakes) == 2 and rig.bridge.busy() == "" and rig.events == []


@pytest.mark.parametrize("planning", [False, True])
def test_an_execution_that_was_taken_for_lost_and_begins_is_stopped(rig, planning):
    if planning:
        rig.bridge.send(Command(chunk=stop_chunk(HOME, ASIDE, PROFILE.limits())))
    rig.planner.executes = True
    rig.look()
    assert rig.events == ["stop"] and rig.bridge.busy() == "busy: MoveIt is told to stop"
    assert rig.planner.cancels == 1


@pytest.mark.parametrize("held", [False, True])
def test_a_node_that_is_torn_down_tells_moveit_until_it_has_ended(rig, held):
    rig.begin()
    if held:
        rig.bridge.hold("the controller was deactivated")
    rig.active = False
    rig.planner.answers = [True, True, False]
    before = rig.now
    rig.tear_down()
    assert rig.events == ["stop"] * 4 and rig.now - before < 0.2


def test_a_teardown_waits_for_moveit_only_where_it_may_begin_and_not_for_ever(rig):
    before = rig.now
    rig.bridge.send(Command(chunk=stop_chunk(HOME, ASIDE, PROFILE.limits())))
    rig.tear_down()
    assert rig.now == before and rig.events == [] and rig.planner.cancels == 1
    rig.begin()
    rig.tear_down()
    assert moveit.LAST_WORDS <= rig.now - before < moveit.LAST_WORDS + 0.1
    assert len(rig.events) > moveit.LAST_WORDS / moveit.INSIST_PERIOD
