# SPDX-License-Identifier: Apache-2.0
"""Whether a graph is the only one: two that share names would both move the arm.

    alone = Alone(node, context)
    alone.refuse_second(graph, spin)   # before starting it
    alone.refuse_more_than(1, graph)   # now and then afterwards
    alone.close()

On one machine a lock tells; elsewhere it is a matter of discovery.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rclpy.context import Context
from rclpy.node import Node

from rt2_ros.bringup import Graph
from rt2_ros.nodes.topics import CLOCK

DISCOVERY_S = 1.0  # within which a graph that runs already is seen


class Alone:
    """What one node sees of others; on this machine a lock tells more, and at once."""

    def __init__(self, node: Node, context: Context) -> None:
        self._node, self._context = node, context
        self._lock: int | None = None

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)

    def running(self) -> Counter[str]:
        """How many nodes of each full name are seen now."""
        found = self._node.get_node_names_and_namespaces()
        return Counter(f"{namespace.rstrip('/')}/{name}" for name, namespace in found)

    def refuse_second(self, graph: Graph, spin: Callable[[float], None]) -> None:
        """RuntimeError if this graph runs already; call it before starting one.

        On this machine a lock tells at once, until this is closed; elsewhere it is a matter of
        discovery, for which `spin` receives for some seconds.
        """
        self._lock = self._take_lock()
        end = time.monotonic() + DISCOVERY_S
        while time.monotonic() < end:
            spin(0.05)
            self.refuse_more_than(0, graph)

    def refuse_more_than(self, own: int, graph: Graph) -> None:
        """RuntimeError if more nodes of a name of the graph are seen than one's own, or another's
        simulated clock: to either's nodes time would jump.
        """
        seen = self.running()
        clocks = sum(bool(node.parameters.get("publish_clock")) for node in graph.simulation)
        if clocks and self._node.count_publishers(CLOCK.name) > own * clocks:
            raise RuntimeError(
                f"busy: {CLOCK.name} is published already, and is one for all of ROS domain "
                f"{self._context.get_domain_id()}: end that simulation, take another "
                "ROS_DOMAIN_ID, or do without --use-sim-time"
            )
        busy = sorted({node.full_name for node in graph.nodes if seen[node.full_name] > own})
        if busy:
            raise RuntimeError(
                f"busy: ROS domain {self._context.get_domain_id()} has {', '.join(busy)} already; "
                "end that graph (one that was killed is seen for 20 s more), or take another "
                "--namespace or ROS_DOMAIN_ID"
            )

    def _take_lock(self) -> int:
        """Lock a file for as long as this process lives, or until it is closed; return it."""
        domain, namespace = self._context.get_domain_id(), self._node.get_namespace()
        name = f"rt2_ros-{os.getuid()}-{domain}{namespace.rstrip('/').replace('/', '.')}.lock"
        lock = os.open(Path(tempfile.gettempdir(), name), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise RuntimeError(
                f"busy: ROS domain {domain} has {namespace.rstrip('/')}/ already, of another `rt2` "
                "on this machine; end that one, or take another --namespace or ROS_DOMAIN_ID"
            ) from None
        return lock
