# SPDX-License-Identifier: Apache-2.0
"""The time on a message. No ROS.

`rclpy.time.Time.from_msg` raises for a negative one, and what a callback raises ends the node.
"""

from __future__ import annotations

from typing import Any


def stamp_ns(stamp: Any) -> int:
    """Return a message's stamp in ns, whatever its sender wrote: 0 or less is no time."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
