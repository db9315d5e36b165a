# SPDX-License-Identifier: Apache-2.0
"""Co-fine-tuning of any Hugging Face image-text-to-text model: one cross-entropy on answer tokens.

    [what the model's processor makes of picture and prompt][answer][end][padding]

The prompt is prepared by the code that prepares it for a policy, and a robot answer is spelled by
the grammar that constrains decoding: a model is trained on exactly what it will read and may write.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    PaliGemmaProcessor,
    PreTrainedModel,
    ProcessorMixin,
)

from rt2_ros.actions import ActionSpace, Grammar, LeastUsedTokens, choose_vocabulary, parse
from rt2_ros.actions.tokens import continuation, eos_id
from rt2_ros.data.samples import Frame, Query
from rt2_ros.models.prepare import Preparation
from rt2_ros.training.config import Lora, Stage, VlmConfig
from rt2_ros.training.data import Source
from rt2_ros.training.objective import Losses
from rt2_ros.training.packing import IGNORED
from rt2_ros.training.sources import main_space

MAX_PLAN_TOKENS = 128


@dataclass(frozen=True)
class Rows:
    """One row for each question; B rows of T tokens.

    inputs: what the model reads. labels: int64 (B, T), the token to be written next, or IGNORED.
    robot: bool (B,).
    """

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    robot: torch.Tensor

    def to(self, device: torch.device) -> Rows:
        """The same on another device."""
        inputs = {name: value.to(device, non_blocking=True) for name, value in self.inputs.items()}
        return Rows(inputs, self.labels.to(device), self.robot.to(device))

    def weights(self, web_weight: float) -> torch.Tensor:
        """(B, T) what each label counts."""
        row = torch.where(self.robot, 1.0, web_weight)[:, None]
        return (self.labels != IGNORED) * row


class Rower:
    """Frames to rows, for one processor and one action space."""

    def __init__(
        self, processor: ProcessorMixin, space: ActionSpace, *, vocabulary: str | None = None,
        causal: bool = False,
    ) -> None:  # fmt: skip
        """causal: prompts are read from left to right, whatever the model's own processor says."""
        self.vocabulary = choose_vocabulary(processor.tokenizer, vocabulary)
        self.space, self._processor, self._causal = space, processor, causal
        self._grammar = Grammar(
            self.vocabulary, space, plan="optional", max_plan_tokens=MAX_PLAN_TOKENS
        )
        self._eos = eos_id(processor.tokenizer)
        self._pad = processor.tokenizer.pad_token_id
        if self._pad is None:
            self._pad = self._eos
        # PaliGemma's type 1 is a suffix, read from left to right; others mark images with types.
        self._suffix_type = int(isinstance(processor, PaliGemmaProcessor))
        self._prepare: dict[int, Preparation] = {}

    def answer(self, query: Query) -> list[int]:
        """The tokens of an answer, the end token included; ValueError for no valid action."""
        if query.kind == "robot":
            parsed = parse(query.answer, self.space)
            if parsed.bins is None:
                raise ValueError(f"answer {query.answer!r}: {parsed.reason}")
            return self._grammar.encode(parsed.bins, parsed.plan or None)
        return [*continuation(self._processor.tokenizer, query.answer), self._eos]

    def __call__(self, frames: Sequence[Frame]) -> Rows:
        """All questions about all frames; ValueError for one without a picture or given in part."""
        rows, robot = [], []
        for frame in frames:
            if frame.image is None:
                raise ValueError("a frame has no picture; this model's questions need one")
            if frame.more:
                raise ValueError(
                    f"a frame has {1 + len(frame.more)} pictures; this model is asked about one: "
                    "expected one camera"
                )
            if any(query.given for query in frame.queries):
                raise ValueError("an answer is given in part; this model is asked for all of it")
            size = frame.image.shape[0]
            if size not in self._prepare:
                self._prepare[size] = Preparation(self._processor, size)
            for query in frame.queries:
                rows.append((self._prepare[size](frame.image, query.prompt), self.answer(query)))
                robot.append(query.kind == "robot")
        return self._stack(rows, torch.tensor(robot))

    def _stack(
        self, rows: list[tuple[dict[str, torch.Tensor], list[int]]], robot: torch.Tensor
    ) -> Rows:
        # The last token of an answer is never read, only written.
        lengths = [prompt["input_ids"].shape[1] + len(answer) - 1 for prompt, answer in rows]
        longest = max(lengths)
        labels = torch.full((len(rows), longest), IGNORED)
        columns: dict[str, list[torch.Tensor]] = {}
        for number, (prompt, answer) in enumerate(rows):
            shape, start = prompt["input_ids"].shape, prompt["input_ids"].shape[1] - 1
            labels[number, start : start + len(answer)] = torch.tensor(answer)
            for name, value in prompt.items():
                if name == "token_type_ids" and self._causal:
                    continue
                if value.shape == shape:  # one number for each token
                    tail = value.new_full((longest - shape[1],), self._filler(name))
                    if name == "input_ids":
                        tail[: len(answer) - 1] = value.new_tensor(answer[:-1])
                    elif name == "attention_mask":
                        tail[: len(answer) - 1] = 1
                    value = torch.cat([value[0], tail])[None]
                columns.setdefault(name, []).append(value)
        return Rows({n: torch.cat(values) for n, values in columns.items()}, labels, robot)

    def _filler(self, name: str) -> int:
        return {"input_ids": self._pad, "token_type_ids": self._suffix_type}.get(name, 0)


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
        answer tokens that are the likeliest.
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
        figures = {"answer": float(total.detach())}
        for name, of in (("robot", robot), ("web", ~robot)):
            if of.any():
                figures[name] = float(loss.detach()[of].mean())
        if robot.any():
            figures["robot_accuracy"] = float(right[robot].float().mean())
        return Losses(total, figures)


class VlmRecipe:
    """A published model and how it is fine-tuned."""

    states: Source | None = None
    unused = False

    def __init__(self, config: VlmConfig, sources: Mapping[str, Source]) -> None:
        torch.manual_seed(config.seed)
        self._settings, self._decay = config.model, config.weight_decay
        settings = config.model
        self.processor = AutoProcessor.from_pretrained(settings.checkpoint)
        self._model = AutoModelForImageTextToText.from_pretrained(
            settings.checkpoint, dtype=torch.float32
        )
        self.rower = Rower(
            self.processor, main_space(sources, config.space),
            vocabulary=settings.vocabulary, causal=settings.prefix_attention == "causal",
        )  # fmt: skip
        self.blocks = tuple(self._model._no_split_modules or ())
        if settings.gradient_checkpointing:
            self._model.gradient_checkpointing_enable()
        trained: nn.Module = self._model
        if settings.lora:
            trained = add_adapters(self._model, settings.lora, settings.freeze_vision)
            if settings.embeddings:
                self._model.get_input_embeddings().weight.requires_grad_(True)
        elif settings.freeze_vision:
            vision_of(self._model).requires_grad_(False)
        self.objective = VlmObjective(trained)

    def pack(self, frames: Sequence[Frame]) -> Rows:
        """Frames as a batch."""
        return self.rower(frames)

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
            "prefix_attention": self._settings.prefix_attention,
        }  # fmt: skip
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
            name = f"{layer}.{kind}"
        result[name.removeprefix(prefix)] = value
    return result
