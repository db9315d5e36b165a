# SPDX-License-Identifier: Apache-2.0
"""What the bridge to MoveIt Servo streams, with a clock and an arm of the test's own."""

from types import SimpleNamespace

import numpy as np
import pytest
from builtin_interfaces.msg import Time

from rt2_ros.control.arm import ArmController
from rt2_ros.control.command import Command
from rt2_ros.control.execution import HOME_SHARE
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.trajectory import plan_chunk, stop_chunk
from rt2_ros.nodes.bridges import servo
from rt2_ros.paths import config_path

PROFILE = RobotProfile.load(config_path("robots", "panda.yaml"))
KINEMATICS = PROFILE.kinematics(config_path("robots", "panda.urdf").read_text(encoding="utf-8"))


class Names:
    """A message's constants: each name is its own value."""

    TWIST, POSE = range(2)

    def __getattr__(self, name):
        return name

    def __call__(self, **fields):
        return SimpleNamespace(**fields)


class Rig:
    """The bridge, and the tip's speeds that it sends, m/s."""

    def __init__(self, monkeypatch):
        self.now, self.speeds, self.twists, self.timers = 10.0, [], [], []
        msgs = SimpleNamespace(
            ServoStatus=Names(), ServoCommandType=SimpleNamespace(Request=Names())
        )
        monkeypatch.setattr(servo, "interfaces", lambda package, kind: msgs)
        monkeypatch.setattr(servo, "Controllers", lambda *args: None)
        monkeypatch.setattr(servo, "make_gripper", lambda *args: SimpleNamespace(send=lambda q: 0))
        monkeypatch.setattr(servo, "time", SimpleNamespace(monotonic=lambda: self.now))
        clock = SimpleNamespace(now=lambda: SimpleNamespace(to_msg=Time))
        node = SimpleNamespace(
            active=True,
            publish=lambda topic: SimpleNamespace(publish=self._publish),
            subscribe=lambda topic, callback: None,
            create_client=lambda kind, name: SimpleNamespace(service_is_ready=lambda: False),
            destroy_client=None,
            at_teardown=lambda callback, *args: None,
            resolve_service_name=lambda name: name,
            resolve_topic_name=lambda name: name,
            every=lambda period, callback: self.timers.append(callback),
            get_clock=lambda: clock,
            now_ns=lambda: round(self.now * 1e9),
        )
        self.arm = ArmController(PROFILE, KINEMATICS, None, clock=lambda: self.now, armed=True)
        self.bridge = servo.MoveItServoBridge(node, PROFILE, None)
        self.bridge.start()
        self.bridge.attach(self.arm)
        self.q, self.measured = np.array(PROFILE.home), True
        self.lag, self._past = 0.0, []  # s by which joint states come late, of their own time
        self._measure()

    def _measure(self):
        self._past.append((self.now, self.q))
        told = [seen for seen in self._past if seen[0] <= self.now - self.lag + 1e-6]
        if self.measured and told:
            stamp = round(told[-1][0] * 1e9)
            self.arm.on_joint_state(stamp, PROFILE.arm_joints, told[-1][1], round(self.now * 1e9))

    def _publish(self, msg):
        v, w = msg.twist.linear, msg.twist.angular
        self.twists.append(np.array([v.x, v.y, v.z, w.x, w.y, w.z]))
        self.speeds.append(float(np.linalg.norm([v.x, v.y, v.z])))

    def run(self, seconds):
        """Let the time pass, in which Servo is well and the arm does not move."""
        for _ in range(round(seconds / servo.PERIOD)):
            self.now += servo.PERIOD
            self._measure()
            self.bridge._take_status(SimpleNamespace(code="NO_WARNING", message=""))
            for timer in self.timers:
                timer()


@pytest.fixture
def rig(monkeypatch):
    return Rig(monkeypatch)


def way(rig, seconds, away=0.3):
    """A slow chunk, as the way home is one."""
    end = np.array(PROFILE.home) + away
    return plan_chunk(PROFILE.home, np.zeros(7), end, seconds, PROFILE.limits())


def test_without_a_brake_a_hold_ends_what_is_under_way(rig):
    """Where the arm is not known, there is none: nothing may be led on blindly."""
    rig.run(0.1)
    rig.bridge.send(Command(chunk=way(rig, 3.0), joint_goal=True))
    rig.run(0.5)
    assert rig.speeds[-1] > 0.01
    begin = len(rig.speeds)
    rig.bridge.hold("no joint states")
    rig.run(0.5)
    assert rig.speeds[begin:] == [0.0] * servo.FAREWELLS


