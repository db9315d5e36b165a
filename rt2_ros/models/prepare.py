# SPDX-License-Identifier: Apache-2.0
"""Pictures and prompts as a model's inputs: by the checkpoint's processor, or the same, faster.

    prepare = Preparation(processor, image_size=192)
    inputs = prepare([image], "Q: what action should the robot take to pick up the apple? A:")

A PaliGemma processor writes 144 or more image tokens as text, tokenizes them, and works through a
picture three times. At the size that the model wants its values depend on one byte each, so a table
of 256 values gives them, and what stands before the prompt is always the same. Both are read off
the processor itself, and are used only if they reproduce its output bit by bit on noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PaliGemmaProcessor, ProcessorMixin

PROBE = "Q: which of 0 12 and 255 is a number? State: 1 20 255. A:"


class Preparation:
    """Makes inputs of one sequence; image_size is the side (px) of the pictures to come."""

    def __init__(self, processor: ProcessorMixin, image_size: int) -> None:
        self._processor, self._size = processor, image_size
        self._direct = _Direct.learn(processor, image_size)

    def __call__(self, images: Sequence[NDArray[np.uint8]], prompt: str) -> dict[str, torch.Tensor]:
        """The processor's tensors for RGB pictures (H, W, 3) and a prompt, on the CPU.

        ValueError for a prompt that the processor refuses: one with an image token in it.
        """
        fits = {image.shape for image in images} == {(self._size, self._size, 3)}
        if self._direct is not None and fits and self._processor.image_token not in prompt:
            return self._direct(images, prompt)
        return by_processor(self._processor, images, prompt)


def by_processor(
    processor: ProcessorMixin, images: Sequence[NDArray[np.uint8]], prompt: str
) -> dict[str, torch.Tensor]:
    """The same by the processor alone: through its chat template where it has one."""
    if getattr(processor, "chat_template", None):
        content: list[dict[str, Any]] = [{"type": "image", "image": image} for image in images]
        content.append({"type": "text", "text": prompt})
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True,
            tokenize=True, return_dict=True, return_tensors="pt",
        )  # fmt: skip
    else:
        text = f"{processor.image_token * len(images)}{prompt}"
        inputs = processor(images=[[*images]], text=[text], return_tensors="pt")
    inputs.pop("labels", None)
    return dict(inputs)


class _Direct:
    """What a PaliGemma processor does, as a table and a prefix."""

    def __init__(self, processor: PaliGemmaProcessor, table: NDArray, head: list[int]) -> None:
        self._tokenizer, self._table, self._head = processor.tokenizer, table, head
        self._image = processor.image_token_id

    @classmethod
    def learn(cls, processor: ProcessorMixin, size: int) -> _Direct | None:
        """Read it off the processor; None where it does something else."""
        if not isinstance(processor, PaliGemmaProcessor) or size < 16:
            return None
        noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
        noise.reshape(-1, 3)[:256] = np.arange(256)[:, None]
        expected = by_processor(processor, [noise], PROBE)
        if expected["pixel_values"].shape != (1, 3, size, size):
            return None
        table = expected["pixel_values"][0].flatten(1)[:, :256].numpy().copy()
        head = len(expected["input_ids"][0]) - len(_suffix(processor.tokenizer, PROBE))
        direct = cls(processor, table, expected["input_ids"][0, : max(0, head)].tolist())
        same = all(
            _same(direct(images, PROBE), by_processor(processor, images, PROBE))
            for images in ([noise], [noise, 255 - noise])
        )
        return direct if same else None

    def __call__(self, images: Sequence[NDArray[np.uint8]], prompt: str) -> dict[str, torch.Tensor]:
        pixels = [[np.take(self._table[c], image[:, :, c]) for c in range(3)] for image in images]
        shown = [token for token in self._head if token == self._image] * (len(images) - 1)
        ids = torch.tensor([[*shown, *self._head, *_suffix(self._tokenizer, prompt)]])
        return {
            "input_ids": ids,
            "token_type_ids": torch.zeros_like(ids),
            "attention_mask": torch.ones_like(ids),
            "pixel_values": torch.from_numpy(np.array(pixels)),
        }


def _same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[k].dtype == expected[k].dtype and torch.equal(found[k], expected[k]) for k in found
    )


def _suffix(tokenizer: object, prompt: str) -> list[int]:
    return tokenizer.encode(f"{prompt}\n", add_special_tokens=False)  # type: ignore[attr-defined]
