# SPDX-License-Identifier: Apache-2.0
"""A vision-language-action checkpoint from a folder or a hub: model, processor and action space."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, ProcessorMixin

from rt2_ros.actions import ActionSpace, PlanForm
from rt2_ros.actions.form import FILE_NAME as FORM_FILE
from rt2_ros.actions.space import STATE_NAMES
from rt2_ros.models import stem  # noqa: F401  AutoModel knows the default model's tower by it
from rt2_ros.models.picture import plain_patches
from rt2_ros.paths import find_folder
from rt2_ros.policies.settings import chosen_device, chosen_dtype

SPACE_FILE = "action_space.json"
RECORD = "training.json"
ADAPTER = "adapter_config.json"  # peft's
WEIGHTS = ("full", "int8")  # as dtype says; or int8 with a scale for each row, in less memory


class InPlace:
    """A folder's weights that are read where they lie: numbers that a CPU computes with as they are
    stored are mapped from their file, and whoever writes into that changes the model.
    """

    def __init__(self, folder: str | Path) -> None:
        maps = Path("/proc/self/maps")
        lines = maps.read_text().splitlines() if maps.is_file() else []
        mapped = {line.split(maxsplit=5)[-1] for line in lines}
        files = [path.resolve() for path in Path(folder).glob("*.safetensors")]
        self._files = {path: _stamp(path) for path in files if str(path) in mapped}

    def check(self) -> None:
        """RuntimeError that names a file that was written to. Another one in its place changes
        nothing: the model is still that of the first.
        """
        for path, before in self._files.items():
            now = _stamp(path) if path.is_file() else before
            if now != before and now[0] == before[0]:
                raise RuntimeError(
                    f"{path} was written to while its weights are in use; load the policy again, "
                    "and move a file over it instead of copying into it"
                )


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class Checkpoint:
    """What was loaded. form: what the model's plans look like, where they have a form. learned: how
    its training.json says that it is to be asked; empty where it has none.
    """

    model: PreTrainedModel
    processor: ProcessorMixin
    space: ActionSpace
    form: PlanForm | None
    learned: Mapping[str, Any]
    in_place: InPlace


def load_checkpoint(
    name: str,
    checkpoint: str | Path = "",
    device: str | None = None,
    dtype: str | None = None,
    weights: str = "full",
) -> Checkpoint:
    """Load what a policy's configuration says; every error names the key or the file.

    name: the policy's, for errors. checkpoint: a folder or a hub id.

    Raises:
        ValueError: a key that is missing or has no such value.
        OSError: no such checkpoint, or one that is not whole.
    """
    if not checkpoint:
        raise ValueError(f"policy {name}: no checkpoint; expected a folder or a hub id")
    path = _resolve(str(checkpoint))
    place = chosen_device(name, device)
    kind = chosen_dtype(name, dtype, place)
    if weights not in WEIGHTS:
        raise ValueError(f"policy {name}: weights is {weights!r}; expected {', '.join(WEIGHTS)}")
    if weights == "int8" and not find_spec("torchao"):
        raise ValueError(
            f"policy {name}: weights is 'int8' and torchao is not installed; expected "
            "pip install torchao"
        )
    file = _space_file(name, path)
    # All of one commit, also where the hub cannot be asked between two files or has a new one.
    commit = None if Path(path).is_dir() else file.parent.name
    space = load_space(name, file)
    if _file(path, ADAPTER, commit):
        raise OSError(
            f"policy {name}: checkpoint {path} has adapters ({ADAPTER}) beside its weights; "
            "expected merged ones: peft's merge_and_unload(), then save_pretrained"
        )
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging as hub_logging

    hub_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        processor = AutoProcessor.from_pretrained(path, revision=commit)
        fewer_bits = {"quantization_config": _int8()} if weights == "int8" else {}
        model, loaded = AutoModelForImageTextToText.from_pretrained(
            path, revision=commit, dtype=getattr(torch, kind), output_loading_info=True,
            ignore_mismatched_sizes=True, **fewer_bits,
        )  # fmt: skip
        _check_weights(loaded)
    except (ImportError, OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(f"policy {name}: checkpoint {path} does not load: {reason}") from error
    plain_patches(model)
    form = _file(path, FORM_FILE, commit)
    record = _file(path, RECORD, commit)
    try:
        model = model.to(place).eval()
    except torch.OutOfMemoryError as error:
        raise OSError(
            f"policy {name}: checkpoint {path} does not fit on device {place!r} as {kind}: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
    return Checkpoint(
        model, processor, space, PlanForm.load(form) if form else None,
        json.loads(record.read_text(encoding="utf-8")).get("policy", {}) if record else {},
        InPlace(path),
    )  # fmt: skip


def load_space(name: str, file: Path) -> ActionSpace:
    """A checkpoint's action space; ValueError where its state is not the one that robots tell."""
    space = ActionSpace.load(file)
    if space.has_state and space.state_names != STATE_NAMES:
        raise ValueError(
            f"policy {name}: {file}: state_names are {list(space.state_names)}; expected "
            f"{list(STATE_NAMES)}, which is what a robot tells"
        )
    return space


