# SPDX-License-Identifier: Apache-2.0
"""The evaluation: intervals, summaries, the results table, and episodes with policies one knows."""

import json

import numpy as np
import pytest

from rt2_ros.data.split import ROBOT_NAMES
from rt2_ros.evaluation.cli import Episode, main, run_episode, summary, wilson, write_results
from rt2_ros.policies import Decision, load_policy
from rt2_ros.sim.env import TabletopEnv
from rt2_ros.sim.expert import expert
from rt2_ros.sim.tabletop import Tabletop


@pytest.mark.parametrize(
    "successes, trials, low, high",
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (60, 100, 0.5020, 0.6906), (0, 0, 0.0, 1.0)],
)
def test_wilson_intervals(successes, trials, low, high):
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_a_summary_counts_failures_by_reason():
    episodes = [
        Episode(0, "pick up the key", True, "", 10, 0),
        Episode(1, "pick up the key", False, "timeout", 40, 2),
        Episode(2, "pick up the key", False, "timeout", 40, 0),
        Episode(3, "pick up the key", False, "wrong object", 20, 0),
    ]
    figures = summary(episodes)
    assert figures["success_rate"] == 0.25
    assert figures["failures"] == {"timeout": 2, "wrong object": 1}
    assert (figures["episodes"], figures["invalid_decisions"]) == (4, 2)


def test_results_replace_the_row_of_the_same_key(tmp_path):
    path = tmp_path / "results.md"
    write_results(path, "| a | seen | 1 |", "| a | seen |")
    write_results(path, "| b | seen | 2 |", "| b | seen |")
    write_results(path, "| a | seen | 3 |", "| a | seen |")
    rows = [line for line in path.read_text().splitlines() if line.startswith(("| a", "| b"))]
    assert rows == ["| b | seen | 2 |", "| a | seen | 3 |"]


class Expert:
    """Plays the expert's bins, so that the runner's own part is what is tested."""

    name, image_size = "expert", 192

    def __init__(self, env):
        self.env = env
        self.action_space = load_policy("hold").action_space

    def infer(self, observation):
        assert observation.image.shape == (192, 192, 3)
        action = expert(self.env.tabletop.state(), self.env.task)
        bins = self.action_space.to_bins(action)
        return Decision(self.action_space.from_bins(bins), bins=bins)


class Invalid(Expert):
    def infer(self, observation):
        return Decision.invalid("nothing")


@pytest.fixture(scope="module")
def env():
    return TabletopEnv(Tabletop(names=ROBOT_NAMES), max_steps=25)


def test_the_expert_succeeds_and_an_invalid_policy_moves_nothing(env):
    played = run_episode(env, Expert(env), 3)
    assert played.success and played.invalid == 0
    before = None
    env.reset(4)
    before = env.tabletop.state().tcp.position
    held = run_episode(env, Invalid(env), 4)
    after = env.tabletop.state().tcp.position
    assert not held.success and held.reason == "never moved"
    assert held.invalid == held.steps == 25
    assert np.linalg.norm(after - before) < 0.005


def test_the_command_writes_figures_that_others_rely_on(tmp_path):
    path = tmp_path / "figures.json"
    assert main(["--policy", "hold", "--episodes", "2", "--seed", "5", "--json", str(path)]) == 0
    figures = json.loads(path.read_text())
    assert figures["success_rate"] == 0.0 and figures["episodes"] == 2
    assert {"low", "high", "failures"} <= set(figures)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--policy", "rt3"], "rt3"),
        (["--policy", "hold", "--episodes", "0"], "at least one"),
        (["--policy", "hold", "--seed", "1000000"], "test seeds"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
