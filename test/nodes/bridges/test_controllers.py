# SPDX-License-Identifier: Apache-2.0
"""Answers of controller_manager that come late or never, with one that the test plays."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from rclpy.task import Future

from rt2_ros.control.profile import RobotProfile
from rt2_ros.nodes.bridges import controllers
from rt2_ros.nodes.bridges.controllers import PATIENCE, SPAWNING, SWITCH_TIMEOUT, Controllers
from rt2_ros.paths import config_path

PROFILE = RobotProfile.load(config_path("robots", "panda.yaml"))
ACTIVE = {PROFILE.arm_controller: "active", PROFILE.gripper_controller: "active"}
INACTIVE = ACTIVE | {PROFILE.arm_controller: "inactive"}


class Client:
    """A service's client; `asked` are its requests, with the answers that are awaited."""

    def __init__(self, kind, name):
        self.service_name, self.ready, self.asked, self.dropped = f"/{name}", True, [], []

    def service_is_ready(self):
        return self.ready

    def call_async(self, request):
        self.asked.append((request, future := Future()))
        return future

    def remove_pending_request(self, future):
        self.dropped.append(future)


class Request(SimpleNamespace):
    STRICT = 2


class Rig:
    def __init__(self, profile=PROFILE):
        self.now, self.clients = 100.0, []
        node = SimpleNamespace(
            resolve_service_name=lambda name: f"/{name}",
            count_services=lambda name: 1,
            create_client=self._create,
            destroy_client=lambda client: None,
            at_teardown=lambda callback, *args: None,
            get_logger=lambda: SimpleNamespace(info=lambda text: None, error=lambda text: None),
            every=lambda period, callback: setattr(self, "_look", callback),
        )
        self.armed = True
        self.controllers = Controllers(node, profile, lambda: self.armed)

    def begin(self):
        self._look()
        self.list, self.switch = self.clients

    def _create(self, kind, name):
        self.clients.append(Client(kind, name))
        return self.clients[-1]

    @property
    def problem(self):
        return self.controllers.problem()

    def wait(self, seconds):
        """Let so many s pass, with a look once a second."""
        for _ in range(round(seconds)):
            self.now += 1.0
            self._look()

    def answer_for(self, seconds, states):
        """Answer once a second, so many s from now on."""
        self.answer(states)
        for _ in range(round(seconds)):
            self.wait(1)
            self.answer(states)

    def answer(self, states, number=-1):
        """Answer a request for the list, the newest if none is named."""
        answer = [
            SimpleNamespace(
                name=name, state=state, required_command_interfaces=[], claimed_interfaces=[]
            )
            for name, state in states.items()
        ]
        self.list.asked[number][1].set_result(SimpleNamespace(controller=answer))


@pytest.fixture
def rig(monkeypatch):
    srv = SimpleNamespace(
        ListControllers=SimpleNamespace(Request=Request),
        SwitchController=SimpleNamespace(Request=Request),
    )
    monkeypatch.setattr(controllers, "interfaces", lambda package, kind: srv)
    rig = Rig()
    monkeypatch.setattr(controllers, "time", SimpleNamespace(monotonic=lambda: rig.now))
    rig.begin()
    return rig


def test_a_list_that_is_not_answered_is_asked_for_again(rig):
    assert rig.problem == "waiting for an answer of /controller_manager/list_controllers"
    rig.wait(PATIENCE + 1)
    assert rig.problem == "/controller_manager/list_controllers does not answer"
    assert len(rig.list.asked) == 2
    rig.answer(ACTIVE)
    assert rig.problem == ""


def test_a_controller_manager_that_falls_silent_is_a_problem(rig):
    rig.answer(ACTIVE)
    rig.wait(1)
    assert rig.problem == "" and len(rig.list.asked) == 2
    rig.wait(1)
    assert len(rig.list.asked) == 2  # one at a time
    rig.wait(PATIENCE)
    assert rig.problem == "/controller_manager/list_controllers does not answer"
    rig.wait(10)
    assert rig.problem == "/controller_manager/list_controllers does not answer"
    rig.answer(ACTIVE)
    assert rig.problem == ""


