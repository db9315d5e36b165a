# SPDX-License-Identifier: Apache-2.0
"""A live graph as it was seen: plain data that `nodes.inspector` fills in and `checks` judges.

Stream("/scene/image_raw", "sensor_msgs/msg/Image", arrivals=[0.0, 0.1, 0.2]).rate    # 10 Hz
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Endpoint:
    """One publisher or reader of a topic: full name of its node, message type, QoS."""

    node: str
    type: str
    latched: bool = False


@dataclass
class Stream:
    """What came on one topic: `arrivals` on a steady clock and `ages` from stamp to arrival, in s.

    latched: we read it transient local, so that a volatile publisher is never heard. problem: the
    newest reason why a message was no use. parts: of joint states, the same by the joints that a
    message names, as arm and gripper may tell theirs apart.
    """

    topic: str
    type: str
    latched: bool = False
    publishers: list[Endpoint] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    problem: str = ""
    newest: Any = None
    parts: dict[tuple[str, ...], Stream] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Messages a second, Hz."""
        if len(self.arrivals) < 2:
            return 0.0
        return (len(self.arrivals) - 1) / max(self.arrivals[-1] - self.arrivals[0], 1e-9)


@dataclass
class Facts:
    """A graph as it was seen. Names of nodes and topics are full; `parameters` are of our nodes."""

    namespace: str
    nodes: Counter[str]
    parameters: dict[str, dict[str, Any]]
    cameras: dict[str, Stream]
    joint_states: Stream
    description: Stream
    observation: Stream
    policy: Stream
    controller: Stream
    clock: Stream
    endpoints: dict[str, tuple[list[Endpoint], list[Endpoint]]]  # topic -> publishers, readers
    services: set[str]
    diagnostics: dict[str, tuple[int, str, dict[str, str]]]  # our node -> level, message, figures

    def full(self, name: str) -> str:
        """Return a relative name in this graph's namespace."""
        return f"{self.namespace}/{name}"
