# SPDX-License-Identifier: Apache-2.0
"""Packed questions: the same answers as asked alone, the right labels, the right patches."""

import dataclasses

import numpy as np
import pytest
import torch

from rt2_ros.data.samples import Frame, Query, Thing
from rt2_ros.models.tiny import IMAGE_TOKENS, build_model, build_processor
from rt2_ros.training.data import Mixture
from rt2_ros.training.packing import IGNORED, Packer, attention_mask

IMAGE = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
WHERE = Query("Q: where is the banana? A:", "131 87", "web")
ACT = Query(
    "Q: what action should the robot take to pick up the banana? State: 1 2 3 4. A:",
    "Plan: banana 131 87. Action: 0 1 2 3 127 127 127 255",
    "robot",
)
COUNT = Query("Q: how many things are there? A:", "3", "web")


@pytest.fixture(scope="module")
def processor():
    return build_processor()


@pytest.fixture(scope="module")
def packer(processor):
    words = {"banana": "banana 香蕉"}
    return Packer(processor.tokenizer, image_size=192, patch_size=16, words=words)


def test_ids_are_those_of_the_processor_followed_by_the_answer(processor, packer):
    ids, labels, soft = packer.encode(WHERE)
    prompt = processor(images=[IMAGE], text=[f"<image>{WHERE.prompt}"])["input_ids"][0]
    assert ids[: len(prompt) - IMAGE_TOKENS] == list(prompt[IMAGE_TOKENS:])
    words = processor.tokenizer.convert_ids_to_tokens
    asked = [label for label in labels if label != IGNORED]
    assert words(asked) == ["131", "87", "<eos>"]
    assert [s for s, label in zip(soft, labels, strict=True) if label != IGNORED] == [
        True,
        True,
        False,
    ]


def test_switches_and_counts_have_hard_targets(processor, packer):
    _, labels, soft = packer.encode(ACT)
    softened = [label for label, s in zip(labels, soft, strict=True) if s]
    words = processor.tokenizer.convert_ids_to_tokens(softened)
    assert words == ["131", "87", "1", "2", "3", "127", "127", "127"]
    assert not any(packer.encode(COUNT)[2])


def test_where_only_the_beginning_is_asked_for_the_end_is_not(packer):
    whole, _, _ = packer.encode(WHERE)
    part, labels, _ = packer.encode(dataclasses.replace(WHERE, ends=False))
    assert part == whole[:-1] and labels[-1] != packer.tokenizer.eos_token_id


def test_neighbours_do_not_change_a_questions_answer(processor, packer):
    model = build_model(processor, hidden=96, vision_layers=1, text_layers=2).eval()

    def scores(queries, number):
        batch = packer.pack([Frame(IMAGE, queries, ())])
        pixels = batch.pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            image = model.model.get_image_features(pixels).pooler_output
            text = model.get_input_embeddings()(batch.ids)
            places = torch.arange(IMAGE_TOKENS)[None]
            positions = torch.cat([places, batch.positions + IMAGE_TOKENS], 1) + 1
            hidden = model.model.language_model(
                inputs_embeds=torch.cat([image, text], 1), position_ids=positions,
                attention_mask=attention_mask(batch.segments, IMAGE_TOKENS), use_cache=False,
            ).last_hidden_state[:, IMAGE_TOKENS:]  # fmt: skip
            asked = (batch.segments == number) & (batch.labels != IGNORED)
            return model.lm_head(hidden[asked])

    alone, packed = scores((WHERE,), 0), scores((ACT, COUNT, WHERE), 2)
    torch.testing.assert_close(alone, packed, atol=1e-4, rtol=1e-4)
    # ... and both are what Hugging Face's own forward says.
    inputs = processor(images=[IMAGE], text=[f"<image>{WHERE.prompt}"], return_tensors="pt")
    with torch.no_grad():
        reference = model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"])
    torch.testing.assert_close(alone[0], reference.logits[0, -1], atol=1e-3, rtol=1e-3)


def test_patches_know_the_thing_that_covers_them(processor, packer):
    outline = np.array([[32, 48], [64, 48], [64, 64], [32, 64]], np.float32)  # 2 patches wide
    banana = Thing("banana", 64, 75, outline, flat=True, room=(True, False, False, True))
    batch = packer.pack([Frame(IMAGE, (WHERE,), (banana,))])
    shown = (batch.patch_uv[0, :, 0] != IGNORED).nonzero()[:, 0].tolist()
    assert shown == [3 * 12 + 2, 3 * 12 + 3]
    words = batch.patch_words[0, shown[0]]
    tokens = processor.tokenizer.convert_ids_to_tokens(words[words != IGNORED].tolist())
    assert tokens == ["banana", "香", "蕉"]
    assert (batch.patch_name[0] == 0).nonzero()[:, 0].tolist() == shown
    assert (batch.patch_name == IGNORED).sum() == batch.patch_name.numel() - len(shown)
    assert batch.patch_uv[0, shown[0]].tolist() == [64, 75]
    assert (batch.patch_flat[0] == 1).nonzero()[:, 0].tolist() == shown
    assert (batch.patch_flat == IGNORED).sum() == batch.patch_flat.numel() - len(shown)
    assert batch.patch_room[0, shown].tolist() == [[1, 0, 0, 1]] * 2
    assert (batch.patch_room == IGNORED).sum() == batch.patch_room.numel() - 4 * len(shown)
    unsaid = packer.pack([Frame(IMAGE, (WHERE,), (Thing("banana", 64, 75, outline),))])
    assert (unsaid.patch_flat == IGNORED).all() and (unsaid.patch_room == IGNORED).all()


def test_patches_know_how_many_things_are_around_them(packer):
    far = np.zeros((4, 2), np.float32)  # seen nowhere, but there
    things = [Thing("banana", u, v, far) for u, v in ((74, 74), (117, 74), (74, 160), (95, 80))]
    batch = packer.pack([Frame(IMAGE, (WHERE,), (*things, things[0]))])
    crowd = batch.patch_crowd.reshape(12, 12)
    # Patches are 21 wide; 64 to the sides and 55 up and down count.
    assert crowd[3].tolist() == [2, 3, 3, 3, 3, 3, 2, 1, 0, 0, 0, 0]
    assert crowd[:, 3].tolist() == [0, 3, 3, 3, 3, 3, 1, 1, 1, 1, 0, 0]


def test_a_question_that_never_finds_room_is_a_bad_sample_and_no_other(processor):
    packer = Packer(processor.tokenizer, image_size=192, patch_size=16, words={}, length=20)
    batch = packer.pack([Frame(IMAGE, (WHERE, COUNT), ())])
    assert batch.asked[0] == 1  # the other one finds its place another time

    def source(random):
        return Frame(IMAGE, (ACT if random.random() < 0.5 else WHERE,), (), origin="here")

    drawn = Mixture({"a": source}, {"a": 1}, packer.pack, batch_size=8, seed=0, skip=True).draw(0)
    assert drawn.batch.asked[0] == 8
    told = "here: a question has 36 tokens with its answer; expected at most 20, as `tokens` says"
    assert drawn.left_out and set(drawn.left_out) == {told}


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="Query.kind is 'video'"):
        Query("Q: ? A:", "1", "video")
