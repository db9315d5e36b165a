# SPDX-License-Identifier: Apache-2.0
"""Whether move_group may still move the arm, as far as its answers tell; the test gives them."""

from types import SimpleNamespace

import pytest
from rclpy.task import Future

from rt2_ros.nodes.bridges import move_group


class Codes:
    SUCCESS, PREEMPTED = 1, -7


class Client:
    """The client of an action."""

    def __init__(self, node, kind, name):
        self.name, self.ready, self.answer = name, True, None

    def server_is_ready(self):
        return self.ready

    def send_goal_async(self, goal):
        self.answer = Future()
        return self.answer

    def destroy(self):
        pass


class Handle:
    """A goal that was accepted, or not."""

    def __init__(self, accepted=True):
        self.accepted, self.cancels, self.result = accepted, 0, Future()

    def get_result_async(self):
        return self.result

    def cancel_goal_async(self):
        self.cancels += 1

    def end(self, code):
        error_code = SimpleNamespace(val=code, message="")
        self.result.set_result(SimpleNamespace(result=SimpleNamespace(error_code=error_code)))


@pytest.fixture
def planner(monkeypatch):
    """With `client`, its action to execute; `ended`, what it has said; and `look`."""
    kind = SimpleNamespace(Goal=SimpleNamespace)
    msgs = SimpleNamespace(MoveGroup=kind, ExecuteTrajectory=kind, MoveItErrorCodes=Codes)
    monkeypatch.setattr(move_group, "interfaces", lambda package, kind: msgs)
    monkeypatch.setattr(move_group, "ActionClient", Client)
    looks, ended = [], []
    node = SimpleNamespace(
        at_teardown=lambda callback: None,
        resolve_service_name=lambda name: f"/{name}",
        every=lambda period, callback: looks.append(callback),
    )
    planner = move_group.MoveGroup(node, None, None, ended.append)
    planner.client, planner.ended = planner._clients[move_group.EXECUTE], ended
    (planner.look,) = looks
    return planner


@pytest.mark.parametrize("given_up", [False, True])
@pytest.mark.parametrize("code", [Codes.SUCCESS, Codes.PREEMPTED])
def test_an_execution_goes_on_until_its_result(planner, given_up, code):
    assert not planner.executing()
    planner.execute()
    handle = Handle()
    planner.client.answer.set_result(handle)
    if given_up:
        planner.cancel()
        assert handle.cancels == 1
    planner.look()
    assert planner.executing() and planner.ended == []
    handle.end(code)
    assert not planner.executing()
    said = "" if code == Codes.SUCCESS else "/execute_trajectory: PREEMPTED"
    assert planner.ended == ([] if given_up else [said])


@pytest.mark.parametrize("accepted", [True, False])
def test_one_that_is_given_up_before_it_is_accepted_may_still_begin(planner, accepted):
    planner.execute()
    planner.cancel()
    assert planner.executing()
    handle = Handle(accepted)
    planner.client.answer.set_result(handle)
    assert planner.executing() == accepted and handle.cancels == accepted
    if accepted:
        handle.end(Codes.PREEMPTED)
    assert not planner.executing() and planner.ended == []


def test_nothing_is_awaited_from_a_server_that_is_gone(planner):
    planner.execute()
    planner.cancel()
    first = planner.client.answer
    planner.client.ready = False
    planner.look()
    assert not planner.executing()
    planner.execute()  # it is back
    first.set_result(Handle(accepted=False))
    assert planner.executing()
