# SPDX-License-Identifier: Apache-2.0
"""The fast decoder writes what `generate` writes, and nothing but valid actions."""

import operator

import numpy as np
import pytest
import torch

from rt2_ros.actions import (
    MOST_TOKENS,
    AnswerGrammar,
    Grammar,
    action_prompt,
    choose_vocabulary,
)
from rt2_ros.data.robot import SPACE
from rt2_ros.models.constrain import Held, Smoothing, Step, generate
from rt2_ros.models.decode import Decoder, Prompt
from rt2_ros.models.head import Head
from rt2_ros.models.lean import LeanForward, LeanWeights
from rt2_ros.models.row import Row
from rt2_ros.models.tiny import build_model, build_processor

pytestmark = pytest.mark.usefixtures("one_thread")

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
    decode, prompts = Decoder(model), [Prompt(each) for each in given]
    assert [answer.tokens for answer in decode(prompts, grammar)] == expected
    assert [decode([prompt], grammar)[0].tokens for prompt in prompts] == expected
    for answer in expected:
        parsed = grammar.read(answer)
        assert parsed.action is not None, parsed.reason


def test_probabilities_are_those_among_the_allowed(parts):
    model, processor, words = parts
    grammar = Grammar(words, SPACE)
    given = [inputs(processor, seed, "causal", text) for seed, text in enumerate(INSTRUCTIONS)]
    answers = Decoder(model)([Prompt(each) for each in given], grammar)
    for each, answer in zip(given, answers, strict=True):
        for fast, reference in zip(answer.steps, generate(model, each, grammar), strict=True):
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
        fast = Decoder(model)([Prompt(given)], grammar, smoothing=smoothing)[0]
        assert fast.tokens == tokens(generate(model, given, grammar, smoothing=smoothing))


def test_free_text_ends_at_its_bound_and_is_that_of_generate(parts):
    model, processor, words = parts
    given, grammar = inputs(processor, 0), AnswerGrammar(words, max_tokens=7)
    answer = Decoder(model)([Prompt(given)], grammar)[0].tokens
    assert 1 < len(answer) <= 8
    assert answer == tokens(generate(model, given, grammar))


def language(words, numbers):
    ids = [words.spellings[n][0] for n in range(250)]
    return numbers(ids, words.tokenizer.eos_token_id, 60)


def test_a_long_answer_outgrows_the_cache_unharmed(parts, numbers):
    model, processor, words = parts
    given, grammar = inputs(processor, 0), language(words, numbers)
    answer = Decoder(model)([Prompt(given)], grammar)[0].tokens
    assert len(answer) == 60
    assert answer == tokens(generate(model, given, grammar))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_guess_saves_forwards_and_changes_nothing(parts, batch, monkeypatch, numbers):
    model, processor, words = parts
    reads = []

    class Counted(LeanForward):
        def __call__(self, given):
            reads.append(given)
            return super().__call__(given)

    monkeypatch.setattr("rt2_ros.models.decode.LeanForward", Counted)
    grammar = language(words, numbers)
    given = [inputs(processor, n, "causal", text) for n, text in enumerate(INSTRUCTIONS[:batch])]
    decode = Decoder(model)
    right = [answer.tokens for answer in decode([Prompt(each) for each in given], grammar)]
    for wrong in ((), (3,), (0, 1, 2, 30), range(59), (58,)):
        guesses = [list(answer) for answer in right]
        for guess in guesses:
            for place in wrong:
                guess[place] = int(grammar.ids[(guess[place] + place) % 200])
        reads.clear()
        prompts = [
            Prompt(each, guesses=[guess]) for each, guess in zip(given, guesses, strict=True)
        ]
        assert [answer.tokens for answer in decode(prompts, grammar)] == right
        # One finds each that is wrong, and one that the past is the better guess behind it.
        assert len(reads) <= 1 + 2 * len(wrong)


