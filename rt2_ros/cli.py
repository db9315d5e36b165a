# SPDX-License-Identifier: Apache-2.0
"""`rt2`: one command in front of all that a person starts.

    rt2 demo                               # the arm does three things, seen and judged
    rt2 up                                 # the same graph, and it stays
    rt2 say "pick up the banana"           # from another terminal
    rt2 bench loop --seconds 20

Each command is a function, argv -> exit status, of a module that is imported only when it is
called: torch, MuJoCo and rclpy take seconds, `rt2 --help` must not.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path

RMW = "rmw_fastrtps_cpp"
# command -> module with main(argv), or its module:function, and what it is for
COMMANDS = {
    "up": ("rt2_ros.up", "start the node graph and stay"),
    "demo": ("rt2_ros.demo", "start the graph, give it three instructions, judge, film"),
    "say": ("rt2_ros.say", "give the running graph an instruction"),
    "ask": ("rt2_ros.ask", "ask the running model, or one about a picture file, a question"),
    "arm": ("rt2_ros.say:arm", "let the arm move, at the next instruction; --off: no longer"),
    "stop": ("rt2_ros.say:stop", "stop the arm until it is armed again"),
    "home": ("rt2_ros.say:home", "send the arm home, slowly"),
    "check-robot": ("rt2_ros.check_robot", "what is missing before the arm may move"),
    "bench": ("rt2_ros.bench", "measure"),
    "demos": ("rt2_ros.data.demos", "record the expert as a LeRobot dataset"),
    "train": ("rt2_ros.training.cli", "co-fine-tune a model"),
    "eval": ("rt2_ros.evaluation.cli", "measure success on simulated tables"),
    "ablation": ("rt2_ros.evaluation.ablation", "what web data is worth to a robot, measured"),
}
# What bad input raises: one line instead of a traceback.
EXPECTED = (ValueError, OSError, RuntimeError, ImportError)


def refuse_another_ros() -> None:
    """RuntimeError where an environment with a ROS of its own is used beside a sourced one, whose
    modules and libraries come before its own.
    """
    if sys.prefix == sys.base_prefix or find_spec("ros_wheels_bootstrapper") is None:
        return
    found = find_spec("rclpy")
    middleware = os.environ.get("RMW_IMPLEMENTATION") or RMW
    if found is None or not found.origin or Path(found.origin).is_relative_to(sys.prefix):
        if middleware == RMW:
            return
        what = f"RMW_IMPLEMENTATION is {middleware}; expected {RMW}, which comes with it"
    else:
        what = f"rclpy would be {found.origin}"
    raise RuntimeError(
        f"{sys.prefix} has a ROS of its own, and {what}: use a terminal where no other is sourced, "
        "or begin the command with env -u PYTHONPATH -u LD_LIBRARY_PATH -u AMENT_PREFIX_PATH "
        "-u RMW_IMPLEMENTATION"
    )


def dispatch(program: str, commands: dict[str, tuple[str, str]], argv: list[str]) -> int:
    """Call the main of the command that argv begins with; without one, show them all."""
    width = max(map(len, commands))
    lines = "\n".join(f"  {name:{width}}  {text}" for name, (_, text) in commands.items())
    parser = argparse.ArgumentParser(
        program,
        description=f"commands:\n{lines}\n\n{program} COMMAND --help tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"{program} COMMAND [OPTIONS]",
    )
    parser.add_argument("command", choices=commands, help=argparse.SUPPRESS)
    if not argv:
        parser.print_help()
        return 2
    command = parser.parse_args(argv[:1]).command
    module, _, function = commands[command][0].partition(":")
    return getattr(importlib.import_module(module), function or "main")(argv[1:]) or 0


def main(argv: list[str] | None = None) -> int:
    """Run one command; bad input ends in one line on stderr and exit status 1."""
    try:
        refuse_another_ros()
        return dispatch("rt2", COMMANDS, sys.argv[1:] if argv is None else argv)
    except EXPECTED as error:
        print(f"rt2: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
