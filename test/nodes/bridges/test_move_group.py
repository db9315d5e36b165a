# SPDX-License-Identifier: Apache-2.0
"""Whether move_group may still move the arm, as far as its answers tell; the test gives them."""

from types import SimpleNamespace

import pytest
from action_msgs.msg import GoalStatus
from rclpy.action.client import ClientGoalHandle
from rclpy.task import Future

from rt2_ros.nodes.bridges import move_group

UNKNOWN = "/execute_trajectory does not know the goal"


class Codes:
    SUCCESS, PREEMPTED = 1, -7


class Client:
    """The client of an action; `asked` are the requests for results that are to be answered."""

    def __init__(self, node, kind, name):
        self.ready, self.asked, self.cancels = True, [], 0

    def server_is_ready(self):
        return self.ready

    def send_goal_async(self, goal, goal_uuid):
        self.uuid, self.answer = goal_uuid, Future()
        return self.answer

    def _get_result_async(self, handle):
        assert handle.goal_id == self.uuid
        self.asked.append(Future())
        return self.asked[-1]

    def _cancel_goal_async(self, handle):
        assert handle.goal_id == self.uuid
        self.cancels += 1

    def destroy(self):
        pass

    def accept(self, accepted=True):
        response = SimpleNamespace(accepted=accepted)
        self.answer.set_result(ClientGoalHandle(self, self.uuid, response))

    def end(self, code=0, status=GoalStatus.STATUS_SUCCEEDED):
        """Answer all who have asked, as a server does."""
        result = SimpleNamespace(error_code=SimpleNamespace(val=code, message=""))
        asked, self.asked = self.asked, []
        for future in asked:
            future.set_result(SimpleNamespace(status=status, result=result))

    def deny(self):
        """Say that the goal is not known."""
        self.end(status=GoalStatus.STATUS_UNKNOWN)


