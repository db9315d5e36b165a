# SPDX-License-Identifier: Apache-2.0
"""Co-fine-tuning of any Hugging Face image-text-to-text model: one cross-entropy on answer tokens,
of all weights, of all but the vision tower's, or of adapters (`type: vlm`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
)

from rt2_ros.actions import LeastUsedTokens, PlanForm
from rt2_ros.models import stem  # noqa: F401  AutoModel knows the default model's tower by it
from rt2_ros.models.text import check_prefix
from rt2_ros.training.config import Lora, Stage, VlmConfig
from rt2_ros.training.data import Pack, Source
from rt2_ros.training.objective import Losses
from rt2_ros.training.packing import IGNORED
from rt2_ros.training.rows import MAX_PLAN_TOKENS, Rower, Rows
from rt2_ros.training.sources import main_space, picture_count, picture_size, planned


class VlmObjective(nn.Module):
    """A model, and one cross-entropy on what it should answer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        forward = getattr(model, "get_base_model", lambda: model)().forward
        self._chooses = "logits_to_keep" in inspect.signature(forward).parameters

    def forward(self, batch: Rows, *, web_weight: float = 1.0) -> Losses:
        """Losses of one batch; web_weight as lambda in L_action + lambda * L_web.

        Figures: answer, the loss; robot, web, its parts; robot_accuracy, the share of a robot's
        answer tokens that are the likeliest; robot_rows and robot_share, of the rows and of the
        answer tokens, how many are a robot's.
        """
        asked = batch.labels != IGNORED
        extra: dict[str, Any] = {"use_cache": False}
        places = asked.any(0).nonzero()[:, 0]
        if self._chooses:  # logits of 250,000 words are dear: where an answer stands, no others
            extra["logits_to_keep"] = places
        logits = self.model(**batch.inputs, **extra).logits
        if not self._chooses:
            logits = logits[:, places]
        asked, labels = asked[:, places], batch.labels[:, places]
        weights = batch.weights(web_weight)[:, places][asked]
        loss = nn.functional.cross_entropy(logits[asked].float(), labels[asked], reduction="none")
        robot = batch.robot[:, None].expand_as(asked)[asked]
        right = logits[asked].detach().argmax(-1) == labels[asked]
        total = (loss * weights).sum() / weights.sum().clamp(min=1e-9)
        figures = {
            "answer": float(total.detach()), "robot_rows": float(batch.robot.float().mean()),
            "robot_share": float(robot.float().mean()),
        }  # fmt: skip
        for name, of in (("robot", robot), ("web", ~robot)):
            if of.any():
                figures[name] = float(loss.detach()[of].mean())
        if robot.any():
            figures["robot_accuracy"] = float(right[robot].float().mean())
        return Losses(total, figures)


