# SPDX-License-Identifier: Apache-2.0
"""Short hashes of what tells seen from unseen beside the split, kept with each checkpoint.

    held_out()["web"]       # what the web set asks and knows
    held_out()["looks"]     # how far demonstrations vary table, light and camera
    held_out()["suites"]    # {"seen": ..., "robustness/noise": ...}: what is tried, cell by cell

Each part has a hash of its own, so that a cell that is new takes nothing from what is known of the
others.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from rt2_ros.data import knowledge, robot, web
from rt2_ros.paths import config_path, read_yaml
from rt2_ros.sim.scene import Appearance

SEEDS = range(8)  # of looks that are drawn to see how they vary
DIGITS = 6  # after the point: another machine's cosine may differ in the last


def held_out() -> dict[str, Any]:
    """The hashes, by name; ValueError for a file of suites that holds none."""
    return {"web": _hash(_web()), "looks": _hash(_looks()), "suites": _suites()}


def _hash(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def _web() -> list[Any]:
    """Its templates, the words that fill them, and what it knows of things."""
    looks = (web.LOOK, web.LOOK_ZH, web.LOOK_TWO, web.LOOK_TWO_ZH)
    return [[*web.words()], looks, web.NEAR_WHAT, web.NOTHING, read_yaml(knowledge.TABLE)]


def _looks() -> list[list[float]]:
    """Looks of demonstrations of each strength."""
    drawn = []
    for seed in SEEDS:
        for strength in robot.STRENGTHS:
            look = Appearance.random(np.random.default_rng(seed), strength)
            values = (
                look.table, look.blocks, look.face, look.ambient, look.lamp, look.lamp_direction,
                look.camera.position, look.camera.rotation, look.camera.fovy,
            )  # fmt: skip
            numbers = np.concatenate([np.ravel(value) for value in values])
            drawn.append((numbers.round(DIGITS) + 0.0).tolist())  # no -0.0
    return drawn


def _suites() -> dict[str, str]:
    """Each cell by its suite's name and its own, as it stands in the file."""
    found = {}
    for path in sorted(config_path("evaluation").glob("*.yaml")):
        try:
            for cell in read_yaml(path)["cells"]:
                name = str(cell.get("name", ""))
                found[f"{path.stem}/{name}" if name else path.stem] = _hash(cell)
        except (AttributeError, KeyError, TypeError):
            raise ValueError(f"{path}: expected a list `cells` of mappings") from None
    return found