class Rig:
    """`client`, the action to execute; `ended`, what the planner has said."""

    def __init__(self, monkeypatch):
        kind = SimpleNamespace(Goal=SimpleNamespace)
        msgs = SimpleNamespace(MoveGroup=kind, ExecuteTrajectory=kind, MoveItErrorCodes=Codes)
        monkeypatch.setattr(move_group, "interfaces", lambda package, kind: msgs)
        monkeypatch.setattr(move_group, "ActionClient", Client)
        monkeypatch.setattr(move_group, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.now, self.ended, looks = 100.0, [], []
        node = SimpleNamespace(
            at_teardown=lambda callback: None,
            resolve_service_name=lambda name: f"/{name}",
            every=lambda period, callback: looks.append(callback),
        )
        self.planner = move_group.MoveGroup(node, None, None, self.ended.append)
        self.client = self.planner._clients[move_group.EXECUTE]
        (self._look,) = looks
        self._look()

    def wait(self, seconds):
        """Let the time pass."""
        for _ in range(round(seconds / move_group.POLL_PERIOD)):
            self.now += move_group.POLL_PERIOD
            self._look()


@pytest.fixture
def rig(monkeypatch):
    return Rig(monkeypatch)


@pytest.mark.parametrize("given_up", [False, True])
@pytest.mark.parametrize("code", [Codes.SUCCESS, Codes.PREEMPTED])
def test_an_execution_goes_on_until_its_result(rig, given_up, code):
    planner, client = rig.planner, rig.client
    assert not planner.executing()
    planner.execute()
    client.accept()
    if given_up:
        planner.cancel()
    rig.wait(1.0)
    assert planner.executing() and rig.ended == [] and client.cancels == given_up
    client.end(code)
    assert not planner.executing()
    said = "" if code == Codes.SUCCESS else "/execute_trajectory: PREEMPTED"
    assert rig.ended == ([] if given_up else [said])


@pytest.mark.parametrize("accepted", [True, False])
def test_one_that_is_given_up_before_it_is_accepted_may_still_begin(rig, accepted):
    planner, client = rig.planner, rig.client
    planner.execute()
    planner.cancel()
    assert planner.executing() and client.cancels == 1
    client.accept(accepted)
    assert planner.executing() == accepted and client.cancels == 1 + accepted
    client.end(Codes.PREEMPTED)
    assert not planner.executing() and rig.ended == []


@pytest.mark.parametrize("given_up", [False, True])
def test_a_result_that_is_lost_is_asked_for_again(rig, given_up):
    rig.planner.execute()
    rig.client.accept()
    rig.client.asked.clear()
    if given_up:
        rig.planner.cancel()
    rig.wait(move_group.ASK_AGAIN + 0.5)
    assert rig.planner.executing() and len(rig.client.asked) == 1
    assert rig.client.cancels == 2 * given_up
    rig.client.end(Codes.SUCCESS)
    assert not rig.planner.executing() and rig.ended == ([] if given_up else [""])
    rig.wait(10.0)
    assert rig.client.asked == []


def test_of_two_results_the_first_counts(rig):
    rig.planner.execute()
    rig.client.accept()
    rig.wait(move_group.ASK_AGAIN + 0.5)
    assert len(rig.client.asked) == 2
    rig.client.end(Codes.SUCCESS)
    assert rig.ended == [""]


def test_a_goal_that_was_accepted_and_is_not_known_any_more_has_failed(rig):
    rig.planner.execute()
    rig.client.accept()
    rig.wait(move_group.ASK_AGAIN + 0.5)
    rig.client.deny()
    assert not rig.planner.executing() and rig.ended == [UNKNOWN]


def test_a_goal_that_was_not_accepted_may_be_on_its_way_for_a_while(rig):
    rig.planner.execute()
    for _ in range(2):
        rig.wait(move_group.ASK_AGAIN + 0.5)
        rig.client.deny()
        assert rig.planner.executing() and rig.ended == []
    rig.wait(move_group.LATE)
    rig.client.deny()
    assert not rig.planner.executing() and rig.ended == [UNKNOWN]


def test_a_goal_that_is_accepted_after_all_is_one_that_executes(rig):
    rig.planner.execute()
    for _ in range(2):
        rig.wait(move_group.ASK_AGAIN + move_group.LATE)
        rig.client.deny()
    assert not rig.planner.executing() and rig.ended == [UNKNOWN]
    rig.client.accept()
    assert rig.planner.executing() and rig.client.cancels == 1
    rig.client.end(Codes.PREEMPTED)
    assert not rig.planner.executing() and rig.ended == [UNKNOWN]


def test_what_a_server_did_not_know_before_it_accepted_says_nothing(rig):
    rig.planner.execute()
    rig.wait(move_group.ASK_AGAIN + 0.5)
    rig.client.deny()
    rig.wait(move_group.ASK_AGAIN + 0.5)
    before, rig.client.asked = rig.client.asked, []
    rig.client.accept()
    after, rig.client.asked = rig.client.asked, before
    rig.now += 2 * move_group.LATE
    rig.client.deny()
    assert len(before) == len(after) == 1 and rig.planner.executing() and rig.ended == []


def test_nothing_is_awaited_from_a_server_that_is_gone_until_it_is_back(rig):
    rig.planner.execute()
    rig.client.accept()
    rig.planner.cancel()
    rig.client.ready = False
    rig.wait(0.5)
    assert rig.planner.executing()  # it may have been overlooked
    rig.wait(10.0)
    assert not rig.planner.executing() and "no action server" in rig.planner.problem()
    rig.client.ready = True
    rig.wait(0.5)
    assert rig.planner.executing()
    rig.client.deny()
    assert not rig.planner.executing() and rig.planner.problem() == "" and rig.ended == []


def test_a_server_that_does_not_end_what_was_given_up_is_named(rig):
    rig.planner.execute()
    rig.client.accept()
    rig.wait(20.0)
    assert rig.planner.problem() == ""
    rig.planner.cancel()
    rig.wait(9.0)
    assert rig.planner.problem() == ""
    rig.wait(2.0)
    assert rig.planner.problem() == "MoveIt has not ended for 10 s: restart move_group"
    rig.client.end(Codes.PREEMPTED)
    assert rig.planner.problem() == ""