class VlmRecipe:
    """A published model and how it is fine-tuned."""

    states: Source | None = None
    unused = True  # LLaVA's last vision layer is never read
    plan_form: PlanForm | None = None

    def __init__(self, config: VlmConfig, sources: Mapping[str, Source]) -> None:
        torch.manual_seed(config.seed)
        self._settings, self._decay = config.model, config.weight_decay
        self._planned, self._image_size = planned(sources, config), picture_size(sources)
        self._pictures = picture_count(sources, config)
        settings = config.model
        self.processor = AutoProcessor.from_pretrained(settings.checkpoint)
        self._model = AutoModelForImageTextToText.from_pretrained(
            settings.checkpoint, dtype=torch.float32
        )
        check_prefix(self._model, settings.prefix_attention)
        self.rower = Rower(
            self.processor, main_space(sources, config.space),
            vocabulary=settings.vocabulary, causal=settings.prefix_attention == "causal",
            tokens=config.tokens,
        )  # fmt: skip
        self.pack: Pack = self.rower
        self.blocks = tuple(self._model._no_split_modules or ())
        trained: nn.Module = self._model
        if settings.lora:
            trained = add_adapters(self._model, settings.lora, settings.freeze_vision)
            if settings.embeddings:
                self._model.get_input_embeddings().weight.requires_grad_(True)
                self._model.get_output_embeddings().weight.requires_grad_(True)
        elif settings.freeze_vision:
            vision_of(self._model).requires_grad_(False)
        if settings.gradient_checkpointing:
            self._model.gradient_checkpointing_enable()
            # Or all that is frozen is gone back through as well. Without reentry nothing needs it.
            self._model.disable_input_require_grads()
        self.objective = VlmObjective(trained)

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """AdamW for what is trained."""
        trained = [p for p in self.objective.parameters() if p.requires_grad]
        return (torch.optim.AdamW(trained, betas=(0.9, 0.95), weight_decay=self._decay),)

    def settings(self, stage: Stage, progress: float) -> dict[str, Any]:
        """What the objective is told after `progress` (0..1) of a stage."""
        return {"web_weight": stage.web_weight}

    def weight(self, batch: Rows, stage: Stage) -> float:
        """How much a batch counts among those of a step: as much as its answer tokens do."""
        return float(batch.weights(stage.web_weight).sum())

    def size(self, batch: Rows) -> tuple[int, int]:
        """How many questions a batch asks, and how many tokens of answers."""
        return len(batch.labels), int((batch.labels != IGNORED).sum())

    def record(self) -> dict[str, Any]:
        """What a policy must be told to read a checkpoint of this model."""
        words = self.rower.vocabulary
        policy: dict[str, Any] = {
            "type": "vlm", "vocabulary": words.scheme,
            "prefix_attention": self._settings.prefix_attention, "image_size": self._image_size,
        }  # fmt: skip
        if self._pictures > 1:
            policy["pictures"] = self._pictures
        if self._planned:
            policy |= {"plan": "required", "max_plan_tokens": MAX_PLAN_TOKENS}
        if isinstance(words, LeastUsedTokens):
            policy["vocabulary_ids"] = list(words.token_ids)
        return {"policy": policy, "started_from": self._settings.checkpoint}

    def exported(
        self, weights: Mapping[str, torch.Tensor]
    ) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
        """The model and its weights, of the objective's, adapters merged."""
        own = {name.removeprefix("model."): value for name, value in weights.items()}
        if self._settings.lora:
            own = merged(own, self._settings.lora.alpha / self._settings.lora.rank)
        # Sharded, what is tied has become two: the file keeps one, as the model's own does.
        tied = getattr(self._model, "all_tied_weights_keys", {})
        return self._model, {name: value for name, value in own.items() if name not in tied}


def vision_of(model: PreTrainedModel) -> nn.Module:
    """The vision tower; ValueError for a model that has none by a known name."""
    tower = model.get_encoder(modality="image")
    if tower is model or tower is model.base_model:
        raise ValueError(
            f"freeze_vision: {type(model).__name__} has no vision tower by a known name"
        )
    return tower


def add_adapters(model: PreTrainedModel, lora: Lora, freeze_vision: bool) -> nn.Module:
    """The model with adapters beside its linear layers, all else frozen."""
    from peft import LoraConfig, get_peft_model

    vision = vision_of(model) if freeze_vision else None
    inside = {id(module) for module in vision.modules()} if vision is not None else set()
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and name.rpartition(".")[2] in lora.targets
        and id(module) not in inside
    ]
    if not targets:
        raise ValueError(f"lora: no linear layer is called {', '.join(lora.targets)}")
    return get_peft_model(
        model,
        LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets
        ),
    )


_LAYER = re.compile(r"(.*)\.base_layer\.(weight|bias)$")


def merged(weights: Mapping[str, torch.Tensor], scaling: float) -> dict[str, torch.Tensor]:
    """A model's own weights of those of its `peft` form: W + scaling * B A.

    Not in place: merging and unmerging a model that is being trained would change it by rounding.
    """
    prefix = "base_model.model."
    result = {}
    for name, value in weights.items():
        if ".lora_A." in name or ".lora_B." in name:
            continue
        if found := _LAYER.match(name):
            layer, kind = found.groups()
            if kind == "weight" and f"{layer}.lora_A.default.weight" in weights:
                down = weights[f"{layer}.lora_A.default.weight"].float()
                up = weights[f"{layer}.lora_B.default.weight"].float()
                value = (value.float() + scaling * (up @ down)).to(value.dtype)
                value = value.cpu()  # a GPU that trains adapters may have no room for a second copy
            name = f"{layer}.{kind}"
        result[name.removeprefix(prefix)] = value
    return result
