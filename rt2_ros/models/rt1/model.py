# SPDX-License-Identifier: Apache-2.0
"""RT-1 (arXiv 2212.06817): six images and an instruction in, eight distributions over 256 bins out.

    model = RT1(RT1Config())
    logits = model(images, model.sentences(["pick up the apple"]))   # (1, 6, 8, 256)
    logits[:, -1]                               # what to do now; [:, 0] is of the first image alone

A window of T images becomes T times 8 tokens, in the order of time; each image's tokens see one
another and those of earlier images, never later ones. The output at token i of image t is read as
dimension i of the action at t, so training learns from all T images at once, and a window that
begins where the episode begins is simply shorter.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerFast

from rt2_ros.actions import ActionSpace
from rt2_ros.actions.bins import BINS
from rt2_ros.models.rt1.config import RT1Config
from rt2_ros.models.rt1.film import FilmEfficientNet
from rt2_ros.models.rt1.sentences import MINILM, Frozen, Words, minilm_folder
from rt2_ros.models.rt1.token_learner import TokenLearner
from rt2_ros.models.tiny import build_processor, sinusoids

WEIGHTS = "model.safetensors"
STATE_SIZE = 4
OCTAVES = 7  # a state is told in sines of 1/2 .. 32 periods over its range


class RT1(nn.Module):
    """FiLM-conditioned EfficientNet, TokenLearner, transformer, a head for each dimension."""

    def __init__(self, config: RT1Config, sentences: nn.Module | None = None) -> None:
        """sentences: the encoder; built as the configuration says if None."""
        super().__init__()
        self.config = config
        self.sentences = build_sentences(config) if sentences is None else sentences
        self.vision = FilmEfficientNet(config)
        size, side = config.hidden, self.vision.side
        if config.positions:
            table = sinusoids(side, size // 2)
            rows, columns = table[:, None].expand(-1, side, -1), table[None].expand(side, -1, -1)
            self.places = nn.Parameter(torch.cat([rows, columns], -1).reshape(-1, size).clone())
        self.learner = TokenLearner(size, config.tokens)
        if config.state:
            self.state = nn.Linear(STATE_SIZE * 2 * OCTAVES, size)
        per_image = config.tokens + config.state
        self.position = nn.Parameter(0.02 * torch.randn(config.history, per_image, size))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(size)
        # Neighbouring bins start alike, so that near misses are learned from.
        self.heads = nn.Parameter(sinusoids(BINS, size).repeat(config.tokens, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.tokens, BINS))
        step = torch.arange(config.history * per_image) // per_image
        self.register_buffer("seen", step[:, None] >= step[None, :], persistent=False)

    def forward(
        self, images: torch.Tensor, sentence: torch.Tensor, state: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logits (B, T, 8, 256) of images uint8 (B, T, S, S, 3), sentence (B, E), state (B, T, 4).

        T is at most the configuration's history; states are as `unit_state` gives them.
        """
        batch, length = images.shape[:2]
        tokens, _ = self.look(
            images.flatten(0, 1), sentence.repeat_interleave(length, dim=0)
        )  # one after the other in time
        return self.decide(tokens.unflatten(0, (batch, length)), state)

    def features(self, images: torch.Tensor, sentence: torch.Tensor | None) -> torch.Tensor:
        """Cells (N, P, hidden) of images uint8 (N, S, S, 3); FiLM is left out without sentence."""
        size = self.config.image_size
        if images.shape[1:] != (size, size, 3):
            raise ValueError(f"images: {tuple(images.shape)}, expected (N, {size}, {size}, 3)")
        found = self.vision(images, sentence)
        return found + self.places if self.config.positions else found

    def look(
        self, images: torch.Tensor, sentence: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (N, 8, hidden) of images (N, S, S, 3), and log maps (N, 8, P) over their cells.

        They do not depend on other images, so a policy keeps those that it has.
        """
        return self.learner(self.features(images, sentence))

    def decide(self, tokens: torch.Tensor, state: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (B, T, 8, 256) of tokens (B, T, 8, hidden) and states (B, T, 4)."""
        length = tokens.shape[1]
        if length > self.config.history:
            raise ValueError(f"window: {length} images, expected 1 to {self.config.history}")
        if self.config.state:
            if state is None:
                raise ValueError("state: None, expected (B, T, 4); this model was trained with it")
            tokens = torch.cat([self._state_token(state), tokens], dim=2)
        x = (tokens + self.position[:length]).flatten(1, 2)
        seen = self.seen[: x.shape[1], : x.shape[1]]
        for layer in self.layers:
            x = layer(x, seen)
        x = self.norm(x).unflatten(1, (length, -1))[:, :, -self.config.tokens :]
        return torch.einsum("btdh,dvh->btdv", x, self.heads) + self.bias

    def _state_token(self, state: torch.Tensor) -> torch.Tensor:
        octaves = 2.0 ** torch.arange(OCTAVES, device=state.device)
        angle = state[..., None] * octaves * (math.pi / 2)
        waves = torch.cat([angle.sin(), angle.cos()], -1).flatten(-2)
        return self.state(waves)[:, :, None]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors and, of learned words, the tokenizer."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.save(folder)
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, folder / WEIGHTS)
        self.sentences.save_pretrained(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> RT1:
        """Read what `save_pretrained` wrote; OSError or ValueError names the file and what is odd.

        Weights of half precision are widened to float32.
        """
        folder = Path(folder)
        config = RT1Config.load(folder)
        path = folder / WEIGHTS
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; the checkpoint has no weights")
        weights = {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in load_file(path).items()
        }
        sentences = None
        if not config.sentences:
            sentences = Words(PreTrainedTokenizerFast.from_pretrained(folder), config.sentence_size)
        model = cls(config, sentences)
        expected = model.state_dict()
        for name in sorted(set(expected) | set(weights)):
            have = tuple(weights[name].shape) if name in weights else "nothing"
            want = tuple(expected[name].shape) if name in expected else "nothing"
            if have != want:
                raise ValueError(f"{path}: {name} is {have}, expected {want}")
        model.load_state_dict(weights)
        return model.eval()


class Layer(nn.Module):
    """Attention and a feed-forward part, each behind a norm and beside a residual."""

    def __init__(self, config: RT1Config) -> None:
        super().__init__()
        size, inner = config.hidden, config.heads * config.head_size
        self.heads = config.heads
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(2))
        self.qkv = nn.Linear(size, 3 * inner)
        self.out = nn.Linear(inner, size)
        self.feed = nn.Sequential(
            nn.Linear(size, config.feed_forward), nn.GELU(), nn.Linear(config.feed_forward, size)
        )
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """(B, L, size); seen (L, L): whom each place may look at."""
        q, k, v = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        mixed = nn.functional.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=seen
        )
        x = x + self.drop(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.drop(self.feed(self.norms[1](x)))


def unit_state(space: ActionSpace, state: torch.Tensor) -> torch.Tensor:
    """States (..., 4) in the space's units as -1..1 over its range, clipped."""
    low, high = (
        torch.tensor(ends, device=state.device) for ends in (space.state_low, space.state_high)
    )
    return (2 * (state - low) / (high - low) - 1).clamp(-1, 1)


def build_sentences(config: RT1Config) -> Words | Frozen:
    """The encoder that the configuration names; learned words use the default model's tokenizer."""
    if config.sentences == MINILM:
        return Frozen(minilm_folder(), config.sentence_size)
    if config.sentences:
        return Frozen(config.sentences, config.sentence_size)
    return Words(build_processor().tokenizer, config.sentence_size)
