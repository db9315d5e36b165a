# SPDX-License-Identifier: Apache-2.0
"""What a GPU does with the decoder: the tokens of `generate`, from recordings."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rt2_ros.models.ahead import Lookahead, ahead
from rt2_ros.models.constrain import NO_SMOOTHING, Held, Smoothing, generate
from rt2_ros.models.decode import Decoder, Prompt
from rt2_ros.models.forward import Stages
from rt2_ros.models.static import StaticForward
from rt2_ros.models.text import FusedText, HubText, text_model

from .architectures import IMAGE, filled, llava
from .recordings import KINDS, TEXTS, Bins, Played, Worded, static

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=KINDS, ids=lambda build: build.__name__)
def kind(request):
    torch.manual_seed(0)
    return filled(request.param())


@pytest.fixture
def given(kind):
    return [kind.inputs(seed, text) for seed, text in enumerate(TEXTS)]


@pytest.mark.parametrize("width", [0, 3], ids=["plain", "smoothed"])
@pytest.mark.parametrize("grammar", [Bins(), Worded()], ids=["bins", "word and bins"])
def test_recordings_write_the_tokens_of_generate(kind, given, grammar, width):
    smoothing = Smoothing({token: token - 20 for token in range(20, 276)}, width)
    expected = [
        [s.token for s in generate(kind.model, each, grammar, smoothing=smoothing)]
        for each in given
    ]
    assert len({tuple(answer) for answer in expected}) > 2
    decode = static(kind.model)
    played = Played(decode._static)
    assert isinstance(decode._static.text, FusedText)
    prompts = [Prompt(each) for each in given]
    for turn in range(3):
        for prompt, answer in zip(prompts, expected, strict=True):
            assert decode([prompt], grammar, smoothing=smoothing)[0].tokens == answer
        for size in (2, 3, 5):
            found = decode(prompts[:size], grammar, smoothing=smoothing)
            assert [answer.tokens for answer in found] == expected[:size]
        if turn == 0:
            count = played.count
        prompts, expected = prompts[::-1], expected[::-1]
    assert not decode._static.graphs.lost
    # The other way round batches have other widths; nothing else is new the third time.
    assert count and played.replays > 2 * count


def test_probabilities_are_those_of_generate(kind, given):
    decode, grammar = static(kind.model), Bins()
    for answer, each in zip(decode([Prompt(g) for g in given], grammar), given, strict=True):
        for fast, reference in zip(answer.steps, generate(kind.model, each, grammar), strict=True):
            np.testing.assert_array_equal(fast.allowed, reference.allowed)
            torch.testing.assert_close(
                fast.probabilities, reference.probabilities, atol=1e-5, rtol=0
            )


def test_a_guess_shortens_the_rest_and_changes_nothing(kind, given):
    decode, grammar = static(kind.model), Bins()
    Played(decode._static)
    for each in given * 2:
        right = [s.token for s in generate(kind.model, each, grammar)]
        for wrong in (None, 0, 3, 7):
            guess = list(right)
            if wrong is not None:
                guess[wrong] = int(next(t for t in grammar.sets[wrong] if t != right[wrong]))
            before = decode.forwards
            assert decode([Prompt(each, guesses=[guess])], grammar)[0].tokens == right
            left = [] if wrong is None else grammar.sets[wrong + 1 :]
            assert decode.forwards - before == 1 + sum(len(allowed) > 1 for allowed in left)


@pytest.mark.parametrize("places", [(0,), (0, 5), (4, 8)], ids=str)
def test_what_is_held_stands_and_the_rest_follows_from_it(kind, given, places):
    grammar, state, held = Worded(), 0, {}
    for place, step in enumerate(generate(kind.model, given[0], grammar)):
        held |= {state: step} if place in places else {}
        state = grammar.advance(state, step.token)
    holding, free = Held(grammar, held), [s for s in range(len(grammar.sets)) if s not in held]
    expected = [[s.token for s in generate(kind.model, each, holding)] for each in given[1:]]
    alone = [[s.token for s in generate(kind.model, each, grammar)] for each in given[1:]]
    assert expected != alone and len(free) == len(grammar.sets) - len(places)
    prompts = [Prompt(each, held=held) for each in given[1:]]
    recording = static(kind.model)
    Played(recording._static)
    for decode in (recording, Decoder(kind.model)):
        assert [answer.tokens for answer in decode(prompts, grammar)] == expected
        assert [decode([prompt], grammar)[0].tokens for prompt in prompts] == expected
        mixed = decode([prompts[0], replace(prompts[1], held={}), prompts[2]], grammar)
        assert [answer.tokens for answer in mixed] == [expected[0], alone[1], expected[2]]
        guess = replace(prompts[0], guesses=[expected[0]])
        (found,) = decode([guess], grammar)
        assert found.tokens == expected[0]
        assert {id(step) for step in held.values()} <= {id(step) for step in found.steps}


def test_what_may_come_can_be_less_than_the_grammar_allows(kind, given):
    grammar = Worded()
    free = [[s.token for s in generate(kind.model, each, grammar)] for each in given]
    less = {place: np.setdiff1d(grammar.sets[place], [a[place] for a in free]) for place in (0, 4)}
    holding = Held(grammar, {}, only=less)
    expected = [[s.token for s in generate(kind.model, each, holding)] for each in given]
    assert all(answer[0] != other[0] for answer, other in zip(expected, free, strict=True))
    recording = static(kind.model)
    Played(recording._static)
    for decode in (recording, Decoder(kind.model)):
        for guess in ([], [free[0]]):
            prompts = [Prompt(each, only=less, guesses=guess) for each in given]
            assert [answer.tokens for answer in decode(prompts, grammar)] == expected
            assert [decode([prompt], grammar)[0].tokens for prompt in prompts] == expected


def test_the_module_itself_is_read_as_well(kind, given, monkeypatch):
    monkeypatch.setattr("rt2_ros.models.text.KINDS", ())
    decode, grammar = static(kind.model), Worded()
    Played(decode._static)
    assert isinstance(decode._static.text, HubText)
    expected = [[s.token for s in generate(kind.model, each, grammar)] for each in given]
    for _ in range(2):
        assert [a.tokens for a in decode([Prompt(g) for g in given], grammar)] == expected
        assert [decode([Prompt(g)], grammar)[0].tokens for g in given] == expected


def test_a_rest_is_known_where_choices_lead_to_the_same_place(numbers):
    grammar = Bins()
    rest = ahead(grammar, 0)
    assert [len(c) for c in rest.choices] == [2, 250, 250, 250, 256, 256, 256, 2]
    assert rest.forced == ((), (), (), (15,), (), (), (), (2,))
    assert rest.tokens == 10
    assert ahead(Worded(), 0) is None
    assert ahead(Worded(), 1).tokens == 12
    assert ahead(numbers(range(10, 260), 2, 20), (0, 0)) is None
    known = Lookahead(grammar)
    assert known(0) is known(0)


def test_fused_weights_are_the_modules_own(kind):
    model = kind.model
    count = sum(p.numel() for p in model.parameters())
    text = text_model(model)
    layer = (model.base_model.language_model if hasattr(model.base_model, "language_model")
             else model.base_model.text_model).layers[0]  # fmt: skip
    assert layer.self_attn.q_proj.weight.data_ptr() == text._layers[0].qkv.data_ptr()
    assert layer.mlp.gate_proj.weight.data_ptr() == text._layers[0].gate_up.data_ptr()
    assert sum(p.numel() for p in model.parameters()) == count
    again = text_model(model)  # another decoder's
    for one, other in zip(text._layers, again._layers, strict=True):
        assert one.qkv.data_ptr() == other.qkv.data_ptr()
        assert one.gate_up.data_ptr() == other.gate_up.data_ptr()
        assert torch.equal(one.qkv, other.qkv) and one.qkv.shape == other.qkv.shape


def test_a_language_model_that_computes_something_else_is_not_fused(monkeypatch):
    monkeypatch.setattr(FusedText, "_normed", lambda self, x, gain: x * 1.1)
    with pytest.warns(UserWarning, match="differs from it by"):
        assert isinstance(text_model(llava().model.eval()), HubText)


@pytest.mark.parametrize("failure", [RuntimeError, ImportError, AttributeError, TypeError])
def test_a_language_model_of_other_inner_parts_is_not_fused(monkeypatch, failure):
    def fail(*_):
        raise failure("no attribute 'up_proj'\nmore")

    monkeypatch.setattr("rt2_ros.models.text._joined", fail)
    with pytest.warns(UserWarning, match="which takes longer: no attribute 'up_proj'$"):
        assert isinstance(text_model(llava().model.eval()), HubText)


class Apart(TorchDispatchMode):
    """Refuses what a CUDA graph cannot record, on the meta device in a GPU's place, from which
    nothing can be read: tensors that are made of, or copied from, the host's.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = "lift_fresh" in str(func)
        devices = {t.device.type for t in (*args, out) if isinstance(t, torch.Tensor)}
        copied = "copy" in str(func) and devices == {"cpu", "meta"}
        assert not made and not copied, func
        return out


