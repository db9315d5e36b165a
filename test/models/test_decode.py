# SPDX-License-Identifier: Apache-2.0
"""The fast decoder writes what `generate` writes, and nothing but valid actions."""

import numpy as np
import pytest
import torch

from rt2_ros.actions import AnswerGrammar, Grammar, action_prompt, choose_vocabulary
from rt2_ros.data.robot import SPACE
from rt2_ros.models.constrain import Smoothing, generate
from rt2_ros.models.decode import Decoder
from rt2_ros.models.tiny import build_model, build_processor

INSTRUCTIONS = ("pick up the apple", "stop", "put the red apple beside the yellow banana, please")


@pytest.fixture(scope="module")
def parts():
    processor = build_processor()
    model = build_model(processor, hidden=96, vision_layers=1, text_layers=2).eval()
    return model, processor, choose_vocabulary(processor.tokenizer)


def inputs(processor, seed, prefix="causal", instruction=INSTRUCTIONS[0]):
    image = np.random.default_rng(seed).integers(0, 256, (192, 192, 3), dtype=np.uint8)
    prompt = action_prompt(instruction, [120, 45, 200, 255])
    given = processor(images=[image], text=[f"<image>{prompt}"], return_tensors="pt")
    given.pop("labels")
    if prefix == "causal":
        given.pop("token_type_ids")
    return dict(given)


def tokens(steps):
    return [step.token for step in steps]


@pytest.mark.parametrize("prefix", ["causal", "full"])
@pytest.mark.parametrize("plan", ["none", "optional", "required"])
def test_a_batch_writes_the_tokens_of_generate_one_by_one(parts, plan, prefix):
    model, processor, words = parts
    grammar = Grammar(
        words,
        SPACE,
        plan=plan,
        max_plan_tokens=5,
        forbidden=[words.tokenizer.convert_tokens_to_ids("<image>")],
    )
    given = [inputs(processor, seed, prefix, text) for seed, text in enumerate(INSTRUCTIONS)]
    assert len({i["input_ids"].shape for i in given}) == 3  # padding is put to the test
    expected = [tokens(generate(model, each, grammar)) for each in given]
    decode = Decoder(model)
    assert [tokens(steps) for steps in decode(given, grammar)] == expected
    assert [tokens(decode([each], grammar)[0]) for each in given] == expected
    for answer in expected:
        parsed = grammar.read(answer)
        assert parsed.action is not None, parsed.reason


def test_probabilities_are_those_among_the_allowed(parts):
    model, processor, words = parts
    grammar = Grammar(words, SPACE)
    given = [inputs(processor, seed, "causal", text) for seed, text in enumerate(INSTRUCTIONS)]
    for each, steps in zip(given, Decoder(model)(given, grammar), strict=True):
        for fast, reference in zip(steps, generate(model, each, grammar), strict=True):
            np.testing.assert_array_equal(fast.allowed, reference.allowed)
            torch.testing.assert_close(
                fast.probabilities, reference.probabilities, atol=1e-5, rtol=0
            )


def test_smoothed_decode_writes_the_tokens_of_smoothed_generate(parts):
    model, processor, words = parts
    grammar = Grammar(words, SPACE)
    smoothing = Smoothing({ids[0]: b for b, ids in enumerate(words.spellings)}, 6)
    for seed in range(3):
        given = inputs(processor, seed)
        fast = Decoder(model)([given], grammar, smoothing=smoothing)[0]
        assert tokens(fast) == tokens(generate(model, given, grammar, smoothing=smoothing))


def test_free_text_ends_at_its_bound_and_is_that_of_generate(parts):
    model, processor, words = parts
    given, grammar = inputs(processor, 0), AnswerGrammar(words, max_tokens=7)
    answer = tokens(Decoder(model)([given], grammar)[0])
    assert 1 < len(answer) <= 8
    assert answer == tokens(generate(model, given, grammar))


def test_no_sequences_make_no_answers(parts):
    model, _, words = parts
    assert Decoder(model)([], Grammar(words, SPACE)) == []
