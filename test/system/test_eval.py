# SPDX-License-Identifier: Apache-2.0
"""`rt2 eval --ros`: episodes of a suite through the real graph, on the scenes of the suite."""

import os
from dataclasses import replace

import pytest

from rt2_ros.bringup import describe
from rt2_ros.evaluation import graph
from rt2_ros.evaluation.cli import digests, main
from rt2_ros.evaluation.graph import play_on_graph
from rt2_ros.evaluation.runner import PolicyFailed, episodes
from rt2_ros.evaluation.runs import RunFolder, RunInfo
from rt2_ros.evaluation.suites import load_suite
from rt2_ros.policies.hold import HoldPolicy

pytest.importorskip("rclpy")
from std_srvs.srv import Trigger  # noqa: E402

from rt2_ros.nodes.operator import Operator  # noqa: E402

SUITE = """
cells:
  - name: bring
    task: near
    objects: [banana]
    others: [hammer]
    blocks: 2
    target: keycap three
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
    assert (record.skill, record.object, record.target) == ("near", "banana", "keycap three")
    # A policy that holds moves nothing, on the graph as in process.
    assert not record.success and record.failure == "never moved" and record.path_length < 0.01
    assert record.reached is False
    assert record.steps > 10 and min(record.latency_ms) > 0
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    (other,) = RunFolder(tmp_path / "hold").records
    assert (other.instruction, other.failure) == (record.instruction, record.failure)


def test_a_policy_for_another_arm_is_refused_on_the_graph_as_well(tmp_path, capsys):
    policy = tmp_path / "other-arm.yaml"
    policy.write_text("type: hold\nframe: link_base\n")
    arguments = ["--policy", str(policy), "--episodes", "1", "--out", str(tmp_path), "--ros"]
    assert main(arguments) == 2
    assert "frame 'link_base'; expected 'panda_link0'" in capsys.readouterr().err
    assert RunFolder(tmp_path / "other-arm-ros").records == ()


def python_path(folder):
    """PYTHONPATH with that before what it has."""
    return os.pathsep.join((str(folder), *filter(None, (os.environ.get("PYTHONPATH"),))))


def test_a_policy_that_raises_ends_the_run_and_no_episode_is_booked(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "from rt2_ros.policies.hold import HoldPolicy\n"
        "HoldPolicy.infer = lambda self, observation: 1 / 0\n"
    )
    whole = describe(policy="hold")
    path = python_path(tmp_path)
    broken = tuple(
        replace(node, environment={**node.environment, "PYTHONPATH": path})
        if node.name == "policy_node"
        else node
        for node in whole.robot
    )
    suites = [load_suite("seen")]
    info = RunInfo.here("hold", {}, digests(suites), 2, 0, mode="ros")
    with RunFolder.create(tmp_path / "run", info) as run:
        with pytest.raises(PolicyFailed, match="policy hold: .*ZeroDivisionError"):
            play_on_graph(
                episodes(suites, 2, 0), replace(whole, robot=broken), "hold", run,
                log=tmp_path / "nodes.log",
            )  # fmt: skip
        assert run.records == ()


DOWN = """
from dataclasses import replace
import numpy as np
from rt2_ros.policies.hold import HoldPolicy
still = HoldPolicy.infer
def down(self, observation):
    decision = still(self, observation)
    if decision.action is None:
        return decision
    action = replace(decision.action, translation=np.array([0.0, 0.0, -0.1]), gripper=0.0)
    return replace(decision, action=action, bins=self.action_space.to_bins(action))
HoldPolicy.infer = down
"""


def test_a_policy_that_runs_into_limits_fails_by_them_on_the_graph_as_well(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(DOWN)
    monkeypatch.setenv("PYTHONPATH", python_path(tmp_path))
    monkeypatch.setattr(HoldPolicy, "infer", HoldPolicy.infer)  # put back at the end
    exec(DOWN, {})
    arguments = ["--policy", "hold", "--episodes", "1", "--out", str(tmp_path)]
    for mode, folder in ((["--ros"], "hold-ros"), ([], "hold")):
        assert main([*arguments, *mode]) == 0
        (record,) = RunFolder(tmp_path / folder).records
        assert record.failure == "limit hit", folder


def test_an_episode_that_cannot_be_begun_is_recorded_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "SEEN_S", 0.0)
    arguments = ["--policy", "hold", "--episodes", "2", "--out", str(tmp_path), "--ros"]
    assert main(arguments) == 0
    run = RunFolder(tmp_path / "hold-ros")
    assert [record.failure for record in run.records] == ["crashed"] * 2 and not run.done()
    assert "waited 0 s for camera and controller to see the new table" in run.records[0].error


def test_an_episode_whose_table_is_laid_anew_is_not_judged(tmp_path, monkeypatch):
    """As the simulator itself does where physics becomes unstable."""
    instruct = Operator.instruct

    def meddle(person, text, *rest):
        number = instruct(person, text, *rest)
        if text:
            client = person.node.create_client(Trigger, "simulator_node/reset")
            person.until(client.service_is_ready, 10.0, "the simulator")
            client.call_async(Trigger.Request())
        return number

    monkeypatch.setattr(Operator, "instruct", meddle)
    arguments = ["--policy", "hold", "--episodes", "1", "--out", str(tmp_path), "--ros"]
    assert main(arguments) == 0
    (record,) = RunFolder(tmp_path / "hold-ros").records
    assert record.failure == "crashed" and "the table was laid anew" in record.error
