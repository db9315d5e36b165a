# SPDX-License-Identifier: Apache-2.0
"""One model on one process or on many: DDP, where each has all of it, or FSDP, where each has a
part.

`accelerate` finds the processes that torchrun started and joins them. It shards on GPUs alone, so
the sharding here is PyTorch's own `fully_shard`: the same lines run, and are tested, on CPUs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from rt2_ros.models import bfloat16

# The others wait for the one that saves: tens of gigabytes, perhaps over a slow network.
SAVING = timedelta(hours=2)


def join() -> PartialState:
    """The place of this process among the others, and its device."""
    # No Accelerator: there is one for a process, and a Trainer's may compute in something else.
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    return PartialState(cpu=cpu, timeout=SAVING)


def precision(wanted: str, device: torch.device) -> str:
    """The precision that is wanted, but 'fp32' on a CPU that has no bfloat16."""
    return wanted if device.type != "cpu" or bfloat16.cpu_has_bfloat16() else "fp32"


def arithmetic(device: torch.device, precision: str) -> torch.autocast:
    """What forwards compute in: 'bf16' where that is safe, or 'no', float32 throughout."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def spread(
    accelerator: PartialState, objective: nn.Module, parallel: str, precision: str, *,
    blocks: Sequence[str] = (), unused: bool = False,
) -> nn.Module:  # fmt: skip
    """The objective as it is called in training; its own parameters are sharded for 'fsdp'.

    blocks: class names of the modules that are gathered and freed as one, the transformer's layers.
    unused: whether a step may leave parts of the model without a gradient.
    """
    alone = accelerator.num_processes == 1
    if alone or parallel == "ddp":  # else a part of it, which may fit where all does not
        objective.to(accelerator.device)
    if alone:
        return objective
    if parallel == "ddp":
        return nn.parallel.DistributedDataParallel(
            objective, find_unused_parameters=unused,
            device_ids=[accelerator.device] if accelerator.device.type == "cuda" else None,
        )  # fmt: skip
    low = torch.bfloat16 if precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32)
    mesh = torch.distributed.init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for module in reversed(list(objective.modules())):
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh, mp_policy=policy)
    return fully_shard(objective, mesh=mesh, mp_policy=policy)


def held_back(module: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """Gradients are exchanged once in a step, with its last batch; with each where processes hold
    a part of them, as what is held back would be whole.
    """
    if isinstance(module, nn.parallel.DistributedDataParallel) and not last:
        return module.no_sync()
    return contextlib.nullcontext()


def sharded(objective: nn.Module) -> bool:
    """Whether the processes hold a part each."""
    return isinstance(objective, FSDPModule)


WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def weights_of(objective: nn.Module) -> dict[str, torch.Tensor]:
    """All weights, gathered in the main process where they are sharded. All processes call it."""
    return get_model_state_dict(objective, options=WHOLE) if sharded(objective) else (
        objective.state_dict()
    )  # fmt: skip


def state_of(
    objective: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> list[dict[str, Any]]:
    """The optimizers' states, as `restore` takes them. All processes call it."""
    if sharded(objective):
        return [get_optimizer_state_dict(objective, o, options=WHOLE) for o in optimizers]
    return [optimizer.state_dict() for optimizer in optimizers]


def restore(
    objective: nn.Module, optimizers: Sequence[torch.optim.Optimizer],
    weights: dict[str, torch.Tensor], states: Sequence[dict[str, Any]],
) -> None:  # fmt: skip
    """Put saved weights and states back; each process has read them. All processes call it.

    Whether they were saved by processes that hold a part each does not matter.
    """
    parts = sharded(objective)
    if parts:
        set_model_state_dict(objective, weights, options=StateDictOptions(full_state_dict=True))
    else:
        objective.load_state_dict(weights)
    for optimizer, saved in zip(optimizers, states, strict=True):
        state = _keyed(objective, optimizer, saved, by_name=parts)
        if not parts:
            optimizer.load_state_dict(state)
            continue
        # Not strict: a weight that never had a gradient has no state.
        set_optimizer_state_dict(
            objective, optimizer, state,
            options=StateDictOptions(full_state_dict=True, strict=False),
        )  # fmt: skip
        for name, parameter in objective.named_parameters():
            if name not in state["state"]:  # made up by the line above
                optimizer.state.pop(parameter, None)


def _keyed(
    objective: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any], by_name: bool
) -> dict[str, Any]:
    """An optimizer's state by its weights' names, as shards have it, or by their numbers, as one
    process has it.
    """
    names = {parameter: name for name, parameter in objective.named_parameters()}
    ordered = [names[p] for group in optimizer.param_groups for p in group["params"]]
    keys: dict[Any, Any] = dict(enumerate(ordered))
    if not by_name:
        keys = {name: number for number, name in keys.items()}
    return {
        "state": {keys.get(key, key): value for key, value in state["state"].items()},
        "param_groups": [
            {**group, "params": [keys.get(key, key) for key in group["params"]]}
            for group in state["param_groups"]
        ],
    }


def norm_of(parameters: Sequence[nn.Parameter], most: float) -> float:
    """Clip gradients to a norm of `most` over all of them; returns what it was."""
    norm = nn.utils.clip_grad_norm_(parameters, most)
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """What torch's random numbers go on from, here."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Go on from there."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def gathered(processes: int, value: Any) -> list[Any]:
    """Each process's value, in all of them."""
    if processes == 1:
        return [value]
    values: list[Any] = [None] * processes
    torch.distributed.all_gather_object(values, value)
    return values
