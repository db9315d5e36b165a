# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt2_ros.actions import (
    DigitStrings,
    IntegerTokens,
    LeastUsedTokens,
    OpenVLATokens,
    choose_vocabulary,
)
from rt2_ros.actions.tokens import continuation, special_ids

KINDS = {
    "wordpiece": IntegerTokens,
    "gpt2": IntegerTokens,
    "qwen": DigitStrings,
    "llama3": DigitStrings,
    "gemma": DigitStrings,
    "marked digits": DigitStrings,
    "llama": DigitStrings,
}
SPELLING_OF_127 = {
    "wordpiece": ["127"],
    "gpt2": ["Ġ127"],
    "qwen": ["Ġ", "1", "2", "7"],
    "llama3": ["Ġ", "127"],
    "gemma": ["▁", "1", "2", "7"],
    "marked digits": ["▁1", "2", "7"],
    "llama": ["▁", "1", "2", "7"],
}
BINS = [1, 127, 255, 0, 10, 100, 99, 200]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_scheme_is_chosen_by_what_the_tokenizer_does(tokenizers, name):
    vocabulary = choose_vocabulary(tokenizers[name])
    assert type(vocabulary) is KINDS[name]
    tokens = tokenizers[name].convert_ids_to_tokens(list(vocabulary.spellings[127]))
    assert tokens == SPELLING_OF_127[name]


def test_what_is_written_reads_back_as_integers(tokenizer):
    vocabulary = choose_vocabulary(tokenizer)
    ids = vocabulary.encode(BINS)
    assert vocabulary.text([*ids, tokenizer.eos_token_id, 5, 6]).split() == list(map(str, BINS))
    assert vocabulary.decode(ids).tolist() == BINS
    assert tuple(ids) == continuation(tokenizer, "1 127 255 0 10 100 99 200")


def test_a_special_token_in_an_answer_stays_visible(tokenizer):
    vocabulary = choose_vocabulary(tokenizer)
    image = tokenizer.convert_tokens_to_ids("<image>")
    assert "<image>" in vocabulary.text([*vocabulary.encode(BINS), image])


def test_ids_that_no_bin_writes_are_refused(tokenizer):
    vocabulary = choose_vocabulary(tokenizer)
    with pytest.raises(ValueError, match="no bin is written as"):
        vocabulary.decode([*vocabulary.encode(BINS), tokenizer.convert_tokens_to_ids("<image>")])


@given(bins=st.lists(st.integers(0, 255), max_size=20))
def test_round_trip(vocabularies, bins):
    for vocabulary in vocabularies:
        assert vocabulary.decode(vocabulary.encode(np.array(bins, int))).tolist() == bins


@pytest.fixture(scope="module")
def vocabularies(tokenizers):
    return [choose_vocabulary(tokenizers[name]) for name in ("wordpiece", "qwen", "marked digits")]


def test_openvla_counts_from_the_end(tokenizers):
    vocabulary = OpenVLATokens(tokenizers["llama"])
    assert vocabulary.encode([0, 1, 127, 255]) == [31999, 31998, 31872, 31744]
    # as published: token 32000 - d, d from 1
    assert vocabulary.encode([0]) == [32000 - 1] and vocabulary.encode([255]) == [32000 - 256]
    assert vocabulary.text([31999, 31872, 31744]) == "0 127 255"
    assert vocabulary.overwritten == frozenset(range(31744, 32000))


def test_openvla_keeps_stray_text_visible(tokenizers):
    """Published code decodes a text token to bin 254, near the largest motion."""
    tokenizer = tokenizers["llama"]
    vocabulary = OpenVLATokens(tokenizer)
    stray = tokenizer.convert_tokens_to_ids("a")
    assert vocabulary.text([31999, stray, 31872]).split() == ["0", "a", "127"]
    with pytest.raises(ValueError, match=f"no bin is written as .{stray}"):
        vocabulary.decode([31999, stray])


def test_openvla_needs_its_last_tokens(tokenizers):
    with pytest.raises(ValueError, match="openvla: ids .* are not in the tokenizer's vocabulary"):
        OpenVLATokens(tokenizers["llama"], vocab_size=32064)
    with pytest.raises(ValueError, match="openvla: ids .* are not in"):
        OpenVLATokens(tokenizers["gemma"])


def test_least_used_takes_the_last_and_spares_what_is_needed(tokenizers):
    tokenizer = tokenizers["llama"]
    vocabulary = LeastUsedTokens.choose(tokenizer)
    assert vocabulary.token_ids == tuple(range(31744, 32000))
    assert vocabulary.encode([0, 255]) == [31744, 31999]
    assert vocabulary.text([31744, 31999]) == "0 255"
    assert not vocabulary.overwritten & special_ids(tokenizer)
    small = LeastUsedTokens.choose(tokenizers["wordpiece"])
    kept = continuation(tokenizers["wordpiece"], "Plan: 0 7. Action:")
    assert not small.overwritten & set(kept)


def test_least_used_ids_belong_to_the_checkpoint(tokenizers):
    tokenizer = tokenizers["llama"]
    ids = list(range(5000, 5256))[::-1]
    vocabulary = choose_vocabulary(tokenizer, "least_used", ids)
    assert vocabulary.encode([0, 255]) == [5255, 5000]
    assert choose_vocabulary(tokenizer, "least_used").token_ids[0] == 31744


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (range(100, 355), "255 different ids, expected 256"),
        ([100] * 256, "1 different ids, expected 256"),
        (range(31900, 32156), "ids .32000, 32001, 32002. are not in the tokenizer's vocabulary"),
        (range(0, 256), "ids .0, 1, 2. are special tokens"),
    ],
)
def test_least_used_refuses_unfit_ids(tokenizers, ids, message):
    with pytest.raises(ValueError, match=f"least_used: {message}"):
        LeastUsedTokens(tokenizers["llama"], list(ids))


def test_a_tokenizer_without_numbers_is_refused_with_the_reason(make_wordpiece):
    """Digits that are missing come out as <unk>, one token for all of them."""
    tokenizer = make_wordpiece(integers=0, digits="")
    with pytest.raises(ValueError, match="cannot write 0..255 as text .*integers: .*digits: "):
        choose_vocabulary(tokenizer)


def test_integers_in_pieces_are_no_integer_tokens(tokenizers):
    with pytest.raises(ValueError, match="integers: 0 takes 2 tokens, expected 1"):
        IntegerTokens(tokenizers["qwen"])


def test_integers_beside_longer_ones_are_told_apart(make_wordpiece):
    """With 0..99 as tokens and the rest in pieces, 12 and 127 share no beginning, 1 and 12 do."""
    vocabulary = choose_vocabulary(make_wordpiece(integers=100))
    assert type(vocabulary) is DigitStrings
    assert vocabulary.decode(vocabulary.encode(BINS)).tolist() == BINS


def test_unknown_names_and_stray_options_are_refused(tokenizers):
    with pytest.raises(ValueError, match="scheme: 'words', expected one of integers, digits"):
        choose_vocabulary(tokenizers["wordpiece"], "words")
    with pytest.raises(ValueError, match="only least_used takes them"):
        choose_vocabulary(tokenizers["wordpiece"], "integers", [1, 2])
