# SPDX-License-Identifier: Apache-2.0
"""The short way from picture and prompt to tensors gives the processor's own, bit by bit."""

import numpy as np
import pytest
import torch

from rt2_ros.actions import action_prompt
from rt2_ros.models.prepare import Preparation, by_processor
from rt2_ros.models.tiny import build_processor

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = (
    action_prompt("pick up the red apple", [0, 255, 7, 31]),
    action_prompt("拿起苹果"),
    "Q: <eos> \\n what is 3.14? A:",
    "",
)


@pytest.fixture(scope="module")
def processor():
    return build_processor()


def same(found, expected):
    assert found.keys() == expected.keys()
    for key in expected:
        assert found[key].dtype == expected[key].dtype
        assert torch.equal(found[key], expected[key]), key


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("shape", [(192, 192, 3), (48, 64, 3)])
def test_inputs_are_the_processors_bit_by_bit(processor, prompt, shape):
    prepare = Preparation(processor, 192)
    assert prepare._direct
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    same(prepare([image], prompt), by_processor(processor, [image], prompt))
    mirrored = image[:, ::-1]  # not contiguous
    same(prepare([mirrored], prompt), by_processor(processor, [mirrored], prompt))


def test_a_prompt_that_speaks_of_a_second_picture_is_refused(processor):
    image = np.zeros((192, 192, 3), np.uint8)
    with pytest.raises(ValueError, match="<image>"):
        Preparation(processor, 192)([image], action_prompt("pick up the <image>"))


def test_channels_may_be_normalized_differently(processor):
    images = processor.image_processor
    before = images.image_mean
    images.image_mean = [0.1, 0.2, 0.3]
    try:
        image = np.random.default_rng(2).integers(0, 256, (192, 192, 3), dtype=np.uint8)
        prepare = Preparation(processor, 192)
        assert prepare._direct
        same(prepare([image], "apple"), by_processor(processor, [image], "apple"))
    finally:
        images.image_mean = before


def test_a_processor_that_resizes_pictures_of_this_size_is_asked_itself(processor):
    prepare = Preparation(processor, 96)
    assert not prepare._direct
    image = np.random.default_rng(3).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    same(prepare([image], "apple"), by_processor(processor, [image], "apple"))


def test_several_pictures_stand_before_the_prompt_in_their_order(processor):
    prepare, draw = Preparation(processor, 192), np.random.default_rng(4)
    images = [draw.integers(0, 256, (192, 192, 3), dtype=np.uint8) for _ in range(2)]
    inputs, one = prepare(images, "apple"), prepare(images[:1], "apple")
    tokens = (one["input_ids"] == processor.image_token_id).sum()
    assert (inputs["input_ids"] == processor.image_token_id).sum() == 2 * tokens
    assert inputs["input_ids"].shape[1] == one["input_ids"].shape[1] + tokens
    same(inputs, by_processor(processor, images, "apple"))
    for pixels, image in zip(inputs["pixel_values"], images, strict=True):
        assert torch.equal(pixels, prepare([image], "apple")["pixel_values"][0])
