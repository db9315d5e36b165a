# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from rt2_ros.models.rt1 import RT1Config
from rt2_ros.models.rt1.model import build_sentences


@pytest.fixture
def encoder(tmp_path):
    """A sentence encoder of random weights, in Hugging Face layout."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "pick", "up", "the", "apple", "pear"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    BertModel(sizes).save_pretrained(tmp_path)
    return str(tmp_path)


def test_learned_words_tell_sentences_apart_and_know_chinese():
    torch.manual_seed(0)
    words = build_sentences(RT1Config(sentence_size=24))
    vectors = words(["pick up the red apple", "pick up the banana", "拿起香蕉"])
    assert vectors.shape == (3, 24)
    assert torch.cdist(vectors, vectors).add(torch.eye(3)).min() > 0.1
    alone = words(["拿起香蕉"])[0]
    torch.testing.assert_close(alone, vectors[2])  # the others of a batch do not matter


def test_what_is_put_on_what_is_told_by_the_order_of_words():
    torch.manual_seed(0)
    words = build_sentences(RT1Config(sentence_size=24))
    one, other = words(["put the key on the rose", "put the rose on the key"])
    assert (one - other).norm() > 0.05


def test_an_empty_sentence_is_one_too():
    words = build_sentences(RT1Config(sentence_size=24))
    alone, beside = words([""])[0], words(["", "pick up the banana"])[0]
    assert torch.isfinite(alone).all()
    torch.testing.assert_close(alone, beside)


def test_a_frozen_encoder_gives_unit_vectors_and_is_no_part_of_the_weights(encoder):
    sentences = build_sentences(RT1Config(sentences=encoder, sentence_size=16))
    vectors = sentences(["pick up the apple", "pick up the pear pear pear"])
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))
    states = sentences.encoder(**sentences.tokenizer("pick up the apple", return_tensors="pt"))
    mean = states.last_hidden_state[0].mean(0)
    torch.testing.assert_close(vectors[0], mean / mean.norm())
    assert not list(sentences.parameters()) and not sentences.state_dict()


def test_an_encoder_that_does_not_fit_or_load_is_named(encoder, tmp_path):
    with pytest.raises(ValueError, match="sentence_size: 512, but .* gives 16"):
        build_sentences(RT1Config(sentences=encoder))
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(OSError, match="sentence encoder .*nowhere' does not load"):
        build_sentences(RT1Config(sentences=nowhere))
