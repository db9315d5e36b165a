# SPDX-License-Identifier: Apache-2.0
"""What training draws: web pictures with questions, and expert states of the simulated table."""

import numpy as np

from rt2_ros.actions import parse
from rt2_ros.data import split
from rt2_ros.data.robot import SPACE, RobotSource, StateSource
from rt2_ros.data.web import web_frame


def test_web_frames_depend_on_the_seed_alone():
    things = split.web_pictographs()
    one, two = (web_frame(np.random.default_rng(5), things) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)
    assert one.queries == two.queries


def test_where_questions_are_answered_with_the_things_place():
    things = split.web_pictographs()
    asked = 0
    for seed in range(20):
        frame = web_frame(np.random.default_rng(seed), things, queries=12)
        places = {thing.name: f"{thing.u} {thing.v}" for thing in frame.things}
        for query in frame.queries:
            for name, place in places.items():
                if query.prompt == f"Q: where is the {name}? A:":
                    assert query.answer == place
                    asked += 1
    assert asked > 20


def test_a_drawn_thing_is_where_its_label_says():
    apple = [p for p in split.web_pictographs() if p.name in ("red apple", "banana")]
    random = np.random.default_rng(1)
    for _ in range(5):
        frame = web_frame(random, apple, most=2)
        for thing in frame.things:
            x, y = (np.array([thing.u, thing.v]) * 192 // 256).astype(int)
            patch = frame.image[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].astype(float)
            assert np.ptp(patch.mean((0, 1))) > 25  # a red or yellow thing, not grey


def test_demonstrations_are_valid_actions_for_the_instructed_object():
    source = RobotSource(web_queries=2)
    random = np.random.default_rng(3)
    for _ in range(5):
        frame = source(random)
        robot = [query for query in frame.queries if query.kind == "robot"]
        assert robot
        seen = {thing.name: thing for thing in frame.things}
        assert set(seen) <= set(split.ROBOT_NAMES)
        for query in robot:
            parsed = parse(query.answer, SPACE)
            assert parsed.action is not None, parsed.reason
            *name, u, v = parsed.plan.split()
            thing = seen[" ".join(name)]
            assert (thing.u, thing.v) == (int(u), int(v))


def test_states_told_in_words_ask_for_the_action_alone():
    random = np.random.default_rng(0)
    frame = StateSource()(random)
    assert frame.image is None and len(frame.queries) == 4
    grippers = set()
    for _ in range(30):
        for query in StateSource()(random).queries:
            parsed = parse(query.answer, SPACE)
            assert parsed.action is not None, parsed.reason
            assert query.answer.startswith(query.given) and query.given.endswith("Action:")
            grippers.add((parsed.action.terminate, parsed.action.gripper))
    assert {(False, 0.0), (False, 1.0), (True, 1.0)} <= grippers


def test_a_model_that_does_not_read_is_wrong_by_many_bins():
    error = RobotSource().language_blind_error(np.random.default_rng(0), frames=20, render=False)
    assert error > 8
