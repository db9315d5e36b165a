# SPDX-License-Identifier: Apache-2.0
"""`rt2 bench NAME`: measurements that print a table and, with `--json FILE`, write the figures."""

from __future__ import annotations

from typing import Any

from rt2_ros.cli import dispatch

BENCHES = {
    "faults": ("rt2_ros.bench.faults", "what the arm does when things break"),
    "policy": ("rt2_ros.bench.policy", "a decision's time, against generate and the machine"),
    "gpu": ("rt2_ros.bench.gpu", "models of 3 and 7 billion parameters on this GPU"),
    "loop": ("rt2_ros.bench.loop", "latency, rates and load of the running graph"),
    "train": ("rt2_ros.bench.train", "training's speed against a plain Hugging Face Trainer"),
    "eval": ("rt2_ros.bench.evaluation", "the evaluation's runner against one table in a loop"),
    "control": ("rt2_ros.bench.control", "hostile deltas, and how the arm follows"),
}


def main(argv: list[str]) -> int:
    """Run one of them."""
    return dispatch("rt2 bench", BENCHES, argv)


def ms(seconds: Any) -> float:
    """Milliseconds as they are written down."""
    return round(1e3 * float(seconds), 3)


def rounded(value: Any) -> float:
    """Any other figure as it is written down."""
    return round(float(value), 2)
