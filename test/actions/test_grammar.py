# SPDX-License-Identifier: Apache-2.0
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt2_ros.actions import (
    AnswerGrammar,
    Grammar,
    LeastUsedTokens,
    OpenVLATokens,
    answer_text,
    choose_vocabulary,
    parse,
)
from rt2_ros.actions.tokens import continuation

BINS = [1, 127, 255, 0, 10, 100, 99, 200]
ACTIONS = st.tuples(st.integers(0, 1), *[st.integers(0, 255)] * 7).map(list)
MAX_PLAN = 6


@pytest.fixture(scope="session")
def grammars(tokenizers, space, openvla_space):
    """Every kind of tokenizer and vocabulary, plans optional."""
    found = {
        name: Grammar(choose_vocabulary(t), space, max_plan_tokens=MAX_PLAN)
        for name, t in tokenizers.items()
    }
    llama = tokenizers["llama"]
    least = LeastUsedTokens.choose(llama)
    found["least used"] = Grammar(least, space, max_plan_tokens=MAX_PLAN)
    found["openvla"] = Grammar(OpenVLATokens(llama), openvla_space, plan="none")
    return found


def walk(grammar, seed, toward_end=0.3):
    """A random answer that the grammar allows."""
    dice = random.Random(seed)
    state, ids = grammar.start(), []
    while not grammar.done(state):
        allowed = grammar.allowed(state)
        assert len(allowed), "a walk must never get stuck"
        token = int(allowed[dice.randrange(len(allowed))])
        if grammar.in_plan(state) and dice.random() < toward_end:
            token = next((i for i in allowed.tolist() if i not in grammar._free_set), token)
        ids.append(token)
        state = grammar.advance(state, token)
    return ids


def test_the_exact_answer_of_the_default_tokenizer(grammars, tokenizers):
    grammar, tokenizer = grammars["wordpiece"], tokenizers["wordpiece"]
    ids = grammar.encode(BINS, "apple 131 87")
    assert tokenizer.convert_ids_to_tokens(ids) == [
        *["Plan:", "apple", "131", "87", ".", "Action:"],
        *["1", "127", "255", "0", "10", "100", "99", "200", "<eos>"],
    ]
    assert ids[:-1] == tokenizer.encode(answer_text(BINS, "apple 131 87"), add_special_tokens=False)


def test_what_may_come_next_with_whole_integers(tokenizers, space):
    tokenizer = tokenizers["wordpiece"]
    grammar = Grammar(choose_vocabulary(tokenizer), space, plan="none")
    number = tokenizer.convert_tokens_to_ids
    state = grammar.start()
    assert grammar.allowed(state).tolist() == sorted(number(["0", "1"]))
    state = grammar.advance(state, number("1"))
    for _ in range(7):
        expected = sorted(number([str(b) for b in range(256)]))
        assert grammar.allowed(state).tolist() == expected
        state = grammar.advance(state, number("255"))
    assert grammar.allowed(state).tolist() == [tokenizer.eos_token_id]
    assert not grammar.done(state)
    state = grammar.advance(state, tokenizer.eos_token_id)
    assert grammar.done(state) and grammar.allowed(state).tolist() == []


def test_what_may_come_next_with_digits(tokenizers, space):
    tokenizer = tokenizers["gemma"]
    grammar = Grammar(choose_vocabulary(tokenizer), space, plan="none")

    def after(text):
        state = grammar.start()
        for i in tokenizer.convert_tokens_to_ids(text.split(",")):
            state = grammar.advance(state, i)
        return "".join(sorted(tokenizer.convert_ids_to_tokens(grammar.allowed(state).tolist())))

    assert grammar.allowed(grammar.start()).tolist() == [tokenizer.convert_tokens_to_ids("▁")]
    assert after("▁") == "01"
    assert after("▁,1") == "▁"  # terminate is 0 or 1: no 10, no 100
    assert after("▁,1,▁") == "0123456789"
    assert after("▁,1,▁,0") == "▁"  # no leading zeros
    assert after("▁,1,▁,2") == "0123456789▁"
    assert after("▁,1,▁,2,5") == "012345▁"
    assert after("▁,1,▁,2,6") == "▁"
    assert after("▁,1,▁,2,5,5") == "▁"
    assert after("▁,1" + ",▁,9" * 7) == "0123456789<eos>"


