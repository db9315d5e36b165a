# SPDX-License-Identifier: Apache-2.0
"""The bridge to MoveIt Servo, against a Servo that forgets nothing from the future."""

import os
import signal
import time

import numpy as np
import pytest
from rclpy.time import Time

from rt2_ros.msg import ControllerStatus

TOLERANCE = 0.008  # m, of a way of 80 mm; the machine may be busy


@pytest.fixture(scope="module", params=["twist", "pose"])
def graph(bench, request):
    """One controller for each kind of command; `bench.servo` is what it talks to."""
    (bench.servo,) = bench.begin(
        "moveit_servo", peers=[(bench.kinds.Servo,)], servo_command=request.param
    )
    yield bench
    bench.end()


@pytest.fixture
def servo(graph):
    """Servo without a worry, the arm at home, armed and with a new instruction."""
    servo = graph.servo
    servo.halts, servo.speaks, servo.code = None, True, servo.Status.NO_WARNING
    graph.until_free()
    graph.rest()
    graph.arm.place(graph.arm.profile.home)
    graph.instruct()
    servo.commands.clear()
    return servo


twist = pytest.mark.parametrize("graph", ["twist"], indirect=True)


def linear(msg):
    velocity = msg.twist.linear
    return np.array([velocity.x, velocity.y, velocity.z])


def test_the_tip_moves_by_the_delta_on_fresh_stamps_and_then_servo_hears_nothing(bench, servo):
    wanted = {"twist": servo.types.TWIST, "pose": servo.types.POSE}
    assert servo.type == wanted[bench.arm.profile.servo_command]
    step = np.array([0.0, 0.05, -0.06])
    start = bench.until_taken(step)
    end = bench.rest()
    assert np.abs(end - (start + step)).max() < TOLERANCE
    count = len(servo.commands)
    for arrived, msg in servo.commands:
        age = (arrived - Time.from_msg(msg.header.stamp).nanoseconds) * 1e-9
        assert 0 <= age < 1.0 and msg.header.frame_id == "panda_link0"
    bench.assert_still()
    assert len(servo.commands) == count > 8


@twist
def test_servos_commands_go_on_between_decisions_and_end_in_zeros(bench, servo):
    bench.until_taken((0.0, 0.06, 0.0))
    bench.rest()
    sent = [linear(msg) for _, msg in servo.commands]
    assert not np.any(sent[-4:])
    assert 0.05 < max(np.linalg.norm(velocity) for velocity in sent) <= 0.5 + 1e-6
    stamps = [Time.from_msg(msg.header.stamp).nanoseconds * 1e-9 for _, msg in servo.commands]
    assert np.all(np.diff(stamps) > 0) and len(stamps) > 8  # each has one of its own


@twist
@pytest.mark.parametrize("name", ["HALT_FOR_COLLISION", "HALT_FOR_SINGULARITY", "INVALID"])
def test_a_halt_is_a_hold_and_the_next_decision_tries_again(bench, servo, name):
    servo.halts = getattr(servo.Status, name)
    bench.until_taken((0.0, 0.06, 0.0))
    reason = bench.until(
        lambda msg: msg.state == ControllerStatus.HOLDING and name in msg.reason, name
    ).reason
    assert reason.startswith(f"MoveIt Servo: {name}: by request")
    bench.assert_still()
    assert not np.any(linear(servo.commands[-1][1]))
    servo.halts = None
    bench.until_taken((0.0, 0.04, 0.0))
    bench.until_moving()


@twist
def test_a_servo_that_falls_silent_is_a_fault_and_nothing_more_is_sent(bench, servo):
    servo.speaks = False
    bench.until_reason("no status of MoveIt Servo on", "or is paused")
    count = len(servo.commands)
    bench.until_refused((0.0, 0.06, 0.0))
    bench.assert_still()
    assert len(servo.commands) == count


@twist
def test_a_servo_that_comes_back_is_told_the_type_again(bench, servo):
    bench.peers.remove(servo)
    bench.until_reason("no status of MoveIt Servo on")
    bench.servo = servo = bench.peers.add(bench.kinds.Servo, bench.arm)
    assert servo.type is None
    bench.until_free()
    assert servo.type == servo.types.TWIST
    start = bench.until_taken((0.0, 0.04, 0.0))
    assert np.abs(bench.rest() - (start + (0.0, 0.04, 0.0))).max() < TOLERANCE


@twist
def test_a_killed_controller_leaves_an_arm_at_rest(bench, servo):
    start = bench.until_taken((0.0, 0.09, 0.0))
    bench.until_moving()
    assert bench.controller.end(signal.SIGKILL) == -signal.SIGKILL
    killed = bench.arm.tip()
    end = bench.rest()
    assert np.linalg.norm(end - killed) < 0.5 * (servo.TIMEOUT + 0.1)
    assert np.linalg.norm(end - start) < 0.09
    bench.restart("moveit_servo", bench._profile_file())
    bench.assert_still()


@twist
@pytest.mark.parametrize("longer", [0.0, 0.5])  # s than the arm needs to be at rest
def test_a_controller_that_was_frozen_does_not_go_on(bench, servo, longer):
    bench.until_taken((0.0, 0.09, 0.0))
    bench.until_moving()
    os.kill(bench.controller._process.pid, signal.SIGSTOP)
    frozen = bench.rest()
    time.sleep(longer)
    os.kill(bench.controller._process.pid, signal.SIGCONT)
    count = len(servo.commands)
    bench.until(lambda msg: msg.state == ControllerStatus.HOLDING, "the controller to hold")
    assert np.abs(bench.rest() - frozen).max() < 1e-3
    # One that was on its way into the freeze is as old as that, and Servo drops it.
    for at, msg in servo.commands[count:]:
        age = (at - Time.from_msg(msg.header.stamp).nanoseconds) * 1e-9
        assert age >= servo.TIMEOUT or not np.any(linear(msg)), (age, msg)
