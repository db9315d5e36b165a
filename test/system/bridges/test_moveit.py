# SPDX-License-Identifier: Apache-2.0
"""The bridge to MoveIt, against a move_group that does not hear a cancel while it executes."""

import threading

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_srvs.srv import Trigger

from rt2_ros.msg import ControllerStatus

STEP = np.array([0.0, 0.06, -0.05])
TOLERANCE = 0.002  # m


@pytest.fixture(scope="module")
def graph(bench):
    """One controller for all; `bench.moveit` is what it talks to."""
    (bench.moveit,) = bench.begin("moveit", peers=[(bench.kinds.MoveGroup,)])
    yield bench
    bench.end()


@pytest.fixture
def moveit(graph):
    """A move_group without a worry, the arm at home, armed and with a new instruction."""
    moveit = graph.moveit
    moveit.fails, moveit.takes, moveit.thinks = None, moveit.DURATION, 0.0
    moveit.accepts = moveit.begins = True
    graph.until_free()
    graph.rest()
    graph.arm.place(graph.arm.profile.home)
    graph.instruct()
    moveit.requests.clear()
    moveit.events.clear()
    moveit.asked = moveit.executed = 0
    return moveit


def until_executing(bench, moveit):
    bench.probe.until(lambda: moveit.executed == 1, "the plan to be executed")


def test_a_delta_is_planned_judged_and_executed_and_others_are_refused_meanwhile(bench, moveit):
    start = bench.until_taken(STEP)
    until_executing(bench, moveit)
    status = bench.until_refused((0.0, -0.05, 0.0))
    assert status.state == ControllerStatus.MOVING
    end = bench.rest()
    assert np.abs(end - (start + STEP)).max() < TOLERANCE
    bench.until(lambda msg: msg.state == ControllerStatus.HOLDING, "the goal to be over")
    assert len(moveit.requests) == moveit.executed == 1 and moveit.events == []
    request = moveit.requests[0].request
    assert request.group_name == "panda_arm" and 0 < request.max_velocity_scaling_factor < 1
    assert bench.arm.received == []  # all motion was MoveIt's
    bench.until_taken(-STEP)


def test_a_plan_that_fails_is_a_hold(bench, moveit):
    moveit.fails = moveit.codes.PLANNING_FAILED
    bench.until_taken(STEP)
    status = bench.until(lambda msg: "PLANNING_FAILED" in msg.reason, "the failure")
    assert status.state == ControllerStatus.HOLDING
    bench.assert_still()
    assert moveit.executed == 0


def test_a_plan_beyond_the_limits_is_not_executed(bench, moveit):
    moveit.takes = 0.05
    bench.until_taken(STEP)
    reason = bench.until_reason("the plan is refused: panda_joint")
    assert "at most" in reason
    bench.assert_still()
    assert moveit.executed == 0


def test_a_stop_ends_the_execution_short_of_the_goal(bench, moveit):
    moveit.takes = 6.0  # a busy machine may need seconds to hear of the stop
    start = bench.until_taken((0.0, 0.1, 0.0))
    until_executing(bench, moveit)
    bench.until_moving()
    assert bench.probe.call(Trigger, "controller_node/stop", Trigger.Request()).success
    stopped = bench.arm.tip()
    end = bench.rest()
    assert np.linalg.norm(end - stopped) < 0.01 and np.linalg.norm(end - start) < 0.09
    bench.probe.until(lambda: moveit.events, "the event")
    assert set(moveit.events) == {"stop"} and bench.arm.received
    assert not any(np.any(brake.points[-1].velocities) for brake in bench.arm.received)
    bench.assert_still()


@pytest.mark.parametrize("step", ["accepts", "begins"])
def test_a_stop_before_moveit_begins_is_not_lost(bench, moveit, step):
    moveit.takes = 6.0
    setattr(moveit, step, False)
    start = bench.until_taken((0.0, 0.1, 0.0))
    bench.probe.until(lambda: moveit.asked, "the goal to execute")
    assert bench.probe.call(Trigger, "controller_node/stop", Trigger.Request()).success
    assert moveit.executed == 0
    bench.instruct()
    status = bench.until_refused(STEP)  # armed again, it waits for MoveIt to end
    assert "MoveIt is told to stop" in status.reason
    setattr(moveit, step, True)
    until_executing(bench, moveit)
    assert np.linalg.norm(bench.rest() - start) < 0.02
    moveit.takes = moveit.DURATION
    bench.until_taken(STEP)


