# SPDX-License-Identifier: Apache-2.0
"""Say what would be done, and do nothing: for the first hour with a new arm.

A line of its log: `dry run: the tip would go to (0.512, -0.034, 0.215) m in 0.30 s, the joints to
0.021 -0.334 0.005 -2.401 0.012 2.067 0.798`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rt2_ros.control.command import Command
from rt2_ros.nodes.bridges.base import Bridge


class DryRunBridge(Bridge):
    """Logs each command. It has no publisher, so that nothing can leave."""

    NOTE = "dry run: "
    OVERRIDES: ClassVar[dict[str, Any]] = {"no_progress_time": 86400.0}  # of course it makes none

    def start(self) -> None:
        """Need nothing."""
        self._commands = 0
        self._last = "nothing yet"

    def send(self, command: Command) -> None:
        """Tell the end of the motion, as a pose of the tip, and the gripper."""
        said = []
        if command.chunk is not None and self.arm is not None:
            q = command.chunk.positions[-1]
            x, y, z = self.arm.kinematics.forward(q).position
            verb = "brake" if command.brake else "go"
            said.append(
                f"the tip would {verb} to ({x:.3f}, {y:.3f}, {z:.3f}) m "
                f"in {command.chunk.duration:.2f} s, "
                f"the joints to {' '.join(f'{angle:.3f}' for angle in q)}"
            )
        if command.gripper is not None:
            said.append(f"the gripper would go to {command.gripper:.4g}")
        if said:
            self._commands += 1
            self._last = "; ".join(said)
            self.node.get_logger().info(f"{self.NOTE}{self._last}")

    def hold(self, reason: str) -> None:
        """Do nothing more: nothing moves."""

    def figures(self) -> dict[str, object]:
        """How many commands did not go out, and the last one."""
        return {"commands not sent": self._commands, "last": self._last}
