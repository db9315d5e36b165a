# SPDX-License-Identifier: Apache-2.0
"""Sources by their names in a configuration, batches by their numbers, pictures varied."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from tiny_runs import SOURCES, Colour, tiny_config, tiny_stage, vlm_stage

from rt2_ros.data import split
from rt2_ros.data.faults import BadSample, BadSetting
from rt2_ros.data.robot import SPACE
from rt2_ros.data.samples import Frame, Query, Thing
from rt2_ros.training.augment import Augmentation, Augmented
from rt2_ros.training.config import Stage
from rt2_ros.training.data import HELD_OUT, MOST_BAD, TRAINING, Mixture
from rt2_ros.training.rows import MAX_PLAN_TOKENS
from rt2_ros.training.sources import build as build_sources
from rt2_ros.training.sources import main_space, picture_size, plan_form, planned, statistics
from rt2_ros.training.tiny import TinyRecipe
from rt2_ros.typed import build

IMAGE = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
WHERE = Query("Q: where is it? A:", "64 75", "web")


def levels(frames):
    return [frame.origin or int(frame.image[0, 0, 0]) for frame in frames]


def mixture(**changes):
    values = {"batch_size": 3, "seed": 0, **changes}
    sources = values.pop("sources", SOURCES)
    return Mixture(sources, {name: 1 for name in sources}, levels, **values)


def test_batches_are_drawn_from_training_seeds_and_those_kept_out_from_others():
    seen = []

    def source(random):
        seen.append(tuple(random.bit_generator.seed_seq.entropy))
        return Frame(IMAGE, (WHERE,), ())

    for use in (TRAINING, HELD_OUT):
        for number in range(3):
            mixture(sources={"a": source}, seed=7, use=use).draw(number)
    assert all(first in split.TRAIN_SEEDS for first, *_ in seen)
    assert len({*seen}) == 6


def test_a_mixture_draws_its_shares():
    seen = []
    mixed = Mixture(SOURCES, {"colour": 3, "talk": 1}, levels, batch_size=100, seed=0)
    for number in range(20):
        seen += mixed.draw(number).sources
    assert seen.count("colour") / 2000 == pytest.approx(0.75, abs=0.03)
    with pytest.raises(ValueError, match="unknown source 'c'"):
        Mixture(SOURCES, {"c": 1}, levels, batch_size=1, seed=0)


def test_batches_go_by_number_whoever_draws_them():
    alone = iter(mixture())
    batches = [next(alone).batch for _ in range(8)]
    assert batches[0] != batches[1]
    # One that goes on from the fourth, and two processes of which each draws every second.
    later, even, odd = (
        iter(mixture(**of))
        for of in ({"start": 4}, {"processes": 2}, {"process": 1, "processes": 2})
    )
    assert [next(later).batch for _ in range(4)] == batches[4:]
    assert [next(even).batch for _ in range(4)] == batches[::2]
    assert [next(odd).batch for _ in range(4)] == batches[1::2]
    # Other numbers of another seed, another stage, and for validation.
    for other in ({"seed": 1}, {"stage": 1}, {"use": HELD_OUT}):
        assert next(iter(mixture(**other))).batch != batches[0]


def test_a_source_with_nothing_but_bad_samples_ends_the_run():
    calls = []

    def bad(random):
        calls.append(1)
        raise BadSample("a.mp4", "torn", frame=len(calls))

    drawn = mixture(sources={"bad": bad}, skip=True).draw(0)
    assert drawn.batch is None and len(calls) == MOST_BAD and not drawn.skippable
    assert drawn.stopped == f"{MOST_BAD} bad samples in a row; the last: a.mp4, frame 100: torn"
    stopped = list(mixture(sources={"bad": bad}))  # not one more batch after it
    assert [(drawn.stopped, drawn.skippable) for drawn in stopped] == [
        ("a.mp4, frame 101: torn", True)
    ]


def test_files_are_sources_with_rows_kept_out(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), IMAGE)
    rows = [{"image": "a.png", "question": f"number {i}?", "answer": str(i)} for i in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"vqa": {"type": "jsonl", "path": str(tmp_path / "rows.jsonl"), "holdout": 0.1}}

    def answers(held_out):
        random = np.random.default_rng(0)
        source = build_sources(settings, {"vqa": Augmentation(noise=9)}, held_out)["vqa"]
        frames = [source(random) for _ in range(200)]
        varied = any(not np.array_equal(f.image, frames[0].image) for f in frames)
        return {query.answer for frame in frames for query in frame.queries}, varied

    assert answers(held_out=False) == ({str(i) for i in range(18)}, True)
    assert answers(held_out=True) == ({"18", "19"}, False)


def test_a_model_of_one_question_in_a_row_is_asked_one_about_a_picture(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), IMAGE)
    row = {"image": "a.png", "qa": [{"question": f"{i}?", "answer": "x"} for i in range(6)]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    vqa = {"type": "jsonl", "path": str(tmp_path / "rows.jsonl"), "holdout": 0}
    settings = {"vqa": vqa, "two": {**vqa, "queries": 2}, "web": {"type": "web"},
                "arm": {"type": "robot"}}  # fmt: skip
    for queries, expected in ((1, [1, 2, 1, 1]), (None, [6, 2, 8, 6])):
        sources = build_sources(settings, {}, queries=queries)
        asked = [len(source(np.random.default_rng(0)).queries) for source in sources.values()]
        assert asked == expected


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"type": "video"}, "source a: type is 'video'; expected web, robot, lerobot"),
        ({"type": "web", "pictures": 3}, "source a: .*pictures"),
    ],
)
def test_an_unknown_source_is_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        build_sources({"a": settings}, {})


def test_a_checkpoint_speaks_one_action_space_that_is_named_where_there_are_several():
    assert main_space(SOURCES) is Colour.space
    other = Colour()
    other.space = replace(Colour.space, name="other")
    both = {**SOURCES, "other": other}
    assert main_space(both, "other") is other.space
    with pytest.raises(ValueError, match="space is None; expected .*'colour', 'other'"):
        main_space(both)
    assert statistics(both) == {"colour": {"frames": 3}, "other": {"frames": 3}}


@pytest.mark.parametrize("count", [0, 3])
def test_a_state_that_no_policy_is_told_is_refused(count):
    joints = Colour()
    ends = {"state_low": (0,) * count, "state_high": (1,) * count}
    joints.space = replace(SPACE, state_names=("x", "y", "z", "gripper")[: count or 4], **ends)
    if not count:
        assert main_space({"mine": joints}) is joints.space
        return
    with pytest.raises(ValueError, match="source mine: its prompts tell 3 numbers of .*expected 4"):
        main_space({"mine": joints})
    joints.space = replace(SPACE, state_names=("gripper", "x", "y", "z"))
    with pytest.raises(ValueError, match="source mine: state_names of .*'gripper', 'x'.*'x', 'y'"):
        main_space({"mine": joints})


def test_a_policy_plans_where_the_robot_that_it_moves_was_shown_plans(tmp_path):
    bare = Colour()
    bare.plans = False
    both = {**SOURCES, "bare": bare}
    for space, share, told in (("colour", 0.5, True), ("colour", 0.0, False), ("bare", 1.0, False)):
        stages = (tiny_stage(), tiny_stage(plan_share=share))
        assert planned(both, tiny_config(tmp_path, space=space, stages=stages)) == told
    recipe = TinyRecipe(tiny_config(tmp_path), {"colour": bare})
    assert recipe.record()["policy"]["plan"] == "none"
    free = TinyRecipe(tiny_config(tmp_path), {"colour": Colour()})  # plans of no form
    told = free.record()["policy"]
    assert (told["plan"], told["max_plan_tokens"]) == ("required", MAX_PLAN_TOKENS)


def test_robot_sources_have_pictures_of_one_size():
    assert picture_size(SOURCES) == 192
    large = Colour()
    large.size = 224
    message = r"size is \{'colour': 192, 'large': 224\}; expected one for all robot sources"
    with pytest.raises(ValueError, match=message):
        picture_size({**SOURCES, "large": large})


def test_plans_have_a_form_where_all_robot_data_has_it():
    made = build_sources({"web": {"type": "web"}, "robot": {"type": "robot"}}, {})
    form = plan_form(made)
    assert form is not None and form.recalled("key 38 109 at 161 75 take over")
    varied = build_sources({"robot": {"type": "robot"}}, {"robot": Augmentation(colour=0.1)})
    assert plan_form(varied) == form
    # Recorded episodes have plans of their own, or none, and never remind.
    assert plan_form({**made, "recorded": SOURCES["colour"]}) is None
    assert plan_form({"web": made["web"]}) is None


def test_shares_of_a_stage_can_be_mixed_to_a_robot_share():
    values = {"name": "a", "steps": 1, "learning_rate": 1, "shares": {"colour": 1, "talk": 7}}
    stage = build(Stage, {**values, "mixing": {"robot_share": "palm-e"}}, "file")
    assert stage.mixing.shares(stage.shares, SOURCES) == pytest.approx(
        {"colour": 0.66, "talk": 0.34}
    )
    with pytest.raises(ValueError, match="file: mixing: unknown key 'robots'"):
        build(Stage, {**values, "mixing": {"robots": 1}}, "file")
    assert vlm_stage().mixing.shares({"talk": 2.0}, SOURCES) == {"talk": 1.0}


def test_pictures_are_varied_and_never_mirrored():
    ramp = np.broadcast_to(np.arange(192, dtype=np.uint8)[None, :, None], (192, 192, 3)).copy()
    frame = Frame(ramp, (Query("Q: ? A:", "yes", "web"),), ())
    source = Augmented(
        lambda random: frame, Augmentation(crop=0.2, colour=0.3, blur=2.0, noise=4.0)
    )
    pictures = [source(np.random.default_rng(seed)).image for seed in range(20)]
    assert len({picture.tobytes() for picture in pictures}) == 20
    for picture in pictures:
        assert picture.shape == ramp.shape and picture.dtype == np.uint8
        columns = picture.mean((0, 2))
        assert columns[150] > columns[40] + 20  # left is left
    same = source(np.random.default_rng(3))
    assert np.array_equal(same.image, pictures[3]) and same.queries == frame.queries
    frame = replace(frame, others=(ramp,))  # of another camera: varied by itself
    (other,) = source(np.random.default_rng(3)).others
    assert other.mean((0, 2))[150] > other.mean((0, 2))[40] + 20
    assert not np.array_equal(other, pictures[3]) and not np.array_equal(other, ramp)


def test_noise_leaves_alone_what_is_asked_for():
    outline = np.array([[32, 48], [64, 48], [64, 64], [32, 64]], np.float32)
    frame = Frame(IMAGE, (WHERE,), (Thing("key", 64, 75, outline),))
    varied = Augmentation(noise=60)(np.random.default_rng(0), frame).image
    assert np.array_equal(varied[48:65, 32:65], IMAGE[48:65, 32:65])
    assert not np.array_equal(varied[:32], IMAGE[:32])


@pytest.mark.parametrize(
    "frame",
    [
        Frame(IMAGE, (WHERE,), (Thing("key", 64, 75, np.zeros((4, 2), np.float32)),)),
        Frame(IMAGE, (Query("Q: ? A:", "Plan: key 64 75. Action: 0 1", "robot"),), ()),
        Frame(IMAGE, (Query("Q: ? A:", "umbrella 213 88", "web"),), ()),
        Frame(IMAGE, (Query("Q: ? A:", "<loc0112><loc0200> umbrella", "web"),), ()),
    ],
)
def test_a_crop_that_would_make_answers_wrong_is_refused(frame):
    source = Augmented(lambda random: frame, Augmentation(crop=0.1), "mine")
    with pytest.raises(BadSetting, match=r"source mine: augment: crop is 0\.1, and would move"):
        source(np.random.default_rng(0))
    for skip in (True, False):  # it is the configuration that is wrong, and no sample
        drawn = mixture(sources={"mine": source}, skip=skip).draw(0)
        assert drawn.batch is None and not drawn.left_out and not drawn.skippable
        assert drawn.stopped.startswith("source mine: augment: crop is 0.1")


def test_an_augmentation_out_of_range_is_refused():
    with pytest.raises(ValueError, match="crop is 0.9; expected 0 to 0.5"):
        Augmentation(crop=0.9)