def test_a_brake_and_the_last_moments_of_a_chunk_are_followed_to_rest(rig):
    rig.run(0.1)
    chunk = way(rig, 3.0)
    rig.bridge.send(Command(chunk=chunk))
    rig.run(1.5)
    brake = stop_chunk(*chunk.sample(1.5), PROFILE.limits(), least=0.4)
    rig.bridge.send(Command(chunk=brake, brake=True))
    begin = len(rig.speeds)
    rig.bridge.hold("stopped")
    rig.run(0.5)
    speeds = rig.speeds[begin:]
    assert len(speeds) > servo.FAREWELLS and max(speeds) > 0.02
    assert speeds[-servo.FAREWELLS :] == [0.0] * servo.FAREWELLS
    rig.bridge.send(Command(chunk=way(rig, 0.4)))
    rig.run(0.1)
    rig.bridge.hold("done")
    begin = len(rig.speeds)
    rig.run(0.1)
    assert min(rig.speeds[begin:]) > 0.0


def test_the_way_home_waits_for_a_tip_that_servo_slows_down(rig):
    """A tip that made up for it would be five times as fast as home, and off the way."""
    rig.run(0.1)
    chunk = way(rig, 2.0)
    rig.bridge.send(Command(chunk=chunk, joint_goal=True))
    rig.run(3.0)  # in which the arm does not move
    most = HOME_SHARE * PROFILE.max_linear_speed
    assert 0.01 < max(rig.speeds) < most + 1e-6 and rig.speeds[-1] > 0.01
    reached = KINEMATICS.forward(chunk.sample(rig.now - rig.bridge._chunk_time)[0])
    lag = np.linalg.norm(rig.arm.pose().delta_to(reached)[0])
    assert servo.LAG <= lag < 1.3 * servo.LAG
    begin = len(rig.speeds)
    rig.bridge.hold("the arm does not move")
    rig.run(0.3)
    assert rig.speeds[begin:] == [0.0] * servo.FAREWELLS


def lowered(rig, delay, away=(0.0, 0.0)):
    """How far the tip is above its goal, 8 cm below its start, each 0.02 s, in m.

    delay: s by which it follows Servo's commands late. away: from when until when, s after the
    beginning, joint states do not come.
    """
    rig.run(0.4)
    start = KINEMATICS.forward(PROFILE.home)
    goal = start.compose_delta([0.0, 0.0, -0.08], np.zeros(3))
    end = KINEMATICS.inverse(goal, np.array(PROFILE.home))
    begin, heights = len(rig.twists), []
    rig.bridge.send(Command(chunk=plan_chunk(rig.q, np.zeros(7), end, 0.3, PROFILE.limits())))
    for step in range(60):
        late = begin + step - round(delay / servo.PERIOD)
        if begin <= late < len(rig.twists):
            turns = np.linalg.pinv(KINEMATICS.jacobian(rig.q)) @ rig.twists[late] * servo.PERIOD
            rig.q = rig.q + turns
        rig.measured = not away[0] <= step * servo.PERIOD < away[1]
        rig.run(servo.PERIOD)
        heights.append(KINEMATICS.forward(rig.q).position[2] - goal.position[2])
    return heights


@pytest.mark.parametrize("delay", [0.0, 0.04, 0.08])
def test_a_tip_that_follows_late_does_not_pass_its_goal(rig, delay):
    """Servo's commands are of a time to come: what a tip is behind by then is on its way to it."""
    heights = lowered(rig, delay)
    assert min(heights) > -0.008 and abs(heights[-1]) < 0.004


@pytest.mark.parametrize("away", [(0.1, 0.3), (0.05, 0.3), (0.1, 2.0)])
def test_a_tip_that_nobody_measures_is_not_driven_beyond_its_goal(rig, away):
    """It seems to stand still where it was seen last: that is no lag."""
    heights = lowered(rig, 0.04, away)
    assert min(heights) > -0.008 and abs(heights[-1]) < 0.008


@pytest.mark.parametrize("lag", [0.04, 0.1])
def test_joint_states_that_come_late_are_of_their_own_time(rig, lag):
    rig.lag = lag
    assert min(lowered(rig, 0.04)) > -0.008


def test_a_reading_that_jumps_draws_the_tip_nowhere(rig):
    rig.run(0.1)
    rig.bridge.send(Command(chunk=way(rig, 1.0, 0.0)))
    rig.run(0.3)
    rig.q = rig.q + np.array([0.0, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0])
    rig.run(0.1)
    assert max(rig.speeds) < 1e-6


def test_a_tip_that_lags_is_drawn_on_but_not_while_the_fingers_move(rig):
    rig.run(0.1)
    end = np.array(PROFILE.home) + 0.05
    chunk = plan_chunk(PROFILE.home, np.zeros(7), end, 0.3, PROFILE.limits())
    rig.bridge.send(Command(chunk=chunk))
    rig.run(0.4)
    assert rig.speeds[-1] > 0.05
    rig.bridge.send(Command(gripper=0.0))  # the chunk has ended: there is nothing to brake
    begin = len(rig.speeds)
    rig.run(0.4)
    assert rig.speeds[begin:] == [0.0] * servo.FAREWELLS
