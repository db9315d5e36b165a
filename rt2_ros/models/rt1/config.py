# SPDX-License-Identifier: Apache-2.0
"""The sizes of an RT-1, kept as `config.json` beside its weights.

RT1Config()                                   # as published: 300 px, 6 images, 35 M parameters
RT1Config(image_size=192, hidden=192, ...)    # config/training/rt1-small.yaml
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rt2_ros.typed import build

MODEL_TYPE = "rt1"
FILE_NAME = "config.json"


@dataclass(frozen=True)
class RT1Config:
    """Defaults are the paper's: EfficientNet-B3, 81 cells to 8 tokens, 8 layers, 6 images.

    history: images that a decision is made from, `period` s apart.
    tokens: what TokenLearner leaves of an image; token i is where dimension i of the action is
        read, so there are as many as an action has dimensions.
    width, depth: EfficientNet's coefficients; expand: of its MBConv blocks but the first;
    strides: of its seven stages (behind a stem of stride 2).
    hidden, layers, heads, head_size, feed_forward: of the transformer.
    sentence_size: length of the sentence embedding.
    sentences: "" learns an embedding of words, "minilm" is the encoder of the extra of that name
        (English, sentence_size 384), otherwise the folder or hub id of a Hugging Face sentence
        encoder. An encoder stays frozen and is not part of the checkpoint, which only names it.
    state: whether a token tells the fingertips' place and the gripper's closedness.
    positions: whether cells are told where they lie before TokenLearner pools them; a network
        that was not pretrained learns places much faster so.
    """

    image_size: int = 300  # px
    history: int = 6
    period: float = 1 / 3  # s
    tokens: int = 8
    width: float = 1.2
    depth: float = 1.4
    expand: int = 6
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    hidden: int = 512
    layers: int = 8
    heads: int = 8
    head_size: int = 128
    feed_forward: int = 256  # two layers with as many weights as the published single one
    dropout: float = 0.1
    sentence_size: int = 512
    sentences: str = ""
    state: bool = False
    positions: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))
        for name in ("image_size", "history", "width", "depth", "expand", "hidden", "layers",
                     "heads", "head_size", "feed_forward", "sentence_size", "period"):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, (bool, str)) or not value > 0:
                raise ValueError(f"RT1Config.{name}: {value!r}, expected a number > 0")
        if self.tokens != 8:
            raise ValueError(f"RT1Config.tokens: {self.tokens}, expected 8, one for each dimension")
        if len(self.strides) != 7 or not set(self.strides) <= {1, 2}:
            raise ValueError(f"RT1Config.strides: {self.strides}, expected seven, each 1 or 2")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"RT1Config.dropout: {self.dropout}, expected 0 to below 1")
        if self.hidden % 4:
            raise ValueError(f"RT1Config.hidden: {self.hidden}, expected a multiple of 4")

    def save(self, folder: str | Path) -> None:
        """Write config.json."""
        content = {"model_type": MODEL_TYPE, **asdict(self)}
        (Path(folder) / FILE_NAME).write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> RT1Config:
        """Read what `save` wrote; errors name the file and the key."""
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; expected an RT-1 checkpoint")
        content = json.loads(path.read_text())
        if content.pop("model_type", None) != MODEL_TYPE:
            raise ValueError(f"{path}: model_type is not {MODEL_TYPE!r}")
        return build(cls, content, str(path))
