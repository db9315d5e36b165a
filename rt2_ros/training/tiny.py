# SPDX-License-Identifier: Apache-2.0
"""What trains the default model from nothing: several questions packed behind one picture, soft
targets, dense and grounding losses, and Muon for the matrices (`config/training/rt2-tiny.yaml`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    PaliGemmaProcessor,
    PreTrainedModel,
)

from rt2_ros.actions import PlanForm
from rt2_ros.data.plans import FLAT, HAS, HIGH
from rt2_ros.data.robot import RobotSource
from rt2_ros.data.split import TRAIN_SEEDS
from rt2_ros.data.states import StateSource
from rt2_ros.models import bfloat16
from rt2_ros.models.stem import PATCH_SIZE
from rt2_ros.models.tiny import IMAGE_SIZE, build_model, build_processor, whiten_patches
from rt2_ros.paths import find_folder
from rt2_ros.training.config import TinyConfig, TinyStage
from rt2_ros.training.data import Pack, Source, named_words
from rt2_ros.training.muon import Float32Muon
from rt2_ros.training.objective import Objective
from rt2_ros.training.packing import Batch, Packer
from rt2_ros.training.rows import MAX_PLAN_TOKENS
from rt2_ros.training.schedule import soften
from rt2_ros.training.sources import WebSource, plan_form, planned

WEIGHTS = "model.safetensors"
SAMPLE = 200  # pictures that the patch embedding is fitted to
ATTENTION = "eager"  # faster than SDPA's backward at these lengths
TOLD = 69  # tokens of a question without a picture and its answer, about


class TinyRecipe:
    """The default model and how it learns."""

    blocks: tuple[str, ...] = ()
    unused = True  # a stage may ask for patches alone

    def __init__(self, config: TinyConfig, sources: Mapping[str, Source]) -> None:
        for name, source in sources.items():
            if (count := getattr(source, "pictures", 1)) > 1:
                raise ValueError(
                    f"source {name}: camera names {count}; expected one, for the default model "
                    "looks at one picture"
                )
        torch.manual_seed(config.seed)
        self._plan = "required" if planned(sources, config) else "none"
        self.processor = build_processor()
        model = build_model(self.processor, seed=config.seed, **asdict(config.model))
        model.set_attn_implementation(ATTENTION)
        if config.init is None:
            _fit_patches(model, sources, np.random.default_rng(TRAIN_SEEDS.start + config.seed))
        else:
            _start_from(config.init, model, self.processor)
        tokenizer = self.processor.tokenizer
        integers = torch.tensor(tokenizer.convert_tokens_to_ids([str(i) for i in range(256)]))
        words = named_words()
        # By what is seen of a target an attempt goes on for long: it is worth a switch.
        deciding = tokenizer.convert_tokens_to_ids([FLAT, HIGH, *HAS])
        self.objective = Objective(model, integers, len(words), deciding)
        self.states: Source | None = StateSource(queries=max(1, config.tokens // TOLD))
        self.plan_form: PlanForm | None = plan_form(sources)
        self.pack: Pack = Packer(
            tokenizer, image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, words=words,
            length=config.tokens,
        ).pack  # fmt: skip

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """Muon for the matrices inside layers, AdamW for the rest (arXiv 2502.16982)."""
        matrices: list[torch.nn.Parameter] = []
        rest: list[torch.nn.Parameter] = []
        for name, parameter in self.objective.named_parameters():
            inside = ".layers." in name and parameter.ndim == 2
            (matrices if inside else rest).append(parameter)
        slow = matrices[0].device.type == "cpu" and not bfloat16.cpu_has_bfloat16()
        muon = Float32Muon if slow else torch.optim.Muon
        return (
            muon(matrices, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
        )

    def settings(self, stage: TinyStage, progress: float) -> dict[str, Any]:
        """What the objective is told after `progress` (0..1) of a stage."""
        return {
            "sigma": soften(stage, progress), "dense_weight": stage.dense_weight,
            "web_weight": stage.web_weight, "answers": stage.answers,
            "grounding_weight": stage.grounding_weight,
        }  # fmt: skip

    def weight(self, batch: Batch, stage: TinyStage) -> float:
        """How much a batch counts among those of a step: packed, all are about as full."""
        return 1.0

    def size(self, batch: Batch) -> tuple[int, int]:
        """How many questions a batch asks, and how many tokens of answers."""
        return batch.asked

    def record(self) -> dict[str, Any]:
        """What a policy must be told to read a checkpoint of this model."""
        lasting = self._plan != "none" and self.plan_form and self.plan_form.lasting
        looks: dict[str, int] = {"look_every": 20} if lasting else {}
        if self._plan != "none" and not self.plan_form:  # no form says how long a plan may be
            looks = {"max_plan_tokens": MAX_PLAN_TOKENS}
        return {
            "policy": {
                "type": "vlm", "plan": self._plan, "prefix_attention": "causal", "smoothing": 6,
                **looks,
            }
        }  # fmt: skip

    def exported(
        self, weights: Mapping[str, torch.Tensor]
    ) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
        """The model and its weights, of the objective's."""
        return self.objective.model, {
            name.removeprefix("model."): value
            for name, value in weights.items()
            if name.startswith("model.")
        }


def _fit_patches(
    model: PreTrainedModel, sources: Mapping[str, Source], random: np.random.Generator
) -> None:
    """Whiten the patch embedding on pictures of the first web source; where the built-in robot
    comes without one, on such pictures all the same, of which nothing else is learned.
    """
    plain = (getattr(source, "plain", source) for source in sources.values())
    own = [source for source in plain if isinstance(source, (WebSource, RobotSource))]
    if own:
        web = next((source for source in own if isinstance(source, WebSource)), WebSource())
        sample = [frame.image for frame in (web(random) for _ in range(SAMPLE))]
        pixels = np.stack([image for image in sample if image is not None])
        whiten_patches(model, torch.from_numpy(pixels))


def _start_from(name: str, model: PreTrainedModel, processor: PaliGemmaProcessor) -> None:
    """Give the model the weights of a checkpoint.

    Raises:
        ValueError: no checkpoint is there, its words have other numbers, or its sizes are others.
    """
    folder = find_folder(name)
    if folder is None or not (folder / WEIGHTS).is_file():
        raise ValueError(f"init: {name!r} is no checkpoint; expected a folder with {WEIGHTS}")
    theirs = AutoProcessor.from_pretrained(folder).tokenizer.get_vocab()
    ours = processor.tokenizer.get_vocab()
    if theirs != ours:
        different = sorted(w for w in {*ours, *theirs} if ours.get(w) != theirs.get(w))
        raise ValueError(
            f"init: {folder} has a vocabulary of {len(theirs)} tokens, this code one of "
            f"{len(ours)}; {len(different)} differ, such as {different[0]!r}; expected the same"
        )
    start = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    weights, own = start.state_dict(), model.state_dict()
    for key in sorted({*own, *weights}):
        found, wanted = (list(w[key].shape) if key in w else None for w in (weights, own))
        if found != wanted:
            raise ValueError(
                f"init: {key} of {folder} has shape {found}; the configured model's has {wanted}"
            )
    model.load_state_dict(weights)
