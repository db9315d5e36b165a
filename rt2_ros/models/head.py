# SPDX-License-Identifier: Apache-2.0
"""The last step of a model, for the tokens that may come and for no others.

    head = Head(model)
    steps = head.choose(hidden, [(grammar.allowed(state), (0, -1))], smoothing)
    steps[0].token      # the likeliest of them after sequence 0's last token

Of PaliGemma's 257,000 rows 256 are multiplied where an integer comes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from rt2_ros.models.constrain import Smoothing, Step


class Head:
    """Chooses among the allowed tokens, by their rows of the output matrix alone.

    Grammars hand out the same array for the same situation, so ids and rows are kept by it.
    """

    FEW = 16384  # more rows than that are not copied; the whole matrix is multiplied

    def __init__(self, model: PreTrainedModel) -> None:
        self._linear = model.get_output_embeddings()
        self._scale, self._cap = _after(model)
        self._kept: dict[int, tuple[np.ndarray, torch.Tensor, torch.Tensor | None]] = {}
        self._certain: dict[int, Step] = {}

    def certain(self, token: int) -> Step:
        """A token that nothing was chosen from."""
        if token not in self._certain:
            self._certain[token] = Step(token, torch.tensor([token]), torch.ones(1))
        return self._certain[token]

    def choose(
        self,
        hidden: torch.Tensor,
        places: Sequence[tuple[np.ndarray, tuple[int, int]]],
        smoothing: Smoothing,
    ) -> list[Step]:
        """The likeliest allowed token at each place (row, column) of hidden (B, T, H).

        Places that allow the same tokens are scored together.
        """
        groups: dict[int, list[int]] = {}
        for index, (allowed, _) in enumerate(places):
            groups.setdefault(id(allowed), []).append(index)
        steps: dict[int, Step] = {}
        for group in groups.values():
            rows, columns = zip(*(places[index][1] for index in group), strict=True)
            allowed = places[group[0]][0]
            best, probabilities = self.pick(hidden[list(rows), list(columns)], allowed, smoothing)
            ids = self._rows(allowed)[1]
            for index, token, each in zip(group, best.tolist(), probabilities, strict=True):
                steps[index] = Step(token, ids, each)
        return [steps[index] for index in range(len(places))]

    def pick(
        self, hidden: torch.Tensor, allowed: np.ndarray, smoothing: Smoothing
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The likeliest of the allowed tokens (P,) and the probabilities (P, n) of all, from hidden
        states (P, H). Once its tables are made it runs without asking the host.
        """
        _, ids, _ = self._rows(allowed)
        probabilities = self._scores(hidden, allowed).float().softmax(-1)
        kernel = smoothing.kernel(allowed, ids.device)
        spread = probabilities if kernel is None else probabilities @ kernel
        return ids[spread.argmax(-1)], probabilities

    def _scores(self, hidden: torch.Tensor, allowed: np.ndarray) -> torch.Tensor:
        """Of the allowed tokens (P, n) from hidden states (P, H)."""
        _, ids, rows = self._rows(allowed)
        if rows is None:
            scores = self._linear(hidden)[:, ids]
        else:
            bias = self._linear.bias
            scores = torch.nn.functional.linear(hidden, rows, None if bias is None else bias[ids])
        return _changed(scores, self._scale, self._cap)

    def _rows(self, allowed: np.ndarray) -> tuple[np.ndarray, torch.Tensor, torch.Tensor | None]:
        if id(allowed) not in self._kept:
            weight = self._linear.weight
            ids = torch.tensor(np.array(allowed), device=weight.device)
            rows = weight[ids] if len(ids) <= self.FEW else None
            self._kept[id(allowed)] = (allowed, ids, rows)  # `allowed` lives as long as its id
        return self._kept[id(allowed)]


def _changed(scores: torch.Tensor, scale: float, cap: float | None) -> torch.Tensor:
    """Of what the output matrix gives the model's own scores."""
    scores = scores if scale == 1.0 else scale * scores
    return scores if cap is None else cap * torch.tanh(scores / cap)


@torch.inference_mode()
def _after(model: PreTrainedModel) -> tuple[float, float | None]:
    """By what a model multiplies its scores, and where it caps them, found out by asking it: a
    configuration may have a cap that this model does not apply, or a factor of some other name.

    ValueError where it does something else to them.
    """
    text = model.config.get_text_config()
    cap, linear = getattr(text, "final_logit_softcapping", None), model.get_output_embeddings()
    if linear.weight.is_meta:  # of which nothing is computed
        return 1.0, cap
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, linear.weight.shape[1], generator=generator).to(linear.weight)
    noise *= 2 * (cap or 1.0) / linear(noise).abs().max()  # so large that a cap is seen
    plain = linear(noise).float()
    hook = linear.register_forward_pre_hook(lambda _, given: (noise.expand_as(given[0]),))
    try:
        scores = model(input_ids=torch.ones(1, 1, dtype=torch.long, device=noise.device)).logits
    finally:
        hook.remove()
    scores = scores[:, -1:].float()
    factor = float((scores * plain).sum() / plain.square().sum())
    for scale, limit in ((1.0, None), (1.0, cap), (factor, None)):
        if (_changed(plain, scale, limit) - scores).norm() <= 0.02 * scores.norm():
            return scale, limit
    raise ValueError(
        f"model_type {model.config.model_type!r} changes the scores of its output matrix in a way "
        "that is not known here; expected a cap (final_logit_softcapping), a factor, or neither"
    )
