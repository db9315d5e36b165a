# SPDX-License-Identifier: Apache-2.0
"""The success rates of the RT-2 paper (arXiv 2307.15818), per cell of its two evaluations.

>>> PAPER["unseen-objects", "hard"]       # RT-1, RT-2 PaLI-X 55B, RT-2 PaLM-E 12B, in percent
(43, 62, 76)

They stand beside ours for their shape, what is harder than what, and for nothing else: the paper
counts some 6,000 trials of real robots at other tasks.
"""

from __future__ import annotations

Cell = tuple[str, str]  # suite, cell

NOT_COMPARABLE = "real robots, other tasks: not comparable in absolute terms"
SOURCE = "RT-2, arXiv 2307.15818"
MODELS = ("RT-1", "RT-2 PaLI-X 55B", "RT-2 PaLM-E 12B")
SEEN: Cell = ("seen", "")
PAPER: dict[Cell, tuple[int, ...]] = {  # in the order of its tables
    SEEN: (92, 91, 93),
    ("unseen-objects", "easy"): (31, 70, 84),
    ("unseen-objects", "hard"): (43, 62, 76),
    ("unseen-backgrounds", "easy"): (71, 96, 75),
    ("unseen-backgrounds", "hard"): (9, 48, 71),
    ("unseen-environments", "easy"): (26, 63, 36),
    ("unseen-environments", "hard"): (14, 35, 33),
    ("emergent", "symbols"): (16, 82, 36),
    ("emergent", "reasoning"): (16, 46, 43),
    ("emergent", "people"): (20, 53, 43),
}
# What belongs to its generalisation evaluation (figure 4) and to its emergent one (figure 6).
UNSEEN = tuple(cell for cell in PAPER if cell[0].startswith("unseen-"))
EMERGENT = tuple(cell for cell in PAPER if cell[0] == "emergent")
UNSEEN_AVERAGE = (32, 62, 62)
EMERGENT_AVERAGE = (17, 60, 40)


def title(cell: Cell) -> str:
    """What a reader calls a cell: "unseen objects, hard"."""
    return ", ".join(filter(None, cell)).replace("-", " ")


def in_order(cells: set[Cell]) -> list[Cell]:
    """The paper's cells in its order, then others by name."""
    places = {cell: place for place, cell in enumerate(PAPER)}
    return sorted(cells, key=lambda cell: (places.get(cell, len(places)), cell))
