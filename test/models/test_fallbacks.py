# SPDX-License-Identifier: Apache-2.0
"""What a GPU refuses or has no room for is decoded otherwise, with one warning: the same tokens."""

import contextlib

import pytest
import torch

from rt2_ros.models.constrain import generate
from rt2_ros.models.decode import Prompt
from rt2_ros.models.graphs import current
from rt2_ros.models.lean import lean_weights
from rt2_ros.models.tiny import build_model, build_processor

from .architectures import filled
from .recordings import KINDS, TEXTS, Bins, Played, static

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=KINDS, ids=lambda build: build.__name__)
def kind(request):
    torch.manual_seed(0)
    return filled(request.param())


@pytest.fixture
def given(kind):
    return [kind.inputs(seed, text) for seed, text in enumerate(TEXTS)]


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


def test_a_model_is_decoded_with_its_own_device_as_the_current_one(given, kind, monkeypatch):
    decode, entered, decoded = static(kind.model), [], []

    @contextlib.contextmanager
    def spy(device):
        entered.append(device)
        yield
        entered.pop()

    monkeypatch.setattr("rt2_ros.models.decode.current", spy)
    batch = decode._batch
    monkeypatch.setattr(
        decode, "_batch", lambda *args: (decoded.append(list(entered)), batch(*args))[1]
    )
    decode([Prompt(each) for each in given], Bins())
    assert decoded and all(each == [kind.model.device] for each in decoded) and not entered


def test_the_current_device_is_changed_for_a_gpu_alone(monkeypatch):
    entered = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: entered.append(device) or "its own")
    assert current(torch.device("cuda", 1)) == "its own" and entered == [torch.device("cuda", 1)]
    with current(torch.device("cpu")):
        assert len(entered) == 1


@pytest.mark.parametrize("failure", [RuntimeError, AttributeError, TypeError])
def test_a_paligemma_of_other_inner_parts_is_not_read_by_the_lean_forward(monkeypatch, failure):
    def fail(*_):
        raise failure("no attribute 'encoder'\nmore")

    model = build_model(build_processor(), hidden=96, text_layers=1).eval()
    assert lean_weights(model) is not None
    monkeypatch.setattr("rt2_ros.models.lean._see", fail)
    with pytest.warns(UserWarning, match="the slower way: no attribute 'encoder'$"):
        assert lean_weights(model) is None


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("CUDA error: no kernel image is available"),
        ImportError("cannot import name 'vision_utils': no kernel image"),
        AttributeError("module has no attribute 'visual': no kernel image"),
        TypeError("unexpected keyword argument 'grid_thw': no kernel image"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_what_fails_at_all_goes_the_slower_way_with_one_warning(given, kind, monkeypatch, failure):
    decode, grammar = static(kind.model), Bins()
    expected = [[s.token for s in generate(kind.model, each, grammar)] for each in given]

    def fail(*_):
        raise failure

    monkeypatch.setattr(decode._static.text, "read", fail)
    prompts = [Prompt(each) for each in given]
    with pytest.warns(UserWarning, match="without static caches .*no kernel image") as said:
        assert [a.tokens for a in decode(prompts, grammar)] == expected
        assert [a.tokens for a in decode(prompts, grammar)] == expected
    assert len(said) == 1


def test_an_answer_without_room_goes_the_slower_way_with_one_warning(
    given, kind, numbers, monkeypatch
):
    monkeypatch.setattr("rt2_ros.models.static.ROOM", 0)
    decode, grammar = static(kind.model), numbers(range(10, 260), 2, 80)
    prompts, expected = [Prompt(each) for each in given[:2]], []
    for each in given[:2]:
        expected.append([s.token for s in generate(kind.model, each, grammar)])
    with pytest.warns(UserWarning, match="without static caches .* the static cache has") as said:
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
        answers = decode([Prompt(g) for g in given], grammar)
    assert [answer.tokens for answer in answers] == expected
    assert len(said) == 2 and decode._most == 2
    assert answers[0].latency == answers[-1].latency  # of all parts together


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