def test_a_plan_may_be_left_out_asked_for_or_forbidden(tokenizers, space):
    tokenizer = tokenizers["wordpiece"]
    vocabulary = choose_vocabulary(tokenizer)
    starts = {"none": ["0", "1"], "optional": ["0", "1", "Plan:"], "required": ["Plan:"]}
    for mode, expected in starts.items():
        grammar = Grammar(vocabulary, space, plan=mode)
        ids = grammar.allowed(grammar.start()).tolist()
        assert sorted(tokenizer.convert_ids_to_tokens(ids)) == expected
    assert not grammar.accepts(Grammar(vocabulary, space).encode(BINS))
    with pytest.raises(ValueError, match="but the grammar has none"):
        Grammar(vocabulary, space, plan="none").encode(BINS, "apple")


def test_a_plan_holds_text_only(grammars, tokenizers):
    for name in ("wordpiece", "qwen", "llama", "least used"):
        grammar, tokenizer = grammars[name], grammars[name].vocabulary.tokenizer
        state = grammar.start()
        for i in continuation(tokenizer, "Plan:"):
            assert not grammar.in_plan(state)
            state = grammar.advance(state, i)
        assert grammar.in_plan(state)
        allowed = set(grammar.allowed(state).tolist())
        assert not allowed & set(tokenizer.all_special_ids)
        assert not allowed & grammar.vocabulary.overwritten
        colons = {i for t, i in tokenizer.get_vocab().items() if ":" in t}
        marker = continuation(tokenizer, "Action:")
        assert allowed & colons == (set(marker) if len(marker) == 1 else set())


def test_forbidden_tokens_stay_out_of_a_plan(tokenizers, space):
    tokenizer = tokenizers["wordpiece"]
    banana = tokenizer.convert_tokens_to_ids("banana")
    grammar = Grammar(choose_vocabulary(tokenizer), space, forbidden=[banana])
    grammar.encode(BINS, "apple")
    with pytest.raises(ValueError, match="'banana' cannot come as token 1"):
        grammar.encode(BINS, "banana")


def test_after_its_length_the_end_of_a_plan_is_forced(grammars):
    for name in ("wordpiece", "qwen", "llama"):
        grammar = grammars[name]
        tokenizer = grammar.vocabulary.tokenizer
        marker = list(continuation(tokenizer, "Action:", "A: Plan: 0"))
        for text in ("a" * 99, "Act" * 33):  # the second stops amid the marker's own letters
            state = grammar.start()
            for i in continuation(tokenizer, "Plan:"):
                state = grammar.advance(state, i)
            letters = [i for i in tokenizer.convert_tokens_to_ids(list(text)) if i is not None]
            letters = [i for i in letters if i in grammar._free_set][:MAX_PLAN]
            for i in letters:
                state = grammar.advance(state, i)
            forced = []
            while grammar.in_plan(state):
                (only,) = grammar.allowed(state).tolist()
                forced.append(only)
                state = grammar.advance(state, only)
            assert (letters + forced)[-len(marker) :] == marker
    with pytest.raises(ValueError, match="at most 6 tokens.*cannot come as token 7"):
        grammars["wordpiece"].encode(BINS, "a b c d e f g h")


@pytest.mark.parametrize("name", ["wordpiece", "gpt2", "qwen", "llama3", "gemma", "marked digits",
                                  "llama", "least used", "openvla"])  # fmt: skip