@pytest.mark.parametrize(
    ("guess", "on_trial", "expected"),
    [
        # All wrong, and what the model chooses behind what is wrong is what it writes in the end.
        ([1] + [9] * 6 + [0], None, 2),
        # One is wrong, and behind it the model chooses otherwise: the past is the better guess.
        ([0, 99, 3, 4, 5, 6, 7, 255], 200, 3),
    ],
)
def test_what_is_chosen_behind_a_wrong_guess_is_guessed_next(parts, guess, on_trial, expected):
    model, _, words = parts
    grammar, wanted = Grammar(words, SPACE, plan="none"), [0, 2, 3, 4, 5, 6, 7, 255]
    answer = grammar.encode(wanted)
    row = Row(grammar, Prompt({}, guesses=[grammar.encode(guess)]), Head(model), 100)
    rounds = 0
    while row.open:
        read, rounds = row.read(MOST_TOKENS), rounds + 1
        begin = [step.token for step in row.steps]
        path = read[len(read) - row.questions()[0][0] :]
        chosen = []
        for back, _ in row.questions():
            place = len(path) - back
            right = begin + path[:place] == answer[: len(begin) + place]
            token = answer[len(begin) + place]
            if not right and on_trial is not None and place < len(path):
                token = int(grammar.encode([0] + [on_trial] * 6 + [0])[len(begin) + place])
            chosen.append(Step(token, torch.tensor([token]), torch.ones(1)))
        row.take(chosen)
        row.settle()
    assert [step.token for step in row.steps] == answer
    assert rounds == expected


def test_an_answer_goes_on_from_where_it_is_told_to_begin(parts, numbers):
    model, processor, words = parts
    given, grammar = inputs(processor, 0), language(words, numbers)
    decode = Decoder(model)
    whole = decode([Prompt(given)], grammar)[0]
    again = decode([Prompt(given, begin=whole.steps[:20])], grammar)[0]
    assert again.tokens == whole.tokens
    assert all(map(operator.is_, again.steps[:20], whole.steps))  # as sure as it was then
    other, state = [], grammar.start()
    for _ in range(20):
        token = int(grammar.allowed(state)[-1])
        other.append(Step(token, torch.tensor([token]), torch.ones(1)))
        state = grammar.advance(state, token)
    assert tokens(other) != whole.tokens[:20]
    expected = tokens(generate(model, given, Held(grammar, {}, begin=other)))
    assert decode([Prompt(given, begin=other)], grammar)[0].tokens == expected
    assert expected[:20] == tokens(other)
    with pytest.raises(ValueError):
        decode([Prompt(given, begin=whole.steps[-1:])], grammar)


def test_generate_is_asked_without_a_checkpoints_own_ways_to_choose(parts, numbers, monkeypatch):
    model, processor, words = parts
    given, grammar = inputs(processor, 0), language(words, numbers)
    expected = tokens(generate(model, given, grammar))
    config = model.generation_config
    monkeypatch.setattr(config, "repetition_penalty", 1.3)
    monkeypatch.setattr(config, "suppress_tokens", expected[:5])
    assert tokens(generate(model, given, grammar)) == expected
    assert model.generation_config is config


def test_no_sequences_make_no_answers(parts):
    model, _, words = parts
    assert Decoder(model)([], Grammar(words, SPACE)) == []


def test_too_little_memory_makes_smaller_batches_and_one_warning(parts, numbers, monkeypatch):
    model, processor, words = parts
    given = [inputs(processor, n, "causal", text) for n, text in enumerate(INSTRUCTIONS)]
    prompts, grammar = [Prompt(each) for each in given], language(words, numbers)
    expected = [answer.tokens for answer in Decoder(model)(prompts, grammar)]
    room = [2]

    class Small(LeanForward):
        """Has room for some sequences only, which shows in the middle of an answer."""

        def __call__(self, read):
            if len(read) > room[0] and max(map(len, read)) == 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().__call__(read)

    monkeypatch.setattr("rt2_ros.models.decode.LeanForward", Small)
    decode = Decoder(model)
    with pytest.warns(UserWarning, match="3 sequences at once: 2 from now on") as warned:
        assert [answer.tokens for answer in decode(prompts, grammar)] == expected
    assert len(warned) == 1
    assert [answer.tokens for answer in decode(prompts, grammar)] == expected  # and none now
    room[0] = 0
    with pytest.raises(RuntimeError, match="cpu has too little memory for one sequence"):
        decode(prompts[:1], grammar)


def test_a_model_that_computes_something_else_is_not_computed_lean(parts, numbers, monkeypatch):
    model, processor, words = parts
    given, grammar = inputs(processor, 0), language(words, numbers)
    expected = tokens(generate(model, given, grammar))
    right = LeanWeights.reserve

    def spoil(self, batch, length):
        right(self, batch, length)
        self.text_norm = self.text_norm * 1.1

    monkeypatch.setattr(LeanWeights, "reserve", spoil)
    with pytest.warns(UserWarning, match="differs from this version of PaliGemma"):
        decode = Decoder(model)
    assert decode([Prompt(given)], grammar)[0].tokens == expected
