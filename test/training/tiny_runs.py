# SPDX-License-Identifier: Apache-2.0
"""Small runs that tests share: sources that one can learn in seconds, models of few weights."""

import json

import numpy as np
import torch

from rt2_ros.actions import action_prompt, answer_text
from rt2_ros.data.robot import SPACE
from rt2_ros.data.samples import Frame, Query
from rt2_ros.models.tiny import build_model, build_processor
from rt2_ros.training.config import Stage, TinyConfig, TinySizes, TinyStage, VlmConfig, VlmSettings
from rt2_ros.training.engine import Run
from rt2_ros.training.tiny import TinyRecipe
from rt2_ros.training.vlm import VlmRecipe
from rt2_ros.typed import build

SIZES = TinySizes(hidden=96, vision_layers=1, text_layers=2)


class Colour:
    """Tells which colour the picture has, by a plan and by an action."""

    space = SPACE
    plans = True
    size = 192
    statistics = {"frames": 3}
    words = ("red", "green", "blue")

    @staticmethod
    def image(which):
        picture = np.zeros((192, 192, 3), np.uint8)
        picture[..., which] = 255
        return picture

    @staticmethod
    def bins(which):
        return [0, 100 * which + 20, 31, 42, 53, 64, 75, 255]

    def __call__(self, random):
        which = int(random.integers(0, 3))
        answer = answer_text(self.bins(which), self.words[which])
        query = Query(action_prompt("hold", [1, 2, 3, 4]), answer, "robot")
        return Frame(self.image(which), (query,), (), f"colour {which}")


def talk(random):
    """A web question."""
    image = random.integers(0, 255, (192, 192, 3), dtype=np.uint8)
    return Frame(image, (Query("Q: what is this? A:", "noise", "web"),), ())


def log(folder):
    """The lines of a run's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder):
    """What a run's log tells of each step: its losses and its gradient's norm."""
    names = ("answer", "dense", "gradient")
    return {
        line["step"]: [line[name] for name in names if name in line]
        for line in log(folder)
        if "answer" in line
    }


def break_off(run):
    """Have a run with `save_steps` of 3 leave what a kill would: the checkpoint of step 3, and a
    log beyond it.
    """
    save, place = run.save, run.place
    run._patience_is_over = lambda: place.step >= 4
    run.save = lambda: run.place.step < 4 and save()
    return run


SOURCES = {"colour": Colour(), "talk": talk}
NAMES = {"colour": {"type": "test"}, "talk": {"type": "test"}}


def tiny_stage(**changes):
    values = {"name": "act", "steps": 6, "shares": {"colour": 1.0}, "learning_rate": 2e-3,
              "batch_size": 4, "dense_weight": 0.0, "sigma": (2.0, 2.0)}  # fmt: skip
    return TinyStage(**{**values, **changes})


def tiny_config(folder, **changes):
    values = {"name": "test", "type": "tiny", "stages": (tiny_stage(),), "out": str(folder),
              "workers": 0, "model": SIZES, "sources": NAMES, "log_every": 1}  # fmt: skip
    return TinyConfig(**{**values, **changes})


def tiny_run(config, sources=SOURCES, **others):
    recipe = TinyRecipe(config, sources)
    return Run(config, recipe, sources, SPACE, **others)


def vlm_stage(**changes):
    values = {"name": "tune", "steps": 6, "shares": {"colour": 1.0, "talk": 1.0},
              "learning_rate": 1e-3, "batch_size": 4}  # fmt: skip
    return Stage(**{**values, **changes})


def vlm_checkpoint(folder):
    """A PaliGemma of few and random weights with its processor, as from the hub."""
    processor = build_processor()
    build_model(processor, hidden=96, vision_layers=1, text_layers=2).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def vlm_config(folder, checkpoint, **changes):
    model = {"checkpoint": str(checkpoint), **changes.pop("model", {})}
    values = {"name": "test", "type": "vlm", "stages": (vlm_stage(),), "out": str(folder),
              "workers": 0, "model": build(VlmSettings, model, "model"), "sources": NAMES,
              "log_every": 1, "precision": "fp32"}  # fmt: skip
    return VlmConfig(**{**values, **changes})


def vlm_run(config, sources=SOURCES, spare=False, **others):
    """spare: whether the model has weights that no step uses, as LLaVA's last vision layer is."""
    recipe = VlmRecipe(config, sources)
    if spare:
        recipe.objective.model.spare = torch.nn.Parameter(torch.ones(3))
    return Run(config, recipe, sources, SPACE, **others)