@given(seed=st.integers(0, 2**32))
@settings(max_examples=60)
def test_every_allowed_answer_parses(grammars, name, seed):
    grammar = grammars[name]
    ids = walk(grammar, seed)
    text = grammar.vocabulary.text(ids)
    parsed = parse(text, grammar.space)
    assert parsed.valid, (parsed.reason, text)
    assert grammar.accepts(ids)
    assert grammar.read(ids).bins.tolist() == parsed.bins.tolist()
    assert grammar.accepts(grammar.encode(parsed.bins))


@pytest.mark.parametrize("name", ["wordpiece", "qwen", "gemma", "llama", "least used", "openvla"])
@given(seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=60)
def test_no_other_does(grammars, name, seed, data):
    """Tokens of an answer taken away, put in, exchanged: allowed only if it still parses."""
    grammar = grammars[name]
    ids = walk(grammar, seed)
    others = st.sampled_from([*ids, *grammar.vocabulary.tokenizer.get_vocab().values()])
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, max(0, len(ids) - 1)))
        new = data.draw(st.lists(others, max_size=2))
        ids[at : at + data.draw(st.integers(0, 1))] = new
    if grammar.accepts(ids):
        assert parse(grammar.vocabulary.text(ids), grammar.space).valid
    eos = grammar.vocabulary.tokenizer.eos_token_id
    if not parse(grammar.vocabulary.text(ids), grammar.space).valid:
        assert not grammar.accepts(ids)
        assert not grammar.accepts([*ids, eos])
        assert not grammar.read(ids).valid


@given(bins=ACTIONS, plan=st.sampled_from([None, "apple", "up 1 2", "left"]))
@settings(max_examples=40)
def test_every_action_can_be_written(grammars, bins, plan):
    for name in ("wordpiece", "qwen", "gemma"):
        grammar = grammars[name]
        ids = grammar.encode(bins, plan)
        assert grammar.accepts(ids)
        parsed = grammar.read(ids)
        assert parsed.bins.tolist() == bins and parsed.plan == (plan or "")


@pytest.mark.parametrize(
    "text",
    [
        "0 127 140 118 127 127 127",
        "0 127 140 118 127 127 127 255 3",
        "0 127 140 256 127 127 127 255",
        "0 127 140 -1 127 127 127 255",
        "2 127 140 118 127 127 127 255",
        "nan nan nan nan nan nan nan nan",
        "pick up the apple",
        "",
        "Action: 0 127 140 118 127 127 127 255",
        "Plan: up. Action: Action: 0 127 140 118 127 127 127 255",
        "Plan: up. Action: 0 1 2 3 4 5 6 7 Action: 0 1 2 3 4 5 6 7",
        "Plan: Plan: up. Action: 0 127 140 118 127 127 127 255",
    ],
)
def test_what_does_not_parse_is_not_allowed(grammars, text):
    for name in ("wordpiece", "gpt2", "qwen", "llama3", "gemma", "marked digits", "llama"):
        grammar = grammars[name]
        tokenizer = grammar.vocabulary.tokenizer
        ids = list(continuation(tokenizer, text)) if text else []
        assert not grammar.accepts([*ids, tokenizer.eos_token_id])
        parsed = grammar.read([*ids, tokenizer.eos_token_id])
        assert not parsed.valid and parsed.reason


def test_an_answer_cut_short_is_not_taken_for_another(grammars):
    digits, whole = grammars["gemma"], grammars["wordpiece"]
    ids = digits.encode([0, 1, 2, 3, 4, 5, 6, 127])
    assert digits.read(ids[:-2]).reason == "the answer is cut off: no end token"  # "... 12"
    assert digits.read(ids).bins.tolist()[-1] == 127
    assert digits.read(digits.encode([0, 1, 2, 3, 4, 5, 6, 255])[:-1]).valid  # nothing can follow
    assert whole.read(whole.encode(BINS)[:-1]).valid


