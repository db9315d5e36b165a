# SPDX-License-Identifier: Apache-2.0
"""The fast decoder on models of several kinds, small and of random weights."""

from functools import wraps
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import Florence2Config, Gemma2Config, MllamaConfig

from rt2_ros.actions import MOST_TOKENS
from rt2_ros.models.constrain import generate
from rt2_ros.models.decode import Decoder, Prompt
from rt2_ros.models.forward import CachedForward
from rt2_ros.models.picture import plain_patches
from rt2_ros.models.static import ANSWER_ROOM, BLOCKS, ROOM, StaticForward, StaticSteps
from rt2_ros.models.text import both_ways, check_kind

from . import architectures
from .architectures import (
    IMAGE,
    KINDS,
    TEXT,
    filled,
    llava,
    paligemma,
    paligemma2,
    qwen2_5_vl,
    with_two_pictures,
)
from .recordings import Bins, Played

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=KINDS, ids=lambda build: build.__name__)
def kind(request):
    torch.manual_seed(0)
    return filled(request.param())


@pytest.fixture
def case(kind, numbers):
    """Prompts of three lengths, the grammar, and what the reference writes."""
    texts = ([20, 21, 22], [30], [40, 41, 42, 43, 44, 45, 46])
    given = [kind.inputs(seed, text) for seed, text in enumerate(texts)]
    grammar = numbers(range(10, 260), 2, 20)
    expected = [[s.token for s in generate(kind.model, each, grammar)] for each in given]
    assert len({tuple(answer) for answer in expected}) == 3
    return given, grammar, expected


@pytest.fixture(params=["dynamic cache", "static cache"])
def decode(request, kind, monkeypatch):
    """The decoder, by the way of a CPU or by that of a GPU (its graphs need a real one)."""
    decoder = Decoder(kind.model)
    if request.param == "static cache":
        if kind.model.config.get_text_config().model_type == "gemma2":
            pytest.skip("a sliding window is not read in a static cache")
        steps = StaticSteps(kind.model)
        monkeypatch.setattr(
            decoder, "_forward", lambda inputs, stages: StaticForward(steps, inputs, stages)
        )
        decoder._most, decoder._static = 64, steps
    return decoder


def test_the_tokens_are_those_of_generate(decode, case):
    given, grammar, expected = case
    assert [decode([Prompt(each)], grammar)[0].tokens for each in given] == expected
    assert [a.tokens for a in decode([Prompt(each) for each in given], grammar)] == expected


def test_patches_by_a_product_are_those_of_the_convolution(numbers, monkeypatch):
    torch.manual_seed(0)
    kind, grammar = filled(qwen2_5_vl()), numbers(range(10, 260), 2, 20)
    given = [kind.inputs(seed, text) for seed, text in enumerate(([20, 21, 22], [30]))]
    expected = [[s.token for s in generate(kind.model, each, grammar)] for each in given]
    embed = kind.model.base_model.visual.patch_embed
    patches = embed(given[0]["pixel_values"])
    plain_patches(kind.model)
    monkeypatch.setattr(embed.proj, "forward", None)  # it is not called
    torch.testing.assert_close(embed(given[0]["pixel_values"]), patches)
    assert [[s.token for s in generate(kind.model, each, grammar)] for each in given] == expected
    assert [a.tokens for a in Decoder(kind.model)([Prompt(g) for g in given], grammar)] == expected
    plain_patches(filled(llava()).model)  # has no such tower


