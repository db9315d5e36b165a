# SPDX-License-Identifier: Apache-2.0
"""`rt2 check-robot` on live graphs: what is there is found, what is not is named, nothing moves."""

import re

import numpy as np
import pytest

from rt2_ros import check_robot
from rt2_ros.msg import ControllerStatus
from rt2_ros.nodes import topics
from rt2_ros.paths import config_path

ARM = topics.joint_trajectory("panda_arm_controller")


@pytest.fixture(scope="module")
def graph(start, probe):
    """The whole graph, disarmed, as on a real arm."""
    probe.keep(topics.JOINT_STATES, topics.CONTROLLER_STATUS, topics.OBSERVATION)
    for node in ("simulator_node", "camera_node", "controller_node"):
        setattr(probe, node, start(node))
    start("policy_node", policy="hold")
    probe.more(topics.OBSERVATION)
    probe.more(topics.JOINT_STATES)  # others may hear of the arm first
    probe.until(
        lambda: (msg := probe.last(topics.CONTROLLER_STATUS)) and msg.end_effector_pose.position.x,
        "a controller that knows where the arm is",
    )
    return probe


def run(namespace, capsys, monkeypatch, seconds="1.5", given=()):
    """Return the exit status and the rows of the table, by what they are about."""
    monkeypatch.setenv("COLUMNS", "300")
    status = check_robot.main(["--namespace", namespace, "--seconds", seconds, *given])
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "│" in line]
    return status, {name.strip(): [cell.strip() for cell in rest] for name, *rest in rows}


def test_a_whole_graph_lacks_nothing_and_looking_moves_nothing(graph, capsys, monkeypatch):
    before = graph.arm_positions()
    status, rows = run(graph.namespace, capsys, monkeypatch)
    assert status == 0, rows
    assert {row[0] for row in rows.values()} == {"OK"}
    assert rows["controller"][1] == "disarmed"
    assert rows["policy"][1] == "hold is loaded"
    assert rows["camera scene"][1].startswith("640x480 rgb8 at ")
    assert rows[f"/{graph.namespace}/{ARM.name}"][1] == f"read by /{graph.namespace}/simulator_node"
    graph.more(topics.JOINT_STATES, 20)
    assert np.abs(graph.arm_positions() - before).max() < 1e-3
    assert graph.last(topics.CONTROLLER_STATUS).state == ControllerStatus.DISARMED


def test_a_stranger_who_speaks_to_the_controller_is_named(graph, capsys, monkeypatch):
    stranger = graph.node.create_publisher(*topics.END_EFFECTOR_DELTA)
    try:
        graph.until(lambda: stranger.get_subscription_count(), "the controller")
        status, rows = run(graph.namespace, capsys, monkeypatch)
    finally:
        graph.node.destroy_publisher(stranger)
    assert status == 1
    state, found, todo = rows["end_effector_delta"]
    assert (state, found) == ("missing", f"also published by /{graph.namespace}/probe")
    assert todo == "end it: only policy_node may say how the arm moves"
    missing = [name for name, row in rows.items() if row[0] != "OK"]
    assert missing == ["node controller_node", "end_effector_delta"]


def test_a_profile_that_is_not_the_one_that_runs_is_told(graph, capsys, monkeypatch, tmp_path):
    """Nobody shall think that the first motion has the limits of a file that was not read."""
    text = config_path("robots", "panda.yaml").read_text(encoding="utf-8")
    slower, count = re.subn(r"(?m)^max_linear_speed: [0-9.]+", "max_linear_speed: 0.05", text)
    assert count == 1
    (tmp_path / "mine.yaml").write_text(slower, encoding="utf-8")
    given = ["--robot", str(tmp_path / "mine.yaml")]
    status, rows = run(graph.namespace, capsys, monkeypatch, given=given)
    assert status == 1
    (told,) = (row for row in rows.values() if row[0] != "OK")
    assert "start the graph with the profile that you check" in told[2]


def test_without_an_arm_every_missing_thing_is_named(graph, capsys, monkeypatch):
    assert graph.simulator_node.end() == 0
    status, rows = run(graph.namespace, capsys, monkeypatch)
    assert status == 1
    missing = {name for name, row in rows.items() if row[0] != "OK"}
    arm = f"/{graph.namespace}/{ARM.name}"
    assert {"joint states", "camera scene", "observation", "robot_description", arm} <= missing
    assert "start the arm's driver" in rows["joint states"][2]
    assert rows[arm][1] == "nobody reads it"
    assert {"policy", "node policy_node", "end_effector_delta"}.isdisjoint(missing)
