# SPDX-License-Identifier: Apache-2.0
"""What a training run does, read from config/training/NAME.yaml and checked before anything
starts.

    config = load("rt2-tiny")        # a TinyConfig: the default model, made from nothing
    config = load("my-robot.yaml")   # `type: vlm`, a VlmConfig: any Hugging Face model
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from rt2_ros.data.mixture import Mixing
from rt2_ros.paths import config_path, read_yaml
from rt2_ros.training.augment import Augmentation
from rt2_ros.typed import build

T = TypeVar("T")
ON_BAD = ("skip", "stop")
PRECISIONS = ("bf16", "fp32")
PARALLEL = ("ddp", "fsdp")
TAKEN = ("checkpoint", "best", "tensorboard")  # folders of a run


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stretch of training with its own data and learning rate.

    minutes or steps: how long it lasts. By minutes the learning rate follows elapsed time, so a
        slower machine sees fewer pictures, not another schedule; only by steps is a run that was
        stopped and went on the very same as one that was not.
    shares: source name -> weight of its pictures; mixing: how weights become probabilities.
    batch_size: pictures in one forward of one process; a step has accumulate * processes of them.
    web_weight: lambda in L_action + lambda * L_web.
    plan_share: of robot questions whose answer has a plan, those that keep it.
    keep: when the stage ends, its checkpoint is also kept, in OUT/NAME.
    """

    name: str
    shares: dict[str, float]
    learning_rate: float
    minutes: float = 0.0
    steps: int = 0
    batch_size: int = 16
    accumulate: int = 1
    web_weight: float = 1.0
    plan_share: float = 1.0
    mixing: Mixing = Mixing()
    warmup: float = 0.02  # share of the stage
    floor: float = 0.05  # of the learning rate, at the end
    keep: bool = False

    def __post_init__(self) -> None:
        for name in ("learning_rate", "batch_size", "accumulate"):
            if not getattr(self, name) > 0 and not (name == "batch_size" and self._in_words()):
                raise self._wrong(name, "> 0")
        if (self.minutes > 0) == (self.steps > 0):
            raise ValueError(
                f"stage {self.name}: minutes is {self.minutes} and steps is {self.steps}; "
                "expected one of them > 0"
            )
        for name in ("plan_share", "warmup", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise self._wrong(name, "a share, 0 to 1")
        if self.web_weight < 0:
            raise self._wrong("web_weight", ">= 0")
        if not self.shares:
            raise ValueError(f"stage {self.name}: shares is empty; expected source: weight")
        if self.keep and (self.name in TAKEN or not re.fullmatch(r"\w[\w-]*", self.name)):
            raise ValueError(
                f"stage {self.name}: keep is set; expected a name that can be a folder's, "
                f"other than {', '.join(TAKEN)}"
            )

    def _in_words(self) -> bool:
        """Whether a batch without pictures has something else to learn from."""
        return False

    def _wrong(self, name: str, expected: str) -> ValueError:
        return ValueError(
            f"stage {self.name}: {name} is {getattr(self, name)}; expected {expected}"
        )


StageType = type[Stage]


@dataclass(frozen=True, kw_only=True)
class TinyStage(Stage):
    """A stage of the default model, which starts from nothing and needs aids.

    answers: whether questions are asked (False: patches only).
    state_rows: rows of robot questions without a picture, in each batch; with them batch_size may
        be 0: words alone, whatever the shares.
    sigma: width of the soft targets in bins, (at the start, at the end).
    """

    answers: bool = True
    dense_weight: float = 0.3
    grounding_weight: float = 0.5
    state_rows: int = 0
    sigma: tuple[float, float] = (5.0, 2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.state_rows < 0:
            raise self._wrong("state_rows", ">= 0")
        if len(self.sigma) != 2 or min(self.sigma) <= 0:
            raise self._wrong("sigma", "two numbers > 0")

    def _in_words(self) -> bool:
        return self.batch_size == 0 and self.answers and self.state_rows > 0


@dataclass(frozen=True, kw_only=True)
class Validation:
    """How a run is watched: the loss on pictures that are kept out of training.

    every: steps between two looks; batches: how many of them, the same each time.
    patience: looks without a new lowest loss after which a stage ends; 0: never.
    """

    every: int
    batches: int = 8
    patience: int = 0

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("batches", 1), ("patience", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"validation: {name} is {getattr(self, name)}; expected at least {least}"
                )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What every run has: its data, its stages, its machine.

    sources: name -> {type: ..., ...}, see `rt2_ros.training.sources`.
    augment: source name -> how its pictures are varied.
    space: name of the source whose action space the checkpoint speaks; None: the only robot one.
    precision: bf16 computes in bfloat16 where that is safe, fp32 (and bf16 on a CPU that has no
        bfloat16) nowhere; weights are float32 either way.
    parallel: how several processes share a model, ddp (each has all of it) or fsdp (a part each).
    on_bad_sample, on_bad_step: whether a sample that cannot be read, and a step whose loss or
        gradient is not finite, is left out (skip) or ends the run after a checkpoint (stop).
    """

    stage_type: ClassVar[StageType] = Stage

    name: str
    stages: tuple[Stage, ...]
    sources: dict[str, dict[str, Any]]
    out: str
    type: str
    seed: int = 0
    workers: int = 1
    augment: dict[str, Augmentation] = field(default_factory=dict)
    space: str | None = None
    validation: Validation | None = None
    precision: str = "bf16"
    parallel: str = "ddp"
    clip: float = 1.0  # greatest norm of a step's gradient
    on_bad_sample: str = "stop"
    on_bad_step: str = "skip"
    save_minutes: float = 4.0
    save_steps: int = 0  # besides; 0: by minutes alone
    log_every: int = 50  # steps

    def __post_init__(self) -> None:
        for name, allowed in (("on_bad_sample", ON_BAD), ("on_bad_step", ON_BAD),
                              ("precision", PRECISIONS), ("parallel", PARALLEL)):  # fmt: skip
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; expected {' or '.join(allowed)}"
                )
        for name in ("clip", "save_minutes", "log_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected > 0")
        for name in ("seed", "workers", "save_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 0")
        kept = [stage.name for stage in self.stages if stage.keep]
        if len(set(kept)) < len(kept):
            raise ValueError(f"stages that are kept are named {kept}; expected each name once")
        for stage in self.stages:
            _known(stage.shares, self.sources, f"stage {stage.name}: shares")
        _known(self.augment, self.sources, "augment")


@dataclass(frozen=True, kw_only=True)
class TinySizes:
    """Sizes of the default model."""

    hidden: int = 192
    vision_layers: int = 1
    text_layers: int = 4


@dataclass(frozen=True, kw_only=True)
class TinyConfig(TrainingConfig):
    """The default model: `type: tiny`.

    init: folder of a checkpoint of the same model whose weights the run starts from; None: from
        nothing.
    tokens: of the questions behind one picture; what does not fit is left out. A longer question is
        a bad sample.
    """

    stage_type: ClassVar[StageType] = TinyStage

    init: str | None = None
    tokens: int = 208
    model: TinySizes = TinySizes()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parallel == "fsdp":
            raise ValueError("parallel is 'fsdp'; a model this small is not sharded: use 'ddp'")
        if not self.tokens > 0:
            raise ValueError(f"tokens is {self.tokens}; expected > 0")


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters (arXiv 2106.09685) beside the linear layers that are named `targets`."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"lora: rank is {self.rank}; expected at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora: dropout is {self.dropout}; expected 0 or more, below 1")


@dataclass(frozen=True, kw_only=True)
class VlmSettings:
    """Which model, and what of it is trained.

    checkpoint: a folder or a hub id of an image-text-to-text model with its processor.
    vocabulary: how bins are written (integers, digits, least_used, openvla); None: integers where
        the tokenizer has them, else digits. least_used gives 256 rare tokens a new meaning.
    freeze_vision: the vision tower stays as it is.
    lora: adapters only; they are merged in every checkpoint that is written.
    embeddings: with lora, train the token embeddings and the output matrix too, as least_used
        needs.
    prefix_attention: full as the model's processor says, causal as policies of that setting read.
    """

    checkpoint: str
    vocabulary: str | None = None
    freeze_vision: bool = False
    lora: Lora | None = None
    embeddings: bool = False
    prefix_attention: str = "full"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.prefix_attention not in ("full", "causal"):
            raise ValueError(
                f"prefix_attention is {self.prefix_attention!r}; expected full or causal"
            )
        if self.embeddings and self.lora is None:
            raise ValueError("embeddings is set without lora; all embeddings are trained anyway")
        if self.lora and self.vocabulary == "least_used" and not self.embeddings:
            raise ValueError(
                "vocabulary is 'least_used' with lora, and embeddings is not set; expected it, or "
                "these tokens keep the meaning that they had"
            )


@dataclass(frozen=True, kw_only=True)
class VlmConfig(TrainingConfig):
    """Any Hugging Face image-text-to-text model: `type: vlm`.

    tokens: of a question with its answer, besides the picture's; a longer one is a bad sample.
    """

    model: VlmSettings
    weight_decay: float = 0.01
    tokens: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tokens > 0:
            raise ValueError(f"tokens is {self.tokens}; expected > 0")


C = TypeVar("C", bound=TrainingConfig)
TYPES: dict[str, type[TrainingConfig]] = {"tiny": TinyConfig, "vlm": VlmConfig}


def load(name_or_path: str, kind: type[C] | None = None) -> C:
    """Read config/training/NAME.yaml or a file, of any type but RT-1's (`rt2_ros.training.rt1`).

    kind: the one that it must be. ValueError names the key and what was expected.
    """
    path, raw = read(name_or_path)
    found = TYPES.get(raw.get("type", ""))
    if found is None:
        raise ValueError(f"{path}: type is {raw.get('type')!r}; expected {', '.join(TYPES)} or rt1")
    if kind is not None and not issubclass(found, kind):
        wanted = next(name for name, of in TYPES.items() if of is kind)
        raise ValueError(f"{path}: type is {raw['type']!r}; expected {wanted}")
    return parse(cast("type[C]", found), path, raw)


def parse(kind: type[C], path: Path, raw: dict[str, Any]) -> C:
    """The configuration that a file's mapping means."""
    stages = build_stages(kind.stage_type, path, raw)
    values = {"name": path.stem, **raw, "stages": stages, "augment": raw.get("augment") or {}}
    return build(kind, values, str(path))


def build_stages(kind: type[T], path: Path, raw: Mapping[str, Any]) -> tuple[T, ...]:
    """The stages of a file's mapping."""
    names = [
        stage.get("name", number) if isinstance(stage, dict) else number
        for number, stage in enumerate(raw["stages"], 1)
    ]
    return tuple(
        build(kind, stage, f"{path}: stage {name}")
        for name, stage in zip(names, raw["stages"], strict=True)
    )


def read(name_or_path: str) -> tuple[Path, dict[str, Any]]:
    """The file that is meant and what it says; ValueError where there is none or it has no
    stage.
    """
    path = Path(name_or_path)
    if not path.is_file():
        path = config_path("training", f"{name_or_path}.yaml")
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in config_path("training").glob("*.yaml")))
        raise ValueError(f"no training configuration {name_or_path!r}; there are: {known}")
    raw = read_yaml(path)
    stages = raw.get("stages") if isinstance(raw, dict) else None
    if not isinstance(stages, list) or not stages:
        raise ValueError(f"{path}: expected a mapping with a list `stages`, of one at least")
    return path, raw


def _known(names: Any, sources: dict[str, Any], where: str) -> None:
    unknown = sorted(set(names) - set(sources))
    if unknown:
        raise ValueError(f"{where}: unknown source {unknown[0]!r}; expected {sorted(sources)}")
