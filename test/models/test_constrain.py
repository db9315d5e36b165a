# SPDX-License-Identifier: Apache-2.0
"""The lean decoder writes what `generate` writes, and nothing but valid actions."""

import numpy as np
import pytest
import torch

from rt2_ros.actions import AnswerGrammar, Grammar, action_prompt, choose_vocabulary
from rt2_ros.data.robot import SPACE
from rt2_ros.models.constrain import Smoothing, decode, generate
from rt2_ros.models.tiny import build_model, build_processor


@pytest.fixture(scope="module")
def parts():
    processor = build_processor()
    model = build_model(processor, hidden=96, vision_layers=1, text_layers=2).eval()
    return model, processor, choose_vocabulary(processor.tokenizer)


def inputs(processor, seed, prefix):
    image = np.random.default_rng(seed).integers(0, 256, (192, 192, 3), dtype=np.uint8)
    prompt = action_prompt("pick up the apple", [120, 45, 200, 255])
    given = processor(images=[image], text=[f"<image>{prompt}"], return_tensors="pt")
    given.pop("labels")
    if prefix == "causal":
        given.pop("token_type_ids")
    return dict(given)


@pytest.mark.parametrize("prefix", ["causal", "full"])
@pytest.mark.parametrize("plan", ["none", "optional", "required"])
def test_decode_writes_the_tokens_of_generate(parts, plan, prefix):
    model, processor, words = parts
    grammar = Grammar(
        words,
        SPACE,
        plan=plan,
        max_plan_tokens=5,
        forbidden=[words.tokenizer.convert_tokens_to_ids("<image>")],
    )
    for seed in range(3):
        given = inputs(processor, seed, prefix)
        fast, reference = decode(model, given, grammar), generate(model, given, grammar)
        assert [s.token for s in fast] == [s.token for s in reference]
        parsed = grammar.read([s.token for s in fast])
        assert parsed.action is not None, parsed.reason


def test_probabilities_are_those_among_the_allowed(parts):
    model, processor, words = parts
    grammar = Grammar(words, SPACE)
    given = inputs(processor, 0, "causal")
    for fast, reference in zip(
        decode(model, given, grammar), generate(model, given, grammar), strict=True
    ):
        assert torch.equal(fast.allowed, reference.allowed)
        torch.testing.assert_close(fast.probabilities, reference.probabilities, atol=1e-5, rtol=0)


def test_a_neighbourhood_wins_over_a_spike():
    tokens = torch.arange(1000, 1256)
    probabilities = torch.zeros(256)
    probabilities[127] = 0.25
    probabilities[119:125] = 0.125
    values = {1000 + i: i for i in range(256)}
    assert int(probabilities.argmax()) == 127
    assert 120 <= int(Smoothing(values, 4)(tokens, probabilities).argmax()) <= 124
    assert int(Smoothing(values, 0)(tokens, probabilities).argmax()) == 127
    saturated = torch.zeros(256)  # half a Gaussian at the end of the range
    saturated[252:] = torch.tensor([0.06, 0.15, 0.27, 0.29])
    assert int(Smoothing(values, 6)(tokens, saturated).argmax()) == 255
    # A switch of two, and words, are left alone.
    for allowed in (torch.tensor([1000, 1001]), torch.tensor([5, 1000, 1001])):
        some = torch.rand(len(allowed))
        assert torch.equal(Smoothing(values, 4)(allowed, some), some)
    with pytest.raises(ValueError, match="smoothing: 65"):
        Smoothing(values, 65)


def test_smoothed_decode_writes_the_tokens_of_smoothed_generate(parts):
    model, processor, words = parts
    grammar = Grammar(words, SPACE)
    smoothing = Smoothing({ids[0]: b for b, ids in enumerate(words.spellings)}, 6)
    for seed in range(3):
        given = inputs(processor, seed, "causal")
        fast = decode(model, given, grammar, smoothing=smoothing)
        reference = generate(model, given, grammar, smoothing=smoothing)
        assert [s.token for s in fast] == [s.token for s in reference]


def test_free_text_ends_at_its_bound(parts):
    model, processor, words = parts
    given = inputs(processor, 0, "causal")
    assert len(decode(model, given, AnswerGrammar(words, max_tokens=7))) <= 8
