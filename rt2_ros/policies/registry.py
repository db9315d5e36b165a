# SPDX-License-Identifier: Apache-2.0
"""Policies by name: config/policies/NAME.yaml, or the folder of a checkpoint.

    load_policy("rt2-tiny")                     # config/policies/rt2-tiny.yaml
    load_policy("out/train/checkpoint")         # a checkpoint in Hugging Face layout
    load_policy("my-policy.yaml", device="cuda")

Such a file holds `type` and that type's own keys; keyword overrides replace single keys.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import yaml

from rt2_ros.paths import config_path
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
        return given.name, {"type": _checkpoint_type(given), "checkpoint": str(given)}
    else:
        raise ValueError(
            f"no policy {name_or_path!r}: not one of {', '.join(policy_names())}, "
            "not a .yaml file and not the folder of a checkpoint"
        )
    config = yaml.safe_load(path.read_text())
    if not isinstance(config, dict) or config.get("type") not in TYPES:
        found = config.get("type") if isinstance(config, dict) else config
        raise ValueError(f"{path}: type is {found!r}; expected one of {', '.join(sorted(TYPES))}")
    return name, config


def _checkpoint_type(folder: Path) -> str:
    """The type of policy that a checkpoint's config.json asks for."""
    path = folder / "config.json"
    model_type = json.loads(path.read_text()).get("model_type") if path.is_file() else None
    return "rt1" if model_type == "rt1" else "vlm"


def load_policy(name_or_path: str, **overrides: Any) -> Policy:
    """Load a policy by name, YAML file or checkpoint folder.

    Raises ValueError or OSError with one line that says what is missing and where.
    """
    name, config = policy_config(name_or_path)
    module, cls = TYPES[config["type"]]
    settings = {key: value for key, value in {**config, **overrides}.items() if key != "type"}
    return getattr(importlib.import_module(module), cls).from_config(name, settings)
