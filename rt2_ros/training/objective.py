# SPDX-License-Identifier: Apache-2.0
"""What is minimised: one cross-entropy on answer tokens, and, for the tiny model, a dense one on
patches.

Integers that name a place or a step get soft targets: a Gaussian over the neighbouring bins, so
that 130 is nearly right where 131 was asked. The dense part asks each patch for the words and the
centre of the thing that it shows, at which sides of that there is room, and how many things are
around the patch, and the tower's stem for the thing's middle and which of all names it has; it is
what makes a vision tower of random weights useful within minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import apply_rotary_pos_emb

from rt2_ros.actions.bins import BINS
from rt2_ros.data.samples import MOST_AROUND
from rt2_ros.models.stem import PATCH_SIZE, Stemmed
from rt2_ros.training.packing import IGNORED, SHOWN, Batch, attention_mask

# Terminate and gripper: two tokens among many, and a wrong one drops what is held.
SWITCH_WEIGHT = 4.0
LOOKING = 2  # heads of the first layer that are told where to look
SIZES = 256  # rows that products come in multiples of


@dataclass
class Losses:
    """Of one batch; `total` is what is minimised, `figures` are what a log shows."""

    total: torch.Tensor
    figures: dict[str, float]


def mean_figures(losses: Sequence[Losses]) -> dict[str, float]:
    """Means of several batches' figures, each over those that have it: a batch of web pictures has
    none of a robot.
    """
    names = dict.fromkeys(name for one in losses for name in one.figures)
    having = {name: [one.figures[name] for one in losses if name in one.figures] for name in names}
    return {name: sum(values) / len(values) for name, values in having.items()}


class Objective(nn.Module):
    """A model with what only training needs: the integer table and the dense read-outs."""

    def __init__(
        self, model: nn.Module, integer_ids: torch.Tensor, names: int, deciding: Sequence[int] = ()
    ) -> None:  # fmt: skip
        """names: how many there are, of things that a patch may show. deciding: tokens that count
        as much as switches in robots' answers.
        """
        super().__init__()
        self.model = model
        # Not registered: the same weights, compiled for a CPU. On a GPU that was not tried.
        parts = {"tower": model.model.vision_tower, "reader": model.model.language_model}
        for name, part in parts.items():
            plain = torch.cuda.is_available()
            object.__setattr__(self, name, part if plain else torch.compile(part))
        width = model.config.text_config.hidden_size
        self.register_buffer("integer_ids", integer_ids)
        self.centre = nn.ModuleList(nn.Linear(width, width) for _ in "uv")
        self.name = nn.Linear(width, names)
        self.flat = nn.Linear(width, 2)
        self.room = nn.Linear(width, SHOWN[-1])
        self.crowd = nn.Linear(width, MOST_AROUND + 1)
        head = model.config.text_config.head_dim
        self.found = nn.Linear(LOOKING * head, 1 + SHOWN[-1])
        lookup = torch.full((model.config.text_config.vocab_size,), -1)
        lookup[integer_ids] = torch.arange(len(integer_ids))
        self.register_buffer("value", lookup)
        self.register_buffer("deciding", torch.tensor(deciding, dtype=torch.long), persistent=False)

    def see(self, pixels: torch.Tensor) -> tuple[torch.Tensor, Stemmed]:
        """Image tokens (B, P, D) of pixels (B, 3, H, W) in -1..1, and what the tower said."""
        said = self.tower(pixels)
        return self.model.model.multi_modal_projector(said.last_hidden_state), said

    def forward(
        self, batch: Batch, *, sigma: float, dense_weight: float, web_weight: float = 1.0,
        answers: bool = True, grounding_weight: float = 0.0,
    ) -> Losses:  # fmt: skip
        """Losses of one batch; sigma in bins, web_weight as lambda in L_robot + lambda * L_web.

        Figures, each where the batch has something of the kind: answer, dense, grounding (losses);
        robot_share of the answer tokens; integer_error, the mean distance in bins between the
        likeliest and the right integer of web questions, robot_error, the same of robot questions,
        and state_error, of those without a picture; patch_accuracy, of words, and name_accuracy,
        of names among all of them; centre_error, in px; room_accuracy, of the sides of things on a
        table, and found_accuracy, of these and whether it is flat, where a thing is named;
        crowd_accuracy, of how many things are around patches.
        """
        embedding = self.model.get_input_embeddings().weight
        pixels = batch.pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
        none = embedding.new_zeros(0, batch.owner.shape[1], embedding.shape[1])
        features, said = self.see(pixels) if len(pixels) else (none, None)
        total = features.new_zeros((), dtype=torch.float32)
        figures: dict[str, float] = {}
        if dense_weight:
            dense, told = self._dense(features, embedding, batch, sigma)
            total, figures = total + dense_weight * dense, figures | told
            if said is not None:
                stem, told = self._stem(said, batch)
                total, figures = total + dense_weight * stem, figures | told
        if answers:
            answer, told = self._answers(features, batch, sigma, web_weight)
            total, figures = total + answer, figures | told
        if answers and grounding_weight:
            grounding, told = self._ground(features, batch)
            total, figures = total + grounding_weight * grounding, figures | told
        return Losses(total, figures)

    def read(self, features: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Last hidden states (B, T, D) of the questions behind image tokens (B, P, D)."""
        pictures, image_tokens = features.shape[:2]
        text = self.model.get_input_embeddings()(batch.ids)
        positions = batch.positions + image_tokens + 1  # a place is kept for the picture
        parts = []
        for rows, image in (
            (slice(0, pictures), features),
            (slice(pictures, None), features.new_zeros(len(text) - pictures, 0, features.shape[2])),
        ):
            if not len(text[rows]):
                continue
            seen = image.shape[1]
            places = torch.arange(seen, device=text.device).expand(len(image), -1) + 1
            hidden = self.reader(
                inputs_embeds=torch.cat([image.to(text.dtype), text[rows]], dim=1),
                attention_mask=attention_mask(batch.segments[rows], seen, features.dtype),
                position_ids=torch.cat([places, positions[rows]], dim=1),
                use_cache=False,
            ).last_hidden_state
            parts.append(hidden[:, seen:])
        return torch.cat(parts)

    def _answers(
        self, features: torch.Tensor, batch: Batch, sigma: float, web_weight: float
    ) -> tuple[torch.Tensor, dict[str, float]]:
        hidden = self.read(features, batch)
        asked = batch.labels != IGNORED
        labels, soft, robot = batch.labels[asked], batch.soft[asked], batch.robot[asked]
        logits = self.model.lm_head(_rounded(hidden[asked]))[: len(labels)].float()
        log_p = logits.log_softmax(-1)
        loss = -log_p.gather(1, labels[:, None])[:, 0]
        integers = log_p[soft][:, self.integer_ids]
        target = self.value[labels[soft]]
        loss = loss.masked_scatter(soft, -(soft_targets(target, sigma) * integers).sum(-1))
        weight = torch.where(robot, 1.0, web_weight)
        switch = robot & ~soft & ((self.value[labels] >= 0) | torch.isin(labels, self.deciding))
        weight = torch.where(switch, SWITCH_WEIGHT, weight)
        distance = (integers.detach().argmax(-1) - target).abs().float()
        pictured = torch.zeros_like(batch.robot)
        pictured[: len(features)] = True
        told = pictured[asked][soft]
        answer = (loss * weight).sum() / weight.sum().clamp(min=1e-9)
        figures = {"answer": float(answer.detach()), "robot_share": float(robot.float().mean())}
        for name, of in (
            ("integer_error", ~robot[soft]), ("robot_error", robot[soft] & told),
            ("state_error", ~told),
        ):  # fmt: skip
            if of.any():
                figures[name] = float(distance[of].mean())
        return answer, figures

    def _ground(
        self, features: torch.Tensor, batch: Batch
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """How far the first layer's attention is from looking, from a thing's name, at the thing,
        and from bringing back whether it is flat and at which sides of it there is room.

        Some of its heads are told; the rest of the model learns what to do with what they find.
        """
        reader = self.model.model.language_model
        layer = reader.layers[0]
        attention = layer.self_attn

        def heads(what: torch.Tensor, linear: nn.Module) -> torch.Tensor:
            states = linear(layer.input_layernorm(what))
            return states.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)[:, :LOOKING]

        def project(what: torch.Tensor, linear: nn.Module, positions: torch.Tensor) -> torch.Tensor:
            states = heads(what, linear)
            cos, sin = reader.rotary_emb(states, positions)
            return apply_rotary_pos_emb(states, states, cos, sin)[0]

        patches = torch.arange(features.shape[1], device=features.device)[None]
        keys = project(features, attention.k_proj, patches + 1)
        count = len(features)
        text = self.model.get_input_embeddings()(batch.ids[:count])
        places = batch.positions[:count] + features.shape[1] + 1
        queries = project(text, attention.q_proj, places)
        named = batch.named[:count, :, None]
        right = (named == batch.owner[:, None, :]) & (named != IGNORED)  # (N, T, P)
        told = right.any(-1)
        scores = (queries @ keys.transpose(-1, -2)).float() * attention.scaling
        log_p = scores.log_softmax(-1)
        looked = log_p.transpose(1, 2)[told]  # (M, heads, P)
        hit = looked.masked_fill(~right[told][:, None], -torch.inf).logsumexp(-1)
        if not len(hit):
            return hit.sum(), {}
        loss = -hit.mean()
        figures = {"grounding": float(loss.detach())}
        values = heads(features, attention.v_proj)
        brought = (log_p.exp().to(values.dtype) @ values).transpose(1, 2)[told].flatten(1)
        row, patch = told.nonzero()[:, 0], right[told].int().argmax(-1)
        about = torch.cat([batch.patch_flat[..., None], batch.patch_room], -1)[row, patch]
        known = about != IGNORED
        if known.any():
            logits = self.found(_rounded(brought))[: len(brought)].float()[known]
            found = about[known].float()
            loss = loss + nn.functional.binary_cross_entropy_with_logits(logits, found)
            figures["found_accuracy"] = float(((logits > 0) == (found > 0)).float().mean())
        return loss, figures

    def _dense(
        self, features: torch.Tensor, embedding: torch.Tensor, batch: Batch, sigma: float
    ) -> tuple[torch.Tensor, dict[str, float]]:
        shown = batch.patch_uv[..., 0] != IGNORED
        labelled = batch.patch_words[..., 0] != IGNORED
        # Every patch with a thing, and one in eight without.
        kept = shown | (labelled & (torch.rand(shown.shape, device=shown.device) < 0.125))
        if not shown.any():  # of pictures of which nobody said what is where
            return features.sum() * 0.0, {}
        every = features.float()
        every = every * torch.rsqrt(every.pow(2).mean(-1, keepdim=True) + 1e-6)
        picked = every[kept]
        log_p = (_rounded(picked) @ embedding.float().T)[: len(picked)].log_softmax(-1)
        words = batch.patch_words[kept]
        present = words != IGNORED
        per_word = log_p.gather(1, words.clamp(min=0)) * present
        loss = -(per_word.sum(-1) / present.sum(-1)).mean()
        things = shown[kept]
        about = _rounded(picked[things])
        hit = (log_p[things].argmax(-1)[:, None] == words[things]).any(-1).float().mean()
        table = embedding[self.integer_ids].float()
        uv = batch.patch_uv[kept][things]
        for axis in range(2):
            logits = (self.centre[axis](about) @ table.T)[: len(uv)]
            loss = (
                loss
                - (soft_targets(uv[:, axis], sigma) * logits.log_softmax(-1)).sum(-1).mean() / 2
            )
        flat = batch.patch_flat[kept][things]
        if (flat != IGNORED).any():
            loss = loss + nn.functional.cross_entropy(
                self.flat(about)[: len(flat)], flat, ignore_index=IGNORED
            )
        figures = {"patch_accuracy": float(hit)}
        room = batch.patch_room[kept][things]
        known = room != IGNORED
        if known.any():
            logits, right = self.room(about)[: len(room)][known], room[known].float()
            loss = loss + nn.functional.binary_cross_entropy_with_logits(logits, right)
            figures["room_accuracy"] = float(((logits > 0) == (right > 0)).float().mean())
        crowds, crowd = self.crowd(every).transpose(1, 2), batch.patch_crowd
        loss = loss + nn.functional.cross_entropy(crowds, crowd, ignore_index=IGNORED)
        counted = crowds.detach().argmax(1)[labelled] == crowd[labelled]
        figures["crowd_accuracy"] = float(counted.float().mean())
        return loss, {"dense": float(loss.detach()), **figures}

    def _stem(self, said: Stemmed, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """The stem's own part: where the middle of a thing is, and which of all things it is.

        Words are shared by many things, and common ones are learned long before rare ones; which
        thing it is, is asked straight from the glimpse.
        """
        assert said.centres is not None and said.things is not None
        shown = batch.patch_name != IGNORED
        if not shown.any():
            return said.centres.sum() * 0.0, {}
        side = batch.pixels.shape[1]
        off = said.centres[shown] - ((batch.patch_uv[shown].float() + 0.5) * (2 / BINS) - 1)
        away = off * (side / 2 / PATCH_SIZE)  # in patches
        loss = nn.functional.smooth_l1_loss(away, torch.zeros_like(away), beta=0.25)
        things, right = _rounded(said.things[shown]), batch.patch_name[shown]
        names = self.name(things)[: len(right)].float()
        loss = loss + nn.functional.cross_entropy(names, right, label_smoothing=0.1)
        figures = {
            "name_accuracy": float((names.argmax(-1) == right).float().mean()),
            "centre_error": float(off.detach().abs().mean()) * side / 2,
        }
        return loss, figures


def _rounded(rows: torch.Tensor) -> torch.Tensor:
    """Rows (N, D) with zeros after them, up to a multiple of SIZES: how many there are is another
    number in each step, and for each size of a product a CPU makes code, and keeps it.
    """
    return nn.functional.pad(rows, (0, 0, 0, -len(rows) % SIZES))


def soft_targets(target: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian weights over the 256 integers, (..., 256), around targets (...); each sums to 1."""
    bins = torch.arange(BINS, device=target.device)
    distance = (bins - target[..., None]).float()
    return torch.softmax(-0.5 * (distance / sigma) ** 2, dim=-1)
