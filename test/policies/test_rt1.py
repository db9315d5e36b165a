# SPDX-License-Identifier: Apache-2.0
"""RT-1 as a policy: what it remembers, for how long, and of which episode."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rt2_ros.data.robot import SPACE
from rt2_ros.models.rt1 import RT1, RT1Config
from rt2_ros.models.rt1.model import unit_state
from rt2_ros.policies import Observation, Policy, infer_batch, load_policy
from rt2_ros.policies.base import MOST_ATTEMPTS
from rt2_ros.policies.rt1 import RT1Policy

SIZES = RT1Config(
    image_size=32, history=3, period=0.25, width=0.25, depth=0.3, expand=2,
    strides=(1, 2, 1, 1, 1, 1, 1), hidden=32, layers=1, heads=2, head_size=16, feed_forward=32,
    dropout=0.0, sentence_size=16, state=True, positions=True,
)  # fmt: skip
STATE = np.array([0.5, 0.0, 0.2, 0.0])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = RT1(SIZES)
    with torch.no_grad():
        for _ in range(60):  # batch norms see pictures
            model.features(torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8), None)
    return model.eval()


@pytest.fixture
def policy(model):
    return RT1Policy("test", model, SPACE)


def seen(level, **changes):
    """What a camera sees: noise that only the level tells apart."""
    noise = np.random.default_rng(level).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    observation = Observation({"scene": noise}, "pick up the key", STATE, episode="a")
    return replace(observation, **changes)


def logits(policy, *observations):
    """Probabilities for the last of them."""
    return [policy._look_and_decide([o]) for o in observations][-1]


def test_the_answer_is_one_valid_action_with_its_confidence(policy):
    assert isinstance(policy, Policy)
    decision = policy.infer(seen(1))
    assert decision.reason == "" and decision.bins[0] in (0, 1)
    assert decision.text == " ".join(map(str, decision.bins))
    assert decision.action == SPACE.from_bins(decision.bins)
    image = torch.from_numpy(seen(1).image)[None, None]
    state = unit_state(SPACE, torch.tensor(STATE, dtype=torch.float32))[None, None]
    with torch.no_grad():
        raw = policy._model(image, policy._model.sentences(["pick up the key"]), state)[0, -1]
    raw[0, 2:] = -torch.inf
    shares = raw.softmax(-1).numpy()
    np.testing.assert_array_equal(decision.bins, shares.argmax(-1))
    chosen = decision.bins.tolist()
    parts = [s[max(0, b - 8) : b + 9].sum() for s, b in zip(shares, chosen, strict=True)]
    parts[0] = shares[0, chosen[0]]
    assert decision.confidence == pytest.approx(np.prod(parts) ** (1 / 8), rel=1e-3)


def test_it_decides_from_the_last_images_and_no_more(policy, model):
    alone = logits(RT1Policy("x", model, SPACE), seen(3))
    after = logits(policy, seen(1), seen(2), seen(3))
    assert (after - alone).abs().max() > 1e-6
    # Three images are its history: a fourth pushes the first one out.
    longer = logits(RT1Policy("x", model, SPACE), seen(9), seen(1), seen(2), seen(3))
    torch.testing.assert_close(longer, after)


@pytest.mark.parametrize(
    "before",
    [
        {"episode": "b"},
        {"instruction": "pick up the rose"},
        {"stamp_ns": 1_000_000_000},  # 4 s before
        {"stamp_ns": 9_000_000_000},  # from before the clock was set back
    ],
)
def test_what_was_before_does_not_count(policy, model, before):
    now = seen(2, stamp_ns=5_000_000_000)
    fresh = logits(RT1Policy("x", model, SPACE), now)
    logits(policy, seen(1, **{"stamp_ns": 4_800_000_000, **before}))
    torch.testing.assert_close(logits(policy, now), fresh)


def test_a_fast_camera_does_not_shorten_the_history(policy, model):
    ms = 1_000_000
    fast = [seen(t, stamp_ns=(1000 + t) * ms) for t in (0, 50, 100, 250, 300, 500)]
    slow = [fast[0], fast[3], fast[5]]
    torch.testing.assert_close(logits(policy, *fast), logits(RT1Policy("x", model, SPACE), *slow))


def test_a_batch_decides_as_one_by_one(policy, model):
    others = RT1Policy("x", model, SPACE)
    for step in range(3):  # "b" begins later, so its window is shorter
        batch = [seen(10 + step)] + ([seen(20 + step, episode="b")] if step else [])
        batch.append(seen(30 + step, episode="c", state=None))
        together = infer_batch(policy, batch)
        single = [others.infer(o) for o in batch]
        for a, b in zip(together, single, strict=True):
            np.testing.assert_array_equal(a.bins, b.bins)
            assert a.confidence == pytest.approx(b.confidence, rel=1e-4)
        assert together[-1].action is None and "state is not known" in together[-1].reason
    twice = [seen(40), seen(41)]
    assert [d.text for d in infer_batch(policy, twice)] == [others.infer(o).text for o in twice]


def test_scores_that_are_no_numbers_cost_their_own_decision_alone(policy, model, monkeypatch):
    """Nor is what they were made of remembered."""
    fresh, decide = RT1Policy("x", model, SPACE), model.decide

    def spoil(*given):
        logits = decide(*given)
        logits[1:] = torch.nan
        return logits

    with monkeypatch.context() as patch:
        patch.setattr(model, "decide", spoil)
        good, bad = policy.infer_batch([seen(1), seen(2, episode="b")])
    assert good.text == fresh.infer(seen(1)).text
    assert (bad.action, bad.reason) == (None, "the model's scores are no numbers")
    again = policy.infer(seen(3, episode="b"))
    assert again.confidence == fresh.infer(seen(3, episode="c")).confidence


def test_a_state_that_no_robot_tells_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    replace(SPACE, state_names=("gripper", "x", "y", "z")).save(tmp_path)
    with pytest.raises(ValueError, match=r"state_names are \['gripper', 'x', 'y', 'z'\]; expected"):
        load_policy(str(tmp_path))


def test_of_what_is_of_no_episode_nothing_is_remembered(policy, model):
    robots = [seen(level, episode="") for level in (1, 2)]
    fresh = [RT1Policy("x", model, SPACE).infer(robot) for robot in robots]
    for found in (infer_batch(policy, robots), [policy.infer(robot) for robot in robots]):
        for a, b in zip(found, fresh, strict=True):
            np.testing.assert_array_equal(a.bins, b.bins)
            assert a.confidence == pytest.approx(b.confidence, rel=1e-4)


def test_memory_is_bounded(policy):
    for episode in range(MOST_ATTEMPTS + 5):
        policy.infer(seen(1, episode=str(episode)))
    assert len(policy._memories) == MOST_ATTEMPTS
    assert "0" not in policy._memories and str(MOST_ATTEMPTS + 4) in policy._memories


def test_other_sizes_are_resized_and_an_empty_instruction_is_no_task(policy):
    assert policy.infer(seen(1, images={"scene": np.zeros((48, 64, 3), np.uint8)})).action
    assert policy.infer(seen(1, instruction=" ")).reason == "the instruction is empty"
    assert "writes actions only" in policy.answer(seen(1).image, "where is the key?")


def test_a_checkpoint_folder_is_known_as_rt1(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="action_space.json: no such file"):
        load_policy(str(tmp_path))
    SPACE.save(tmp_path)
    policy = load_policy(str(tmp_path), smoothing=4)
    assert isinstance(policy, RT1Policy) and policy.image_size == 32
    assert policy.infer(seen(1)).action is not None
    with pytest.raises(ValueError, match="unknown key 'speed'; expected checkpoint, "):
        load_policy(str(tmp_path), speed=2)
    for wrong, message in (
        ({"threads": "two"}, "threads is 'two'; expected a whole number, 1 or more"),
        ({"smoothing": "4"}, "smoothing is '4'; expected a number, 0 or more"),
        ({"device": "cuda:99"}, "device is 'cuda:99'; this machine has"),
    ):
        with pytest.raises(ValueError, match=message):
            load_policy(str(tmp_path), **wrong)
    with pytest.raises(OSError, match="checkpoint 'nowhere' is no folder; `rt2 train --config rt1"):
        load_policy("rt1-small", checkpoint="nowhere")
