# SPDX-License-Identifier: Apache-2.0
"""`rt2 eval --ros`: episodes of a suite through the real graph, on the scenes of the suite."""

import pytest

from rt2_ros.evaluation.cli import main
from rt2_ros.evaluation.runs import RunFolder

pytest.importorskip("rclpy")


SUITE = """
cells:
  - name: bring
    task: near
    objects: [banana]
    others: [hammer]
    blocks: 2
    target: keycap 3
    flat: 1
    phrases: ["move the {object} to 3"]
"""


def test_an_episode_through_the_graph_is_the_suites_own_and_is_kept(tmp_path):
    suite = tmp_path / "mine.yaml"
    suite.write_text(SUITE)
    arguments = ["--policy", "hold", "--suite", str(suite), "--episodes", "1"]
    assert main([*arguments, "--out", str(tmp_path), "--ros"]) == 0
    run = RunFolder(tmp_path / "hold-ros")
    assert run.info.mode == "ros"
    (record,) = run.records
    assert (record.suite, record.cell, record.seed) == ("mine", "bring", 0)
    assert record.instruction == "move the banana to 3"
    assert (record.skill, record.object, record.target) == ("near", "banana", "keycap 3")
    # A policy that holds moves nothing, on the graph as in process.
    assert not record.success and record.failure == "never moved" and record.path_length < 0.01
    assert record.steps > 10 and len(record.latency_ms) == record.steps
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    (other,) = RunFolder(tmp_path / "hold").records
    assert (other.instruction, other.failure) == (record.instruction, record.failure)