def test_a_token_that_is_not_allowed_is_refused(grammars):
    for grammar in grammars.values():
        eos = grammar.vocabulary.tokenizer.eos_token_id
        with pytest.raises(ValueError, match=f"token {eos} is not allowed here"):
            grammar.advance(grammar.start(), eos)


def test_openvla_writes_seven_tokens(grammars):
    grammar = grammars["openvla"]
    ids = grammar.encode([0, 127, 127, 127, 127, 127, 0, 255])
    assert ids == [31872] * 5 + [31999, 31744, 2]
    assert grammar.read(ids[:-1]).bins.tolist() == [0, 127, 127, 127, 127, 127, 0, 255]


def test_markers_that_do_not_survive_are_refused(make_wordpiece, space):
    """A lower-casing tokenizer without "Action:" as a token of its own."""
    vocabulary = choose_vocabulary(make_wordpiece(markers=("A:",)))
    with pytest.raises(ValueError, match="add 'Plan:' and 'Action:' to it as tokens"):
        Grammar(vocabulary, space)
    Grammar(vocabulary, space, plan="none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plan": "maybe"}, "plan: 'maybe', expected one of none, optional, required"),
        ({"max_plan_tokens": 0}, "max_plan_tokens: 0, expected 1 or more"),
        (
            {"max_plan_tokens": 190},
            "max_plan_tokens: 190, expected at most 181 with this tokenizer",
        ),
    ],
)
def test_bad_options_are_named(tokenizers, space, options, message):
    with pytest.raises(ValueError, match=message):
        Grammar(choose_vocabulary(tokenizers["wordpiece"]), space, **options)


def test_the_same_situation_has_the_same_array(grammars):
    for grammar in grammars.values():
        first = [grammar.allowed(s) for s in states(grammar)]
        again = [grammar.allowed(s) for s in states(grammar)]
        assert all(a is b for a, b in zip(first, again, strict=True))
        assert all(np.all(np.diff(a) > 0) for a in first)
        with pytest.raises(ValueError, match="read-only"):
            first[0][0] = 7


def test_a_step_is_cheap(grammars):
    grammar = grammars["qwen"]
    ids = grammar.encode(BINS, "up")
    start = time.thread_time()
    for _ in range(100):
        for s in states(grammar, ids):
            grammar.allowed(s)
    assert (time.thread_time() - start) / (100 * len(ids)) < 1e-4  # s; about 2e-6 here


def states(grammar, ids=None):
    state = grammar.start()
    yield state
    for i in ids or grammar.encode([0] * 8):
        state = grammar.advance(state, i)
        yield state


def test_free_text_ends_and_is_bounded(tokenizers):
    tokenizer = tokenizers["wordpiece"]
    eos = tokenizer.eos_token_id
    grammar = AnswerGrammar(choose_vocabulary(tokenizer), max_tokens=2)
    state = grammar.start()
    free = set(grammar.allowed(state).tolist())
    assert not free & set(tokenizer.all_special_ids)  # at least one token of text
    state = grammar.advance(state, tokenizer.convert_tokens_to_ids("apple"))
    assert set(grammar.allowed(state).tolist()) == free | {eos}
    assert grammar.done(grammar.advance(state, eos))
    state = grammar.advance(state, tokenizer.convert_tokens_to_ids("apple"))
    assert grammar.allowed(state).tolist() == [eos]
    state = grammar.advance(state, eos)
    assert grammar.done(state) and grammar.allowed(state).tolist() == []
    for bad in (eos, tokenizer.convert_tokens_to_ids("apple")):
        with pytest.raises(ValueError, match="is not allowed here"):
            grammar.advance(state, bad)


def test_free_text_does_not_hold_overwritten_tokens(tokenizers):
    vocabulary = LeastUsedTokens.choose(tokenizers["llama"])
    grammar = AnswerGrammar(vocabulary)
    assert not vocabulary.overwritten & set(grammar.allowed(1).tolist())
