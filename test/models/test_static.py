# SPDX-License-Identifier: Apache-2.0
"""What a GPU does with the decoder, without one: recordings are played by a stand-in."""

import contextlib
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
from rt2_ros.models.graphs import Recording, current
from rt2_ros.models.static import StaticForward, StaticSteps
from rt2_ros.models.text import FusedText, HubText, text_model

from .architectures import IMAGE, filled, idefics3, llava, paligemma, qwen2_5_vl, smolvlm

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = (llava, idefics3, smolvlm, qwen2_5_vl, paligemma)


class Bins:
    """Eight integers of one token each as an action has them: two that may be one of two, and a
    separator that must come in the middle.
    """

    def __init__(self):
        switch, end = np.arange(20, 22), np.array([2])
        some, every = [np.arange(20 + k, 270 + k) for k in range(3)], np.arange(20, 276)
        self.sets = [switch, *some, np.array([15]), *[every] * 3, np.arange(30, 32), end]

    def start(self):
        return 0

    def allowed(self, state):
        return self.sets[state] if state < len(self.sets) else np.array([])

    def advance(self, state, token):
        if token not in self.allowed(state):
            raise ValueError(f"token {token} is not allowed here")
        return state + 1

    def done(self, state):
        return state == len(self.sets)


class Worded(Bins):
    """The same after a word of one to three tokens, which leads elsewhere."""

    def __init__(self):
        super().__init__()
        self.sets = [np.arange(300, 310), np.arange(300, 310), np.array([16]), *self.sets]

    def advance(self, state, token):
        after = super().advance(state, token)
        return 2 if state == 0 and token % 2 else after


class Played:
    """Instead of a CUDA graph: a replay computes again what was recorded, to the same places."""

    def __init__(self, steps):
        self.count = self.replays = 0
        steps.graphs.records = True
        steps.graphs.warm_up = lambda compute: compute()
        steps.graphs.capture = self.capture

    def capture(self, compute):
        self.count += 1
        outputs = compute()

        def replay():
            self.replays += 1
            for output, value in zip(outputs, compute(), strict=True):
                output.copy_(value)

        return Recording(replay, outputs, compute)


@pytest.fixture(scope="module", params=KINDS, ids=lambda build: build.__name__)
def kind(request):
    torch.manual_seed(0)
    return filled(request.param())


def static(model):
    """The decoder as it is on a GPU."""
    decode = Decoder(model)
    decode._lean, decode._static = None, StaticSteps(model)
    return decode


TEXTS = ([20, 21, 22], [30], [40, 41, 42, 43, 44, 45, 46], list(range(60, 80)), [50, 51])


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


def test_what_does_not_record_is_computed_without_and_said_once(given, kind):
    decode, grammar = static(kind.model), Bins()

    def refuse(compute):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    Played(decode._static)
    decode._static.graphs.capture = refuse
    expected = [[s.token for s in generate(kind.model, each, grammar)] for each in given]
    with pytest.warns(UserWarning, match="no CUDA graph for the .*: operation not perm") as said:
        for _ in range(2):
            assert [decode([Prompt(g)], grammar)[0].tokens for g in given] == expected
    kinds = set(decode._static.graphs.lost)
    assert {"prompt", "answer"} <= kinds <= {"picture", "prompt", "answer"}
    assert len(said) == len(kinds)


@pytest.mark.parametrize(
    "replay", [lambda outputs: [o.mul_(2) for o in outputs], lambda _: None], ids=["twice", "empty"]
)
def test_a_replay_that_differs_is_not_used(given, kind, replay):
    decode, grammar = static(kind.model), Bins()

    class Wrong(Played):
        def capture(self, compute):
            recording = super().capture(compute)
            return recording._replace(replay=lambda: replay(recording.outputs))

    Wrong(decode._static)
    expected = [[s.token for s in generate(kind.model, each, grammar)] for each in given[:2]]
    assert expected[0] != expected[1]
    with pytest.warns(UserWarning, match="its replay differs"):
        for each, answer in zip(given[:2] * 2, expected * 2, strict=True):
            assert decode([Prompt(each)], grammar)[0].tokens == answer


def test_a_model_on_another_gpu_than_the_current_one_is_decoded_on_its_own(monkeypatch):
    entered = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: entered.append(device) or "its own")
    assert current(torch.device("cuda", 1)) == "its own" and entered == [torch.device("cuda", 1)]
    with current(torch.device("cpu")):
        assert len(entered) == 1


def test_what_fails_at_all_goes_the_slower_way_with_one_warning(given, kind, monkeypatch):
    decode, grammar = static(kind.model), Bins()
    expected = [[s.token for s in generate(kind.model, each, grammar)] for each in given]

    def fail(*_):
        raise RuntimeError("CUDA error: no kernel image is available")

    monkeypatch.setattr(decode._static.text, "read", fail)
    prompts = [Prompt(each) for each in given]
    with pytest.warns(UserWarning, match="without static caches .*no kernel image") as said:
        assert [a.tokens for a in decode(prompts, grammar)] == expected
        assert [a.tokens for a in decode(prompts, grammar)] == expected
    assert len(said) == 1


def test_a_choice_against_the_grammar_is_no_answer(given, kind, monkeypatch):
    decode, grammar = static(kind.model), Bins()
    expected = [s.token for s in generate(kind.model, given[0], grammar)]
    pick = decode._head.pick
    monkeypatch.setattr(
        decode._head, "pick",
        lambda hidden, allowed, smoothing: (
            torch.full((len(hidden),), 390), pick(hidden, allowed, smoothing)[1]
        ),
    )  # fmt: skip
    # The slower way asks the same head here.
    against = pytest.warns(UserWarning, match="chosen against the grammar")
    with against, contextlib.suppress(ValueError):
        decode([Prompt(given[0])], grammar)
    monkeypatch.undo()
    assert decode([Prompt(given[0])], grammar)[0].tokens == expected


def test_too_little_memory_halves_the_batch(given, kind, monkeypatch):
    decode, grammar = static(kind.model), Bins()
    expected = [[s.token for s in generate(kind.model, each, grammar)] for each in given]
    read = decode._static.text.read

    def small(cache, x, *rest):
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(cache, x, *rest)

    monkeypatch.setattr(decode._static.text, "read", small)
    with pytest.warns(UserWarning, match="too little memory for . sequences") as said:
        assert [a.tokens for a in decode([Prompt(g) for g in given], grammar)] == expected
    assert len(said) == 2 and decode._most == 2


def test_one_sequence_may_have_the_memory_of_rooms_that_lie_idle(given, kind, monkeypatch):
    decode, grammar = static(kind.model), Bins()
    expected = [s.token for s in generate(kind.model, given[3], grammar)]
    assert len(decode([Prompt(each) for each in given[:3]], grammar)) == 3
    read, room = decode._static.text.read, [1]

    def small(*given):
        if len(decode._static._rooms) > room[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(*given)

    monkeypatch.setattr(decode._static.text, "read", small)
    assert decode([Prompt(given[3])], grammar)[0].tokens == expected
    room[0] = 0
    with pytest.raises(RuntimeError, match="cpu has too little memory for one sequence"):
        decode([Prompt(given[3])], grammar)


def test_a_picture_of_another_size_than_its_tokens_is_refused(kind, given):
    decode = static(kind.model)
    wrong = dict(given[0])
    ids = wrong["input_ids"].clone()
    ids[0, (ids[0] == 390).nonzero()[0]] = 9
    wrong["input_ids"] = ids
    with pytest.raises(ValueError, match="image tokens, the pictures make"):
        decode([Prompt(wrong)], Bins())


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