@torch.inference_mode()
def test_what_is_recorded_asks_the_host_nothing_and_takes_nothing_from_it(kind, given, monkeypatch):
    monkeypatch.setattr("rt2_ros.models.text._difference", lambda *_: "")
    model = copy.deepcopy(kind.model).to("meta")
    decode = static(model)
    recorded = set()

    def run(kept, key, compute):
        compute()  # makes its tables
        with Apart():
            outputs = compute()
        recorded.add(key[0])
        # What must be read must be something.
        real = [torch.zeros(out.shape, dtype=out.dtype) for out in outputs]
        return real if key[0] == "answer" else outputs

    monkeypatch.setattr(decode._static.graphs, "run", run)
    known = kind.model.config.model_type in ("paligemma", "llava", "qwen2_5_vl")
    if not known:  # its pictures are not recorded
        tokens = sum(kind.head.count(IMAGE) for _ in given[:4])
        features = torch.empty(tokens, 64, device="meta")
        monkeypatch.setattr(decode._static, "pictures", lambda *_: features)
    smoothing = Smoothing({token: token - 20 for token in range(20, 276)}, 3)
    forward = StaticForward(decode._static, given[:4], Stages(model.device))
    forward([[]] * 4)
    forward([[40, 41]] * 4)
    forward.finish(ahead(Bins(), 0), [[41, 42]] * 4, decode._head, smoothing)
    assert recorded == {"prompt", "block", "answer"} | ({"picture"} if known else set())


def test_nothing_is_spread_without_a_width():
    assert NO_SMOOTHING.kernel([1, 2], torch.device("cpu")) is None
