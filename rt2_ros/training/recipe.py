# SPDX-License-Identifier: Apache-2.0
"""What the loop does not know: a model and how it learns. `tiny.py` and `vlm.py` are two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin

from rt2_ros.actions import PlanForm
from rt2_ros.training.data import Pack, Source


class Recipe(Protocol):
    """A model and how it learns: what the loop does not know."""

    objective: nn.Module  # objective(batch, **settings) -> Losses
    processor: ProcessorMixin
    states: Source | None  # of questions without a picture
    blocks: tuple[str, ...]
    unused: bool
    plan_form: PlanForm | None  # what all plans in its data look like
    # Frames to a batch with `to(device)`; workers call it, and it goes to them without the model.
    pack: Pack

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """For the objective's parameters as they are now."""

    def settings(self, stage: Any, progress: float) -> dict[str, Any]:
        """What the objective is told after `progress` (0..1) of a stage."""

    def weight(self, batch: Any, stage: Any) -> float:
        """How much a batch counts among those of a step."""

    def size(self, batch: Any) -> tuple[int, int]:
        """How many questions a batch asks, and how many tokens of answers."""

    def record(self) -> dict[str, Any]:
        """What belongs to the model in training.json."""

    def exported(
        self, weights: Mapping[str, torch.Tensor]
    ) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
        """The model in Hugging Face layout and its weights, of the objective's."""