def test_a_late_answer_says_nothing(rig):
    rig.wait(PATIENCE + 1)
    rig.answer(ACTIVE, number=0)
    assert rig.problem == "/controller_manager/list_controllers does not answer"
    assert rig.list.dropped == [rig.list.asked[0][1]]
    rig.answer({})
    assert "not loaded" in rig.problem


@pytest.mark.parametrize("heard", [True, False], ids=["answer lost", "request lost"])
def test_a_switch_that_is_not_answered_is_asked_for_again_if_it_was_not_made(rig, heard):
    rig.answer_for(SPAWNING, INACTIVE)
    assert len(rig.switch.asked) == 1
    rig.wait(SWITCH_TIMEOUT + PATIENCE)
    assert rig.problem == f"controller {PROFILE.arm_controller} is inactive"
    rig.wait(1)
    assert rig.problem == "/controller_manager/switch_controller does not answer"
    rig.answer(ACTIVE if heard else INACTIVE)
    assert len(rig.switch.asked) == (1 if heard else 2)
    if not heard:
        rig.switch.asked[0][1].set_result(SimpleNamespace(ok=False, message="too late"))
        rig.switch.asked[1][1].set_result(SimpleNamespace(ok=True, message=""))
        rig.wait(1)
        rig.answer(ACTIVE)
    assert rig.problem == ""
    rig.wait(1)
    rig.answer(INACTIVE)  # a person takes it away
    assert rig.problem == f"controller {PROFILE.arm_controller} is inactive"
    assert len(rig.switch.asked) == (1 if heard else 2)


def test_what_a_spawner_is_about_to_activate_is_left_to_it(rig):
    rig.answer({})
    rig.wait(1)
    rig.answer_for(SPAWNING - 1, INACTIVE | {PROFILE.gripper_controller: "inactive"})
    rig.wait(1)
    rig.answer_for(SPAWNING - 1, INACTIVE)  # one at a time
    assert rig.problem == f"controller {PROFILE.arm_controller} is inactive"
    rig.wait(1)
    rig.answer(ACTIVE)
    assert rig.problem == "" and not rig.switch.asked


def test_nothing_is_activated_before_the_arm_is_armed(rig):
    """Somebody may lead the arm by hand meanwhile."""
    rig.armed = False
    rig.answer_for(SPAWNING + 2, INACTIVE)
    name = PROFILE.arm_controller
    assert rig.problem == f"controller {name} is inactive until ~/arm is called"
    assert not rig.switch.asked
    rig.armed = True
    rig.wait(1)
    rig.answer(INACTIVE)
    assert rig.switch.asked[0][0].activate_controllers == [name]


@pytest.mark.parametrize("known", [True, False])
def test_a_gripper_with_an_action_is_activated_where_it_is_a_controller(rig, monkeypatch, known):
    """Its action server is made then. A driver of its own is no business of controller_manager."""
    action = {"gripper_command": "gripper_command", "gripper_action": "gripper_cmd"}
    hand = Rig(replace(PROFILE, **action))
    monkeypatch.setattr(controllers, "time", SimpleNamespace(monotonic=lambda: hand.now))
    hand.begin()
    gripper = {PROFILE.gripper_controller: "inactive"} if known else {}
    hand.answer_for(SPAWNING + 1, {PROFILE.arm_controller: "active"} | gripper)
    assert [request.activate_controllers for request, _ in hand.switch.asked] == (
        [[PROFILE.gripper_controller]] if known else []
    )
    told = f"controller {PROFILE.gripper_controller} is inactive" if known else ""
    assert hand.problem == told


def test_who_is_gone_is_asked_anew_when_it_is_back(rig):
    rig.list.ready = False
    rig.wait(1)
    assert rig.problem == "/controller_manager/list_controllers is gone"
    rig.list.ready = True
    rig.wait(1)
    assert len(rig.list.asked) == 2
    rig.answer(ACTIVE, number=0)
    assert rig.problem == "/controller_manager/list_controllers is gone"
    rig.answer(ACTIVE)
    assert rig.problem == ""
