# SPDX-License-Identifier: Apache-2.0
"""Are the controllers there that we send commands to? Asked of controller_manager, where it runs.

    controllers = Controllers(node, profile, armed=lambda: True)
    controllers.problem()   # "controller panda_arm_controller is inactive", "" if all is well

What is inactive for some seconds, so that no spawner is at it, is activated (strictly: all or
nothing), once, and not before a person has armed the arm: drives that hold it, or a hand that leads
it, are none of ours until then. After that, controllers are a person's to switch, and one that has
gone is named. An answer can be lost, above all while two nodes
are discovering each other: where none comes, nothing may move, and it is asked for again. A robot
without controller_manager (a driver of its own) is taken as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.duration import Duration
from rclpy.task import Future

from rt2_ros.control.profile import RobotProfile
from rt2_ros.nodes.base import BaseNode, one_line
from rt2_ros.nodes.bridges.base import interfaces

LOOK_PERIOD = 1.0  # s
SPAWNING = 3.0  # s in which a spawner that has configured a controller activates it
PATIENCE = 2.0  # s for an answer, beyond the time that what is asked for takes
SWITCH_TIMEOUT = 5.0  # s that controller_manager is given to activate
LIST, SWITCH = "controller_manager/list_controllers", "controller_manager/switch_controller"


class Controllers:
    """Looks once a second; every call is asynchronous, so that nothing waits for it."""

    def __init__(self, node: BaseNode, profile: RobotProfile, armed: Callable[[], bool]) -> None:
        self._node, self._armed = node, armed
        # Controllers and the joints they must command, none where that is not known.
        self._wanted = {profile.arm_controller: profile.arm_joints}
        # A gripper with an action may be a driver of its own, unknown to controller_manager: then
        # the action's server is what counts. A controller's is made when that is activated.
        self._optional = ""
        if profile.gripper_command == "trajectory":
            self._wanted[profile.gripper_controller] = (profile.gripper_joint,)
        elif profile.gripper_command != "none":
            self._optional = profile.gripper_controller
            self._wanted[self._optional] = ()
        self._problem, self._seen = "", "no controller_manager"
        self._asked: tuple[Any, Future] | None = None  # the client, and the answer that is awaited
        self._due = 0.0  # when it is awaited no longer, on the steady clock
        self._may_switch, self._refusal = True, ""
        self._inactive: list[str] = []  # and since when
        self._since = 0.0
        self._srv: Any = None
        self._list: Any = None
        self._switch: Any = None
        node.every(LOOK_PERIOD, self._look)

    def problem(self) -> str:
        """Say which controller is missing, inactive or not of our joints; empty if none."""
        return self._problem

    def figures(self) -> dict[str, object]:
        """What controller_manager said last."""
        return {"controllers": self._seen}

    def _look(self) -> None:
        if self._list is None and not self._connect():
            return
        if not self._list.service_is_ready():
            self._problem = f"{self._list.service_name} is gone"
            self._give_up()
            return
        if self._asked is not None:
            if time.monotonic() <= self._due:
                return
            self._problem = f"{self._asked[0].service_name} does not answer"
            self._give_up()
        self._ask(self._list, self._srv.ListControllers.Request(), PATIENCE, self._take)

    def _ask(self, client: Any, request: Any, seconds: float, take: Callable[[Any], None]) -> None:
        """Call a service; `take` is called with its answer if that comes within some seconds."""

        def answered(future: Future) -> None:
            if self._asked is not None and future is self._asked[1]:
                self._asked = None
                take(future.result())

        future = client.call_async(request)
        self._asked, self._due = (client, future), time.monotonic() + seconds
        future.add_done_callback(answered)

    def _give_up(self) -> None:
        """Wait no longer. What is answered all the same was so then, and may not be so now."""
        if self._asked is None:
            return
        client, future = self._asked
        self._asked = None
        client.remove_pending_request(future)
        if client is self._switch:
            self._may_switch = True  # as far as we know it was never asked to

    def _connect(self) -> bool:
        """Make the clients once there is a controller_manager; until it has answered, nothing
        moves.
        """
        node = self._node
        name = node.resolve_service_name(LIST)
        if not node.count_services(name):
            return False
        try:
            self._srv = interfaces("controller_manager_msgs", "srv")
        except ImportError as error:
            self._problem = f"{name} is there, but {one_line(error)}"
            return False
        self._problem = f"waiting for an answer of {name}"
        self._list = node.create_client(self._srv.ListControllers, LIST)
        self._switch = node.create_client(self._srv.SwitchController, SWITCH)
        for client in (self._list, self._switch):
            node.at_teardown(node.destroy_client, client)
        return self._list.service_is_ready()

    def _take(self, answer: Any) -> None:
        states = answer.controller
        found = {state.name: state for state in states}
        self._seen = ", ".join(f"{s.name} {s.state}" for s in states) or "none loaded"
        problems, inactive = [], []
        for name, joints in self._wanted.items():
            state = found.get(name)
            if state is None and name == self._optional:
                continue
            if state is None:
                problems.append(f"controller {name} is not loaded; there are: {self._seen}")
                continue
            interfaces_of = state.required_command_interfaces or state.claimed_interfaces
            commanded = {interface.rpartition("/")[0] for interface in interfaces_of}
            if joints and commanded and commanded != set(joints):
                problems.append(
                    f"controller {name} commands {', '.join(sorted(commanded))}; "
                    f"expected {', '.join(joints)}"
                )
            elif state.state != "active":
                waits = state.state == "inactive" and self._may_switch and not self._armed()
                until = " until ~/arm is called" if waits else self._refusal
                problems.append(f"controller {name} is {state.state}{until}")
                if state.state == "inactive":
                    inactive.append(name)
        self._problem = "; ".join(problems)
        if not problems:
            self._refusal = ""
        now = time.monotonic()
        if inactive != self._inactive:
            self._inactive, self._since = inactive, now
        if inactive and now - self._since < SPAWNING:
            return
        if self._may_switch and self._armed() and len(inactive) == len(problems):
            self._may_switch = False
            if inactive:
                self._activate(inactive)

    def _activate(self, names: list[str]) -> None:
        kind = self._srv.SwitchController.Request
        request = kind(activate_controllers=names, strictness=kind.STRICT, activate_asap=True)
        request.timeout = Duration(seconds=SWITCH_TIMEOUT).to_msg()
        self._node.get_logger().info(f"activating {', '.join(names)}")

        def switched(answer: Any) -> None:
            if not answer.ok:
                self._refusal = f" and cannot be activated: {answer.message}"
                self._node.get_logger().error(f"{', '.join(names)}: {self._refusal.strip()}")

        self._ask(self._switch, request, SWITCH_TIMEOUT + PATIENCE, switched)