def change(bench, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    assert bench.probe.call(ChangeState, "controller_node/change_state", request).success


def test_a_controller_deactivated_before_moveit_begins_goes_on_telling_it(bench, moveit):
    moveit.takes, moveit.begins = 6.0, False
    start = bench.until_taken((0.0, 0.1, 0.0))
    bench.probe.until(lambda: moveit.asked, "the goal to execute")
    change(bench, Transition.TRANSITION_DEACTIVATE)
    moveit.events.clear()
    moveit.begins = True
    until_executing(bench, moveit)
    assert np.linalg.norm(bench.rest() - start) < 0.02
    assert moveit.events
    change(bench, Transition.TRANSITION_ACTIVATE)


def test_a_controller_that_ends_before_moveit_begins_tells_it_last(bench, moveit):
    moveit.takes, moveit.begins = 6.0, False
    start = bench.until_taken((0.0, 0.1, 0.0))
    bench.probe.until(lambda: moveit.asked, "the goal to execute")
    threading.Timer(1.0, setattr, (moveit, "begins", True)).start()
    assert bench.controller.end() == 0
    assert moveit.executed == 1
    assert np.linalg.norm(bench.rest() - start) < 0.02
    bench.restart("moveit", bench._profile_file())


def test_a_move_group_started_again_at_once_is_free_again(bench, moveit):
    moveit.begins = False
    bench.until_taken((0.0, 0.1, 0.0))
    bench.probe.until(lambda: moveit.asked, "the goal to execute")
    bench.peers.remove(moveit)
    bench.moveit = bench.peers.add(bench.kinds.MoveGroup, bench.arm)
    bench.until(lambda msg: msg.state == ControllerStatus.HOLDING, "the goal to be given up")
    bench.assert_still()
    bench.instruct()
    bench.until_taken(STEP)


def test_a_clock_of_joint_states_that_goes_back_ends_the_execution(bench, moveit):
    moveit.takes = 6.0
    start = bench.until_taken((0.0, 0.1, 0.0))
    until_executing(bench, moveit)
    bench.until_moving()
    bench.arm.behind = 5.0
    status = bench.until(lambda msg: "joint states went back" in msg.reason, "the jump to be seen")
    assert status.state == ControllerStatus.DISARMED
    assert np.linalg.norm(bench.rest() - start) < 0.09
    assert "stop" in moveit.events and bench.arm.received == []
    bench.arm.behind = 0.0


def test_a_stop_while_planning_moves_nothing(bench, moveit):
    moveit.thinks = 0.6
    bench.until_taken(STEP)
    bench.probe.until(lambda: moveit.requests, "the request")
    assert bench.probe.call(Trigger, "controller_node/stop", Trigger.Request()).success
    bench.assert_still(seconds=1.0)
    assert moveit.executed == 0


def test_home_is_a_goal_for_the_joints(bench, moveit):
    away = np.array(bench.arm.profile.home) + 0.2
    moveit.takes = 8.0
    bench.arm.place(away)
    bench.rest()
    reply = bench.probe.call(Trigger, "controller_node/home", Trigger.Request())
    assert reply.success, reply.message
    until_executing(bench, moveit)
    bench.until(lambda msg: msg.reason == "at home", "the arm to be home")
    bench.rest()  # what move_group calls done may be a period of the arm's before its last point
    assert np.abs(bench.arm.q - bench.arm.profile.home).max() < 1e-6
    (request,) = moveit.requests
    assert len(request.request.goal_constraints[0].joint_constraints) == 7
    assert request.request.goal_constraints[0].position_constraints == []


def test_without_move_group_nothing_moves(bench, moveit):
    bench.peers.remove(moveit)
    bench.until_reason(f"no action server /{bench.probe.namespace}/move_action")
    bench.until_refused(STEP)
    bench.assert_still()
