# SPDX-License-Identifier: Apache-2.0
"""What RT-1's training minimises.

The paper's cross-entropy over 256 bins for each of the eight dimensions, at each image of a window.
A network of random weights needs help that the paper's, pretrained on ImageNet, does not; the aids
are those that rt2-tiny has, on the same demonstrations: soft targets (neighbouring bins are nearly
right); a stage in which each cell of the picture says what it shows and where that thing's centre
is; and two of TokenLearner's maps that are told to look at what is asked for.

    objective = RT1Objective(model, space)
    objective.see(batch, sigma=5.0).total.backward()
    objective.act(batch, sigma=2.0, looking_weight=0.5).total.backward()
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from rt2_ros.actions import ActionSpace
from rt2_ros.actions.bins import BINS
from rt2_ros.data.episodes import Batch
from rt2_ros.data.samples import NOTHING
from rt2_ros.data.split import ROBOT_NAMES
from rt2_ros.models.rt1 import RT1
from rt2_ros.models.rt1.model import unit_state
from rt2_ros.models.tiny import sinusoids
from rt2_ros.training.objective import SWITCH_WEIGHT, soft_targets

SWITCHES = (0, 7)  # terminate and gripper: dimensions whose neighbouring bins are not nearly right
LOOKING = 2  # maps of TokenLearner that are told where to look


@dataclass
class RT1Losses:
    """One step's; `total` is what is minimised, the others are figures to show."""

    total: torch.Tensor
    error: float = 0.0  # bins between the likeliest and the expert's, over dx, dy, dz
    last_error: float = 0.0  # the same at the windows' last images
    switch_errors: float = 0.0  # share of wrong terminates and grippers
    looks: float = 0.0  # share of pictures in which the first map's peak shows what is asked for
    shown: float = 0.0  # share of cells with a thing that name it
    parts: dict[str, float] = field(default_factory=dict)


class RT1Objective(nn.Module):
    """A model with the read-outs that only training needs."""

    def __init__(self, model: RT1, space: ActionSpace) -> None:
        super().__init__()
        self.model, self.space = model, space
        size = model.config.hidden
        self.shows = nn.Linear(size, len(ROBOT_NAMES) + 1)
        self.centre = nn.ModuleList(nn.Linear(size, size) for _ in "uv")
        self.register_buffer("table", sinusoids(BINS, size))
        weight = torch.ones(8)
        weight[list(SWITCHES)] = SWITCH_WEIGHT
        self.register_buffer("weight", weight)

    def see(self, batch: Batch, sigma: float) -> RT1Losses:
        """What each cell shows, and where the centre of that is; no instruction is read.

        sigma: width of the soft targets in bins.
        """
        cells = self.model.features(batch.images.flatten(0, 1), None)
        cells = nn.functional.layer_norm(cells, cells.shape[-1:])
        shown = batch.shown.flatten(0, 1)
        there = (shown != len(ROBOT_NAMES)) & (shown != NOTHING)
        # Every cell with a thing, and one in eight without.
        kept = there | ((shown != NOTHING) & (torch.rand(shown.shape, device=shown.device) < 0.125))
        scores = self.shows(cells[kept])
        named = nn.functional.cross_entropy(scores, shown[kept])
        things, centres = cells[there], batch.centres.flatten(0, 1)[there]
        placed = torch.stack(
            [
                _soft_loss(linear(things) @ self.table.T, centres[:, axis], sigma).mean()
                for axis, linear in enumerate(self.centre)
            ]
        ).mean()
        right = (scores.argmax(-1) == shown[kept])[there[kept]].float().mean()
        parts = {"named": float(named.detach()), "placed": float(placed.detach())}
        return RT1Losses(named + placed, shown=float(right), parts=parts)

    def act(self, batch: Batch, sigma: float, looking_weight: float) -> RT1Losses:
        """What to do, at every image; and where to look. sigma as in `see`."""
        model, (count, length) = self.model, batch.images.shape[:2]
        sentence = model.sentences(batch.texts).repeat_interleave(length, dim=0)
        tokens, maps = model.look(batch.images.flatten(0, 1), sentence)
        state = unit_state(self.space, batch.states) if model.config.state else None
        logits = model.decide(tokens.unflatten(0, (count, length)), state)
        told = batch.bins[..., 0] != NOTHING
        bins, logits = batch.bins[told], logits[told].float()
        loss = _soft_loss(logits, bins, sigma)
        for dimension in SWITCHES:
            loss[:, dimension] = nn.functional.cross_entropy(
                logits[:, dimension], bins[:, dimension], reduction="none"
            )
        action = (loss * self.weight).sum() / (self.weight.sum() * len(bins))
        named = batch.named.flatten(0, 1)
        visible = named.any(-1)
        chosen = maps[visible][:, :LOOKING].masked_fill(~named[visible][:, None], -torch.inf)
        looking = -chosen.logsumexp(-1).mean()
        total = action + looking_weight * looking if looking_weight else action
        with torch.no_grad():
            answer = logits.argmax(-1)
            distance = (answer - bins)[:, 1:4].abs().float().mean(1)
            last = torch.zeros_like(told)
            last[:, -1] = True
            wrong = (answer - bins)[:, list(SWITCHES)].abs() > BINS // 4
            wrong[:, 0] = answer[:, 0] != bins[:, 0]
            peak = maps[visible][:, 0].argmax(-1, keepdim=True)
            looks = named[visible].gather(1, peak).float().mean()
            at_last = distance[last[told]]
        return RT1Losses(
            total, float(distance.mean()), float(at_last.mean()) if len(at_last) else 0.0,
            float(wrong.float().mean()), float(looks),
            parts={"action": float(action.detach()), "looking": float(looking.detach())},
        )  # fmt: skip


def _soft_loss(logits: torch.Tensor, target: torch.Tensor, sigma: float) -> torch.Tensor:
    """Cross-entropy (...) of logits (..., 256) against soft targets around (...)."""
    return -(soft_targets(target, sigma) * logits.float().log_softmax(-1)).sum(-1)
