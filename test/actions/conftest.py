# SPDX-License-Identifier: Apache-2.0
"""Real tokenizers of the kinds that models bring, small and made on the spot."""

import string

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from rt2_ros.actions import ActionSpace

MARKERS = ("Q:", "A:", "State:", "Plan:", "Action:")
SPECIAL = ["<pad>", "<eos>", "<unk>", "<image>"]
SENTENCE = "what action should the robot take to pick up apple banana left right on move"
CORPUS = [
    "Q: What action should the robot take to pick up the apple? A:",
    "Plan: left. Action: 0",
] * 9


def _fast(tokenizer):
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )


def wordpiece(markers=MARKERS, integers=256, digits=string.digits):
    """Lower-casing, whole integers, markers as added tokens: the default checkpoint's kind."""
    letters = [*string.ascii_lowercase, *digits, *".,?!:"]
    pieces = [*SPECIAL, *map(str, range(integers)), *SENTENCE.split(), *letters]
    pieces += [f"##{c}" for c in string.ascii_lowercase + digits]
    vocab = {p: i for i, p in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.add_tokens(
        [AddedToken(m, normalized=False, lstrip=True, rstrip=True) for m in markers]
    )
    return _fast(tokenizer)


def byte_bpe(digits):
    """Byte-level BPE; `digits` is how its pre-tokenizer splits numbers."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    pattern = rf"{digits}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2500,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    numbers = [f" {n} {n}" for n in range(256)] * 2
    tokenizer.train_from_iterator([*CORPUS, *numbers], trainer)
    return _fast(tokenizer)


def unigram(space_pieces):
    """SentencePiece's kind, single digits; `space_pieces`: digits also exist with their marker."""
    letters = string.ascii_letters + string.digits + ".,?!:"
    pieces = [(s, 0.0) for s in SPECIAL] + [("▁", -3.0)] + [(c, -4.0) for c in letters]
    pieces += [(f"▁{w}", -2.0) for w in ["Plan", "Action", *SENTENCE.split()]]
    if space_pieces:
        pieces += [(f"▁{d}", -3.5) for d in string.digits]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first", split=True)
    return _fast(tokenizer)


def llama():
    """32000 tokens, of which the last are what OpenVLA overwrites."""
    pieces = [
        "<unk>",
        "<pad>",
        "<eos>",
        "<image>",
        "▁",
        *string.ascii_letters,
        *string.digits,
        *".:?",
    ]
    pieces += [f"▁filler{i}" for i in range(32000 - len(pieces))]
    vocab = {p: i for i, p in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _fast(tokenizer)


TOKENIZERS = {
    "wordpiece": wordpiece,
    "gpt2": lambda: byte_bpe(r" ?\p{N}+"),
    "qwen": lambda: byte_bpe(r"\p{N}"),
    "llama3": lambda: byte_bpe(r"\p{N}{1,3}"),
    "gemma": lambda: unigram(space_pieces=False),
    "marked digits": lambda: unigram(space_pieces=True),
    "llama": llama,
}


@pytest.fixture(scope="session")
def tokenizers():
    return {name: make() for name, make in TOKENIZERS.items()}


@pytest.fixture(scope="session", params=sorted(TOKENIZERS))
def tokenizer(request, tokenizers):
    return tokenizers[request.param]


@pytest.fixture(scope="session")
def make_wordpiece():
    return wordpiece


@pytest.fixture(scope="session")
def space():
    return ActionSpace(
        "test",
        low=(0, -0.1, -0.1, -0.1, -0.25, -0.25, -0.25, 0),
        high=(1, 0.1, 0.1, 0.1, 0.25, 0.25, 0.25, 1),
        frame="panda_link0",
        state_low=(0.2, -0.5, 0.0, 0.0),
        state_high=(0.8, 0.5, 0.5, 1.0),
    )


@pytest.fixture(scope="session")
def openvla_space():
    """Bridge-like: no terminate, gripper passed through unscaled, 1 open."""
    return ActionSpace(
        "openvla",
        low=(0, -0.03, -0.04, -0.04, -0.08, -0.09, -0.2, -1),
        high=(1, 0.03, 0.04, 0.04, 0.08, 0.09, 0.2, 1),
        frame="base_link",
        scheme="openvla",
        gripper_positive="opens",
    )