def _check_weights(loaded: Mapping[str, Any]) -> None:
    """OSError unless all weights, and no others, are the checkpoint's: Transformers makes up what
    is missing, and an arm would act on it. What it knows to be tied or of no use is not told here.
    """
    for kind in ("missing", "unexpected", "mismatched"):
        if keys := loaded[f"{kind}_keys"]:
            first, *shapes = min([key] if isinstance(key, str) else list(key) for key in keys)
            of = f" (in the file {tuple(shapes[0])}, expected {tuple(shapes[1])})" if shapes else ""
            raise OSError(f"{len(keys)} {kind} weights, the first is {first}{of}")


def _int8() -> Any:
    """How Transformers is told to keep the matrices in int8."""
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _resolve(checkpoint: str) -> str:
    """A folder as given, or below the package's share folder; anything else is left to the hub."""
    folder = find_folder(checkpoint)
    return checkpoint if folder is None else str(folder)


def _space_file(name: str, checkpoint: str) -> Path:
    """The checkpoint's action space, fetched from the hub where the checkpoint is there."""
    if file := _file(checkpoint, SPACE_FILE):
        return file
    if Path(checkpoint).is_dir():
        raise OSError(
            f"policy {name}: {checkpoint} has no {SPACE_FILE}, which says what the model's "
            "integers mean; write one (rt2_ros.actions.ActionSpace.save) with the ranges that "
            "it was trained with"
        )
    raise OSError(
        f"policy {name}: checkpoint {checkpoint!r} is no folder here, and its {SPACE_FILE} "
        "cannot be had from the hub"
    )


def _file(checkpoint: str, name: str, commit: str | None = None) -> Path | None:
    """A file of a checkpoint, from its folder or from the hub; None where it has none, and where it
    is not here and the hub is not to be asked. OSError where the hub cannot be asked.

    commit: of the hub; the newest that is known if None.
    """
    path = Path(checkpoint)
    if path.is_dir():
        return path / name if (path / name).is_file() else None
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hub.hf_hub_download(checkpoint, name, revision=commit))
    except ValueError:  # what is no hub id is a folder that is not there
        return None
    except OSError as error:
        if isinstance(error, LocalEntryNotFoundError):  # not here, and there it was not found out
            known = hub.try_to_load_from_cache(checkpoint, name, revision=commit)
            absent = hub.is_offline_mode() or known is hub._CACHED_NO_EXIST
        else:
            absent = isinstance(error, EntryNotFoundError)
        if absent:
            return None
        raise OSError(
            f"checkpoint {checkpoint!r} is no folder here, and whether the hub has its {name} was "
            "not found out (where all that there is was fetched before, set HF_HUB_OFFLINE=1): "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