def test_of_two_pictures_too(decode, kind, numbers):
    two, grammar = with_two_pictures(kind), numbers(range(10, 260), 2, 20)
    given = [two.inputs(seed, text) for seed, text in enumerate(([20, 21, 22], [30]))]
    expected = [[s.token for s in generate(kind.model, each, grammar)] for each in given]
    assert [decode([Prompt(each)], grammar)[0].tokens for each in given] == expected
    assert [a.tokens for a in decode([Prompt(each) for each in given], grammar)] == expected
    # Each of them counts, also where the model has just seen others.
    pixels = given[0]["pixel_values"].clone()
    parts = pixels[0] if pixels.ndim == 5 else pixels
    parts[len(parts) // 2 :] = parts[: len(parts) // 2].clone()
    twice = dict(given[0], pixel_values=pixels)
    assert decode([Prompt(twice)], grammar)[0].tokens == [
        s.token for s in generate(kind.model, twice, grammar)
    ]
    before, after = (decode([Prompt(each)], grammar)[0] for each in (given[0], twice))
    first = [steps.steps[0].probabilities for steps in (before, after)]
    assert not torch.allclose(*first, rtol=1e-4)


def test_a_guess_that_is_right_then_wrong_then_right_changes_nothing(decode, case):
    given, grammar, expected = case
    prompts = []
    for each, answer in zip(given, expected, strict=True):
        others = [t for t in grammar.sets[answer[6] - 9] if t != answer[7]]
        prompts.append(Prompt(each, guesses=[[*answer[:7], int(others[0]), *answer[8:]]]))
    assert [decode([prompt], grammar)[0].tokens for prompt in prompts] == expected
    assert [answer.tokens for answer in decode(prompts, grammar)] == expected


def test_what_stands_before_the_picture_is_read_once(decode, kind, case):
    given, grammar, expected = case
    head = kind.head.index(IMAGE)
    read = []
    embedding = kind.model.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda _, ids, __: read.append(ids[0].shape[1]))
    try:
        for turn, (each, answer) in enumerate(zip(given, expected, strict=True)):
            read.clear()
            assert decode([Prompt(each)], grammar)[0].tokens == answer
            length = each["input_ids"].shape[1]
            if decode._static is not None:  # which pads what is behind the head
                padded = -(-(length - head) // 16) * 16
                assert read[0] == (head if head and turn == 0 else padded)
            elif decode._lean is None:  # which looks ids up itself
                assert read[0] == length - head * (turn > 0)
        # All together, and after prompts that begin otherwise.
        assert [a.tokens for a in decode([Prompt(each) for each in given], grammar)] == expected
        other = dict(given[0], input_ids=given[0]["input_ids"].clone())
        if head:
            other["input_ids"][0, 0] = 9
        reference = [step.token for step in generate(kind.model, other, grammar)]
        assert decode([Prompt(other)], grammar)[0].tokens == reference
        assert decode([Prompt(given[0])], grammar)[0].tokens == expected[0]
    finally:
        hook.remove()


def test_a_small_paligemma_is_computed_lean_and_as_well_without(numbers, monkeypatch):
    kind = paligemma()
    given, grammar = kind.inputs(0, [20, 30]), numbers(range(10, 260), 2, 20)
    lean = Decoder(kind.model)([Prompt(given)], grammar)[0]
    reads = []
    read = CachedForward.__call__
    monkeypatch.setattr(
        CachedForward, "__call__", lambda self, tokens: reads.append(1) or read(self, tokens)
    )
    Decoder(kind.model)([Prompt(given)], grammar)
    assert not reads
    monkeypatch.setattr("rt2_ros.models.lean.MAX_PARAMETERS", 0)
    general = Decoder(kind.model)([Prompt(given)], grammar)[0]
    assert len(reads) == 19
    assert general.tokens == lean.tokens
    assert lean.latency.keys() == general.latency.keys() == {"vision", "prefill", "decode"}


def test_a_prompt_without_what_says_how_it_attends_is_refused(numbers):
    kind = paligemma()
    given = kind.inputs(0, [20, 30])
    del given["token_type_ids"]
    with pytest.raises(ValueError, match="no token_type_ids"):
        Decoder(kind.model)([Prompt(given)], numbers(range(10, 260), 2, 20))


def test_a_static_cache_stops_guessing_before_an_answer_has_no_room(numbers):
    kind = llava()
    given, grammar = kind.inputs(0, [20, 30]), numbers(range(10, 260), 2, 120)
    steps = StaticSteps(kind.model)
    decode = Decoder(kind.model)
    expected = decode([Prompt(given)], grammar)[0].tokens
    wrong = [
        int(next(t for t in grammar.sets[0 if n == 0 else before - 9] if t != token))
        for n, (before, token) in enumerate(zip([0, *expected], expected[:-1], strict=False))
    ]
    ends = []

    class Noted(StaticForward):
        def __call__(self, tokens):
            hidden = super().__call__(tokens)
            ends.append((self._end, self._room.slots, max(map(len, tokens))))
            return hidden

    decode._forward = lambda inputs, stages: Noted(steps, inputs, stages)
    prompt = Prompt(given, guesses=[[*wrong, expected[-1]]])
    assert decode([prompt], grammar)[0].tokens == expected
    assert max(end for end, _, _ in ends) <= ends[0][1]
    assert ends[1][2] > 1 and ends[-1][2] == 1  # guesses first, none when room was short
    # The same cache serves the next prompt as if it were new.
    assert decode([Prompt(given)], grammar)[0].tokens == expected


def runs(numbers, run, length):
    """Numbers of which one in `run` is a choice, and the others must follow."""

    class Runs(numbers):
        def allowed(self, state):
            return super().allowed(state)[: 1 if state[0] % run else None]

    return Runs(range(10, 260), 2, length)


class Uneven(Bins):
    """Behind three of its choices 12, 9 or 3 tokens must follow."""

    def __init__(self):
        super().__init__()
        word, must = np.arange(300, 310), [np.array([n]) for n in range(310, 322)]
        self.sets = [word, *must, word, *must, word, *must, *self.sets]

    def advance(self, state, token):
        after = super().advance(state, token)
        return after + (0, 3, 9)[token % 3] if len(self.sets[state]) == 10 else after


@pytest.mark.parametrize(("window", "sizes"), [(8, [1, 1, 1]), (30, [1, 1, 1]), (170, [2, 1])])
def test_padding_does_not_take_the_place_of_tokens_in_a_sliding_window(monkeypatch, window, sizes):
    torch.manual_seed(2)
    kind, grammar = filled(paligemma2(window)), Uneven()
    given = [kind.inputs(seed, text) for seed, text in enumerate(([20, 21, 22], [30], [40] * 7))]
    expected = [[s.token for s in generate(kind.model, each, grammar)] for each in given]
    assert len({len(answer) for answer in expected}) > 1  # so there is padding between tokens
    decode, found = Decoder(kind.model), []
    batch = decode._batch
    monkeypatch.setattr(decode, "_batch", lambda p, *rest: found.append(len(p)) or batch(p, *rest))
    answers = decode([Prompt(each) for each in given], grammar, max_tokens=60)
    assert [answer.tokens for answer in answers] == expected
    assert found == sizes


def test_what_takes_the_slow_way_on_a_gpu_is_told(monkeypatch):
    gpu = property(lambda _: torch.device("cuda"))
    windowed, unknown = paligemma2().model, llava().model
    monkeypatch.setattr(type(windowed), "device", gpu)
    monkeypatch.setattr(type(unknown), "device", gpu)
    monkeypatch.setattr(unknown.config, "model_type", "llava_more")
    slow = "decisions take longer, without static caches and CUDA graphs: "
    with pytest.warns(UserWarning, match=f"{slow}layers of this paligemma see 8 tokens back only"):
        Decoder(windowed)
    with pytest.warns(UserWarning, match=f"{slow}model_type is llava_more, expected one of pali"):
        Decoder(unknown)


def most_slots(tokens):
    """That an answer may take, by how it is cut into blocks."""
    widths = [next(block for block in (*BLOCKS, n) if block >= n) for n in range(tokens + 1)]
    taken = [0]
    for count in range(1, tokens + 1):
        taken.append(max(widths[n] + taken[count - n] for n in range(1, count + 1)))
    return taken[tokens]


def test_a_static_cache_has_room_for_whatever_answer_in_blocks():
    assert most_slots(MOST_TOKENS) == 372 < ANSWER_ROOM < ROOM


@pytest.mark.parametrize("run", [3, 5, 17, 20, 33])
def test_answers_of_long_runs_have_room_behind_wrong_guesses(numbers, run):
    kind = llava()
    given, grammar = kind.inputs(0, [20, 30]), runs(numbers, run, MOST_TOKENS)
    expected = Decoder(kind.model)([Prompt(given)], grammar)[0].tokens
    steps, decode = StaticSteps(kind.model), Decoder(kind.model)
    played = Played(steps)
    decode._forward = lambda inputs, stages: StaticForward(steps, inputs, stages)
    wrong = [int(grammar.ids[(token - 9) % 200]) for token in expected]
    for guesses in ([], [wrong], [expected[: MOST_TOKENS // 2] + wrong[MOST_TOKENS // 2 :]]):
        assert decode([Prompt(given, guesses=guesses)], grammar)[0].tokens == expected
    recorded = [key for room in steps._rooms.values() for key in room.kept]
    assert {width for kind, width, *_ in recorded if kind == "block"} <= set(BLOCKS)
    assert played.replays


def changed_by(change):
    """A model of a text that caps its scores, which it itself does otherwise."""
    torch.manual_seed(0)
    kind = filled(llava(Gemma2Config(final_logit_softcapping=0.5, head_dim=16, **TEXT)))
    forward = kind.model.forward

    @wraps(forward)
    def other(*given, **named):
        out = forward(*given, **named)
        out.logits = change(out.logits)
        return out

    kind.model.forward = other
    return kind


@pytest.mark.parametrize(
    "change",
    [lambda x: x, lambda x: 0.5 * torch.tanh(x / 0.5), lambda x: x / 8, lambda x: 3 * x],
    ids=["not capped", "capped", "divided", "multiplied"],
)
def test_scores_are_those_of_the_whole_model(change, numbers):
    """A configuration may have a cap that the model does not apply, or a factor of its own name."""
    kind, grammar = changed_by(change), numbers(range(10, 260), 2, 20)
    given = kind.inputs(0, [20, 21, 22])
    (answer,) = Decoder(kind.model)([Prompt(given)], grammar)
    expected = generate(kind.model, given, grammar)
    assert answer.tokens == [step.token for step in expected]
    for ours, theirs in zip(answer.steps, expected, strict=True):
        torch.testing.assert_close(ours.probabilities, theirs.probabilities, rtol=1e-3, atol=1e-5)


def test_scores_that_are_changed_in_some_other_way_are_refused():
    with pytest.raises(ValueError, match="'llava' changes the scores of its output matrix in a wa"):
        Decoder(changed_by(torch.abs).model)


@pytest.mark.parametrize("config", [MllamaConfig(), Florence2Config()], ids=lambda c: c.model_type)
def test_models_that_read_pictures_beside_the_prompt_are_refused(config):
    """Their answers would be others than the model's own, and no less valid."""
    with pytest.raises(ValueError, match=f"model_type is '{config.model_type}', which reads its"):
        check_kind(SimpleNamespace(config=config))


def test_a_way_of_attending_that_is_not_known_is_refused():
    text = SimpleNamespace(use_bidirectional_attention="vision")  # Gemma 4's
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text))
    with pytest.raises(ValueError, match="use_bidirectional_attention is 'vision'; expected true"):
        both_ways(model)


def test_an_image_token_beyond_the_embedding_is_read_on_a_cpu_too(monkeypatch, numbers):
    monkeypatch.setattr(architectures, "IMAGE", TEXT["vocab_size"])
    torch.manual_seed(0)
    kind, grammar = filled(paligemma()), numbers(range(10, 260), 2, 20)
    decode, given = Decoder(kind.model), kind.inputs(0, [20, 21, 22])
    assert decode._lean is not None
    expected = [step.token for step in generate(kind.model, given, grammar)]
    assert decode([Prompt(given)], grammar)[0].tokens == expected
