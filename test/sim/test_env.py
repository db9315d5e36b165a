# SPDX-License-Identifier: Apache-2.0
"""Episodes through the action space, the controller and physics."""

import numpy as np
import pytest

from rt2_ros.actions import Action, ActionSpace
from rt2_ros.sim.env import TabletopEnv
from rt2_ros.sim.expert import expert

SPACE = ActionSpace(
    "test", (0, -0.1, -0.1, -0.1, -0.25, -0.25, -0.25, 0), (1, 0.1, 0.1, 0.1, 0.25, 0.25, 0.25, 1),
    frame="panda_link0",
)  # fmt: skip
STILL = Action(False, np.zeros(3), np.zeros(3), 0.0)


@pytest.fixture
def env(shared_tabletop):
    return TabletopEnv(shared_tabletop, render=False)


def played(env, seed, decide):
    """The verdict on an episode in which these decisions are taken."""
    observation, done = env.reset(seed), False
    while not done:
        observation, done = env.step(decide(observation))
    return env.verdict()


def expert_verdicts(env, seeds):
    """The expert's, its actions cut into the space's bins."""

    def decide(observation):
        return SPACE.from_bins(SPACE.to_bins(expert(observation.truth, env.task)))

    return [played(env, seed, decide) for seed in seeds]


def test_the_expert_picks_on_twenty_random_tables(env):
    verdicts = expert_verdicts(env, range(20))
    assert [verdict.reason for verdict in verdicts] == [""] * 20
    assert max(verdict.steps for verdict in verdicts) <= 20


def test_the_expert_copes_with_a_slow_policy(shared_tabletop):
    env = TabletopEnv(shared_tabletop, render=False)
    env.latency = 0.2
    assert all(verdict.success for verdict in expert_verdicts(env, range(3)))


def test_the_expert_puts_a_wrong_block_back(env):
    observation = env.reset(4, "thing 1", count=3)
    layout = [(o.name, o.position, 0.0) for o in observation.truth.objects]
    env.reset(4, "thing 1", count=3)
    tabletop = env.tabletop
    wrong, rest = layout[1][0], [layout[0], layout[2]]
    tabletop.pose([0.45, 0.25, 0.15], 0.0, rest, held=wrong)
    env._robot.reset()
    observation, done = env.step(Action(False, np.zeros(3), np.zeros(3), 1.0))
    assert observation.truth.held == wrong
    while not done:
        observation, done = env.step(expert(observation.truth, env.task))
    assert observation.truth.held == env.task.object
    assert observation.truth.find(wrong).height < 0.01
    assert env.verdict().reason == "wrong object"


def test_the_same_seed_and_actions_give_the_same_episode(env):
    def play():
        observation, done, log = env.reset(6), False, []
        while not done:
            observation, done = env.step(expert(observation.truth, env.task))
            log.append([*observation.truth.joints, *observation.truth.objects[0].position])
        return np.array(log)

    first = play()
    env.reset(7)
    np.testing.assert_array_equal(first, play())


def test_a_policy_that_does_nothing_never_moved(env):
    verdict = played(env, 0, lambda observation: STILL)
    assert (verdict.success, verdict.reason, verdict.steps) == (False, "never moved", 40)


def test_terminate_ends_the_episode_and_is_not_believed(env):
    env.reset(0)
    env.step(Action(False, np.full(3, 0.05), np.zeros(3), 0.0))
    _, done = env.step(Action(True, np.zeros(3), np.zeros(3), 0.0))
    assert done and not env.success() and env.verdict().reason == "stopped early"


def test_a_late_policy_has_no_more_time(shared_tabletop):
    env, ends = TabletopEnv(shared_tabletop, render=False), []
    for env.latency in (0.0, 0.5, 0.75):
        begin = env.reset(0).stamp_ns
        observation, done = env.step(STILL)
        while not done:
            observation, done = env.step(STILL)
        ends.append((env.verdict().steps, (observation.stamp_ns - begin) / 1e9))
    assert ends == [(40, pytest.approx(10)), (20, pytest.approx(10)), (14, pytest.approx(10.5))]


def test_a_step_is_a_quarter_of_a_second_and_a_delta_goes_where_it_says(env):
    before = env.reset(1, "thing 3")
    assert before.instruction == "pick up the thing 3"
    env.step(STILL)  # the controller opens the gripper first
    env.step(STILL)
    start = env.step(STILL)[0]
    after = start
    for action in (Action(False, [0.03, 0.02, 0.01], np.zeros(3), 0.0), STILL, STILL):
        after, _ = env.step(action)
    assert after.stamp_ns - start.stamp_ns == 750_000_000
    np.testing.assert_allclose(after.state[:3] - start.state[:3], [0.03, 0.02, 0.01], atol=3e-3)


def test_no_action_drives_the_fingers_into_the_table(env):
    observation = env.reset(2, count=3)
    for _ in range(12):
        observation, _ = env.step(Action(False, [0, 0, -0.1], np.zeros(3), 0.0))
        assert observation.state[2] > 0.008


def test_pictures_come_when_wanted(shared_tabletop):
    observation = TabletopEnv(shared_tabletop).reset(0)
    assert observation.image.shape == (480, 480, 3) and observation.image.dtype == np.uint8


def test_a_latency_out_of_bounds_is_refused(shared_tabletop):
    with pytest.raises(ValueError, match="latency: 2.5, expected 0..2 s"):
        TabletopEnv(shared_tabletop).latency = 2.5
