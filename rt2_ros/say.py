# SPDX-License-Identifier: Apache-2.0
"""`rt2 say "pick up the banana"`: `ros2 topic pub --once /instruction`, and what came of it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rt2_ros.nodes.operator import Operator


def main(argv: list[str]) -> int:
    """Publish an instruction; exit status 0 if the policy has accepted it and the arm is armed."""
    parser = argparse.ArgumentParser("rt2 say", description="Tell the running graph what to do.")
    parser.add_argument("instruction", help='plain words, such as "pick up the banana"; "" stops')
    parser.add_argument("--namespace", default="", help="of the graph (default: none)")
    arguments = parser.parse_args(argv)

    from rt2_ros.up import use_transport

    use_transport(network=True)
    from rt2_ros.nodes.operator import Operator

    with Operator(arguments.namespace) as person:
        if not arguments.instruction.strip():
            return _stop(person)
        number = person.instruct(arguments.instruction)
        status, unheeded = person.policy, person.unheeded()
    if status.instruction != arguments.instruction.strip():
        print(f"instruction {number}: {status.reason}")
    elif unheeded:
        print(f"instruction {number}: not obeyed: {unheeded}; arm the arm, then say it again")
    else:
        print(f"instruction {number}: accepted")
        return 0
    return 1


def _stop(person: Operator) -> int:
    """Say "stop", and who has not confirmed it; exit status 0 if all have."""
    problem = person.stop(print)
    if not problem:
        print(f"instruction {person.policy.instruction_id}: accepted")
        return 0
    from rt2_ros.msg import ControllerStatus

    status = person.controller
    arm = "still moves" if status.state == ControllerStatus.MOVING else "does not move"
    said = f"; the controller says that the arm {arm}: {status.reason}" if status.reason else ""
    print(f"{problem}{said}")
    return 1
