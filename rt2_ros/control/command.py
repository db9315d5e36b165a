# SPDX-License-Identifier: Apache-2.0
"""What the controller says: the state it is in, and what is to be sent.

>>> command = arm.on_delta(delta, now_ns)
>>> command.chunk.points(), command.gripper, command.reason
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from rt2_ros.control.trajectory import Chunk


class State(IntEnum):
    """As in ControllerStatus.msg."""

    DISARMED = 0
    ARMED = 1
    MOVING = 2
    HOLDING = 3
    STOPPED = 4


@dataclass(frozen=True)
class Command:
    """What to send: `chunk` to the arm, `gripper` (position of the gripper joint) to the gripper.

    None leaves the one or the other alone. reason: why, for the log. For bridges that do more than
    pass a chunk on: brake, it only brings the arm to rest, where that is does not matter;
    joint_goal, it is the joints at its end that count, not the tip's pose there.
    """

    chunk: Chunk | None = None
    gripper: float | None = None
    reason: str = ""
    brake: bool = False
    joint_goal: bool = False
