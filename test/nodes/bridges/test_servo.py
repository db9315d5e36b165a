# SPDX-License-Identifier: Apache-2.0
"""What the bridge to MoveIt Servo streams, with a clock and an arm of the test's own."""

from types import SimpleNamespace

import numpy as np
import pytest
from builtin_interfaces.msg import Time

from rt2_ros.control.arm import ArmController, Command
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.trajectory import plan_chunk
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
        self.now, self.speeds, self.timers = 10.0, [], []
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
        )
        self.arm = ArmController(PROFILE, KINEMATICS, None, clock=lambda: self.now, armed=True)
        self.bridge = servo.MoveItServoBridge(node, PROFILE, None)
        self.bridge.start()
        self.bridge.attach(self.arm)
        stamp = round(self.now * 1e9)
        self.arm.on_joint_state(stamp, PROFILE.arm_joints, PROFILE.home, stamp)

    def _publish(self, msg):
        v = msg.twist.linear
        self.speeds.append(float(np.linalg.norm([v.x, v.y, v.z])))

    def run(self, seconds):
        """Let the time pass, in which Servo is well and the arm does not move."""
        for _ in range(round(seconds / servo.PERIOD)):
            self.now += servo.PERIOD
            self.bridge._take_status(SimpleNamespace(code="NO_WARNING", message=""))
            for timer in self.timers:
                timer()


@pytest.fixture
def rig(monkeypatch):
    return Rig(monkeypatch)


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
