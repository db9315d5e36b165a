# SPDX-License-Identifier: Apache-2.0
"""What a person tells a running graph, without a ROS of their own, and what came of it.

rt2 say "pick up the banana"           # `ros2 topic pub --once /instruction`
rt2 arm                                # `ros2 service call /controller_node/arm`, and so on
rt2 stop
rt2 home
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rt2_ros.actions import is_stop

if TYPE_CHECKING:
    from rt2_ros.nodes.operator import Operator


def main(argv: list[str]) -> int:
    """Publish an instruction; exit status 0 if the policy has accepted it and the arm is armed."""
    parser = _parser("say", "Tell the running graph what to do.")
    parser.add_argument(
        "instruction", help='plain words, such as "pick up the banana"; "" or "stop" stops'
    )
    arguments = parser.parse_args(argv)
    with _operator(arguments) as person:
        if is_stop(arguments.instruction):
            return _stop(person)
        number = person.instruct(arguments.instruction)
        status, unheeded = person.policy, person.unheeded()
    if status.instruction != arguments.instruction.strip():
        print(f"instruction {number}: {status.reason}")
    elif unheeded:
        print(f"instruction {number}: not obeyed: {unheeded}")
    else:
        print(f"instruction {number}: accepted")
        return 0
    return 1


def _stop(person: Operator) -> int:
    """Say "stop", and who has not confirmed it; exit status 0 if all have."""
    from rt2_ros.nodes.operator import SETTLE_S

    problem = person.stop(print, settle=SETTLE_S)
    if not problem:
        print(f"instruction {person.policy.instruction_id}: stopped")
        return 0
    status = person.controller
    arm = "still moves" if person.moves() else "does not move"
    said = f"; the controller says that the arm {arm}: {status.reason}" if status.reason else ""
    print(f"{problem}{said}")
    return 1


def arm(argv: list[str]) -> int:
    """Arm the arm, or disarm it; exit status 0 if that was done."""
    parser = _parser("arm", "Let the arm move, at the next instruction.")
    parser.add_argument("--off", action="store_true", help="brake, and let it move no longer")
    arguments = parser.parse_args(argv)
    from std_srvs.srv import SetBool

    return _order(arguments, "arm", SetBool, SetBool.Request(data=not arguments.off), arguments.off)


def stop(argv: list[str]) -> int:
    """Stop the arm until it is armed again; exit status 0 if it brakes, or rests."""
    return _trigger("stop", "Stop the arm until it is armed again. No emergency stop!", argv)


def home(argv: list[str]) -> int:
    """Send the arm home; exit status 0 if it goes."""
    return _trigger("home", "Send the arm home, slowly; ends the instruction.", argv)


def _trigger(service: str, description: str, argv: Sequence[str]) -> int:
    arguments = _parser(service, description).parse_args(argv)
    from std_srvs.srv import Trigger

    return _order(arguments, service, Trigger, Trigger.Request(), service == "stop")


def _order(
    arguments: argparse.Namespace, service: str, kind: Any, request: Any, at_once: bool
) -> int:
    with _operator(arguments) as person:
        done, message = person.order(service, kind, request, at_once)
    print(message)
    return 0 if done else 1


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"rt2 {command}", description=description)
    parser.add_argument("--namespace", default="", help="of the graph (default: none)")
    return parser


def _operator(arguments: argparse.Namespace) -> Operator:
    from rt2_ros.up import use_transport

    use_transport(network=True)
    from rt2_ros.nodes.operator import Operator

    return Operator(arguments.namespace)
