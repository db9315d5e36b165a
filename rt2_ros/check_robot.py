# SPDX-License-Identifier: Apache-2.0
"""`rt2 check-robot`: what is missing between the robot and the policy, before anything may move.

    rt2 check-robot                         # the graph that runs: 8 s
    rt2 check-robot --namespace left --seconds 10

A line for each thing that must be so: OK, or what is missing and what to do about it. Exit status 1
if anything is. It listens and asks; it publishes nothing and commands nothing. It first waits until
nothing new has appeared for 4 s, so that what is discovered late is not called missing, and longer,
10 s at most for each, for a node that is not seen or does not answer, or a topic on which nothing
comes. What it sees is gathered in `rt2_ros.nodes.inspector`, what is made of it in
`rt2_ros.checks`.
"""

from __future__ import annotations

import argparse
from contextlib import suppress

from rt2_ros.checks import Check, checks


def show(found: list[Check]) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="rt2 check-robot")
    for column in ("what", "", "found", "to do"):
        table.add_column(column, overflow="fold")
    for check in found:
        state = Text("OK", style="green") if check.ok else Text("missing", style="bold red")
        table.add_row(Text(check.name), state, Text(check.found), Text(check.todo))
    Console(highlight=False).print(table)


def main(argv: list[str]) -> int:
    """Look at the running graph; exit status 0 if nothing is missing."""
    parser = argparse.ArgumentParser("rt2 check-robot", description=__doc__.splitlines()[0])
    parser.add_argument("--namespace", default="", help="of the graph (default: none)")
    parser.add_argument("--robot", help="profile (default: the controller's own, else panda)")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="to listen, once all is heard (default: 3)"
    )
    arguments = parser.parse_args(argv)
    if arguments.seconds < 1:
        raise ValueError(f"--seconds is {arguments.seconds}; expected at least 1")

    from rt2_ros.up import use_transport

    use_transport(network=True)
    from rt2_ros.nodes.inspector import inspect
    from rt2_ros.nodes.robot import load_robot

    facts = inspect(arguments.namespace, arguments.seconds)
    robot = facts.parameters.get("controller_node", {}).get("robot", arguments.robot or "panda")
    profile, own = load_robot(arguments.robot or robot), None
    with suppress(OSError, ValueError):  # a path on another machine, or from another folder
        own = load_robot(robot)
    found = checks(facts, profile, own)
    show(found)
    missing = sum(not check.ok for check in found)
    print(f"{missing} missing" if missing else "nothing is missing")
    return 1 if missing else 0
