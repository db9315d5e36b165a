# SPDX-License-Identifier: Apache-2.0
"""Policies by name: config/policies/NAME.yaml, or the folder of a checkpoint.

    load_policy("rt2-tiny")                     # config/policies/rt2-tiny.yaml
    load_policy("out/train/mine/checkpoint")    # a checkpoint in Hugging Face layout
    load_policy("my-policy.yaml", device="cuda")

Such a file holds `type` and that type's own keys; keyword overrides replace single keys.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

from rt2_ros.paths import config_path, find_folder, read_yaml
from rt2_ros.policies.base import Policy

# type -> module and class with `from_config(name, config) -> Policy`; imported when asked for,
# because torch and transformers take seconds.
TYPES = {
    "vlm": ("rt2_ros.policies.vlm", "VlmPolicy"),
    "rt1": ("rt2_ros.policies.rt1", "RT1Policy"),
    "hold": ("rt2_ros.policies.hold", "HoldPolicy"),
    "sweep": ("rt2_ros.policies.sweep", "SweepPolicy"),
    "random": ("rt2_ros.policies.baselines", "RandomPolicy"),
}


# What a policy's file need not say, for the checkpoint's record has it; the last two can be chosen
# otherwise.
RECORDED = ("vocabulary", "vocabulary_ids", "image_size", "plan", "max_plan_tokens")


def policy_names() -> tuple[str, ...]:
    """The names that config/policies holds, sorted."""
    return tuple(sorted(path.stem for path in config_path("policies").glob("*.yaml")))


def policy_config(name_or_path: str) -> tuple[str, dict[str, Any]]:
    """Return (name, settings) of a policy without loading it; ValueError names what exists."""
    given = Path(name_or_path).expanduser()
    if name_or_path in policy_names():
        name, path = name_or_path, config_path("policies", f"{name_or_path}.yaml")
    elif given.suffix in (".yaml", ".yml") and given.is_file():
        name, path = given.stem, given
    elif given.is_dir():
        return _checkpoint_name(given), {**_checkpoint_settings(given), "checkpoint": str(given)}
    else:
        raise ValueError(
            f"no policy {name_or_path!r}: not one of {', '.join(policy_names())}, "
            "not a .yaml file and not the folder of a checkpoint"
        )
    return name, _typed(path, read_yaml(path))


def policy_identity(name_or_path: str) -> tuple[str, dict[str, Any]]:
    """`policy_config`, with what its checkpoint's record says of it, and the `digest` of that where
    it is a folder: other weights at the same place are another policy.
    """
    name, config = policy_config(name_or_path)
    folder = find_folder(str(config.get("checkpoint", "")))
    if folder is None:
        return name, config
    recorded = _object(folder / "training.json").get("policy") or {}
    learned = {key: recorded[key] for key in RECORDED if key in recorded}
    return name, {**learned, **config, "digest": _digest(folder)}


def _typed(path: Path, config: Any) -> dict[str, Any]:
    """Settings with a type that there is; ValueError names the file."""
    found = config.get("type") if isinstance(config, dict) else config
    if not isinstance(config, dict) or found not in TYPES:
        raise ValueError(f"{path}: type is {found!r}; expected one of {', '.join(sorted(TYPES))}")
    return config


def _digest(folder: Path) -> str:
    """Of all that makes a checkpoint decide as it does: not of its past, what only training goes on
    from, or a page about it.
    """
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        aside = path.name in ("training.json", "state.pt") or path.suffix == ".md"
        if path.is_file() and not aside:
            whole.update(path.name.encode())
            with path.open("rb") as file:
                while part := file.read(1 << 20):
                    whole.update(part)
    return whole.hexdigest()[:16]


def _checkpoint_name(folder: Path) -> str:
    """The folder's name; of a training run's checkpoints the run's: "my-robot", "my-robot-best"."""
    folder = folder.absolute()
    if not (folder.parent / "log.jsonl").is_file():
        return folder.name
    run = folder.parent.name
    return run if folder.name == "checkpoint" else f"{run}-{folder.name}"


def _checkpoint_settings(folder: Path) -> dict[str, Any]:
    """How a checkpoint is to be read: as its training.json says, else by its config.json's type."""
    path = folder / "training.json"
    if told := _object(path).get("policy"):
        return dict(_typed(path, told))
    model_type = _object(folder / "config.json").get("model_type")
    return {"type": "rt1" if model_type == "rt1" else "vlm"}


def _object(path: Path) -> dict[str, Any]:
    """A JSON object of a file, {} if there is none; ValueError names it and what is amiss."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: a {type(found).__name__}; expected a JSON object")
    return found


def load_policy(name_or_path: str, **overrides: Any) -> Policy:
    """Load a policy by name, YAML file or checkpoint folder.

    Raises ValueError or OSError with one line that says what is missing and where.
    """
    name, config = policy_config(name_or_path)
    module, cls = TYPES[config["type"]]
    settings = {key: value for key, value in {**config, **overrides}.items() if key != "type"}
    return getattr(importlib.import_module(module), cls).from_config(name, settings)
