# SPDX-License-Identifier: Apache-2.0
"""`rt2 bench policy`: a decision's time against Hugging Face `generate`, and against the machine.

    rt2 bench policy --json out/policy.json
    rt2 bench policy --docs docs                        # docs/performance.md and its plot
    rt2 bench policy --bandwidth 1792 --tflops 209      # the floor on an accelerator of your own

The policy acts on simulated tables once; then each picture of these is decided upon in turn
by (a) the model's own `generate` with the grammar as a logits processor, (b) the policy, (c) the
policy without its past answers as guesses. They take turns, so that whatever else the machine does
strikes all three; medians are given, and the median of the ratios. The floor is what this machine's
memory and multiplications would need at least (`rt2_ros.bench.roofline`).

Larger shapes are measured on a GPU by `rt2 bench gpu`, whose file --gpu takes in and --docs keeps;
their floor is printed for accelerators that are known.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rt2_ros.bench import ms, performance, rounded, shapes
from rt2_ros.bench.roofline import MACHINES, Machine, Work, measured, patches
from rt2_ros.policies import Decision, Observation, load_policy
from rt2_ros.policies.base import pictures_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from rt2_ros.policies.vlm import VlmPolicy

BATCHES = (1, 2, 4, 8, 16)
IMAGE_SIDES = (96, 144, 192, 288, 384)  # px, of the default model's kind
PROMPTS = (16, 32, 64, 128, 256)  # tokens
OTHER_NUMBERS = "bfloat16"  # than a CPU's own, float32
WARM_UP = 3
GPU_FILE = "gpu.json"  # beside performance.md, which is written anew without a GPU at hand
LATER_READ = 4.0  # tokens that a forward after the first reads, about: choices and guesses


def main(argv: list[str]) -> int:
    """Measure, print, write; 1 where the policy does not write what `generate` writes."""
    args = _parser().parse_args(argv)
    if args.repeats < 4:
        raise ValueError(f"--repeats is {args.repeats}; expected 4 or more")
    machines = dict(MACHINES)
    if args.bandwidth or args.tflops:
        if not (args.bandwidth and args.tflops):
            raise ValueError("--bandwidth and --tflops go together")
        machines = {"given": Machine("given", args.bandwidth * 1e9, args.tflops * 1e12)}
    policy: Any = load_policy(args.policy)
    threads = args.threads or len(os.sched_getaffinity(0))  # whatever a policy asks for in a graph
    torch.set_num_threads(threads)
    if not hasattr(policy, "infer_by_generate"):
        raise ValueError(f"policy {policy.name}: type vlm is measured; this one has no generate")
    if pictures_of(policy) > 1:
        raise ValueError(f"policy {policy.name}: pictures is above 1; expected one camera's")
    result = measure(policy, args.repeats, args.seed)
    if policy.model.device.type == "cpu":
        own = kind_of(policy.model)
        kinds = {OTHER_NUMBERS: {"dtype": OTHER_NUMBERS, "weights": "full"}}
        if find_spec("torchao"):
            kinds["int8"] = {"weights": "int8"}
        others: dict[str, Any] = {
            kind: load_policy(args.policy, threads=threads, **settings)
            for kind, settings in kinds.items()
            if kind != own
        }
        result["numbers"] = numbers({own: policy, **others}, args.repeats, args.seed)
    result["peak_memory_mb"] = rounded(peak_memory(policy.model.device))  # of all that
    result["tokens_per_forward"] = LATER_READ
    result["accelerators"] = floors(machines)
    if gpu := gpu_figures(args.gpu, args.docs):
        result["gpu"] = gpu
    performance.show(result)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if args.docs:
        performance.write(result, args.docs)
    if not result["same_tokens"]:
        print("rt2 bench policy: the policy and generate wrote different answers", file=sys.stderr)
    return 0 if result["same_tokens"] else 1


def gpu_figures(given: Path | None, docs: Path | None) -> dict[str, Any] | None:
    """What `rt2 bench gpu` measured: the file given, which docs keep, or else the one there."""
    kept = docs / GPU_FILE if docs else None
    file = given or kept
    if file is None or (given is None and not file.is_file()):
        return None
    text = file.read_text(encoding="utf-8")
    if given and kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(text, encoding="utf-8")
    return json.loads(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("rt2 bench policy", description="Measure decisions.")
    parser.add_argument("--policy", default="rt2-tiny", help="name, YAML file or checkpoint folder")
    parser.add_argument("--repeats", type=int, default=40, help="of each figure (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the table (default: 0)")
    parser.add_argument("--threads", type=int, help="(default: one for each core)")
    parser.add_argument("--bandwidth", type=float, help="of an accelerator's memory, GB/s")
    parser.add_argument("--tflops", type=float, help="dense bf16 rate of that accelerator, TFLOP/s")
    parser.add_argument(
        "--gpu", type=Path,
        help=f"file that `rt2 bench gpu --json` wrote (default: {GPU_FILE} of --docs, if there)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--docs", type=Path, help="folder for performance.md and performance.png")
    return parser


def measure(policy: VlmPolicy, repeats: int, seed: int) -> dict[str, Any]:
    """Everything about one policy on this machine; seconds become ms in the result."""
    seen = episode(policy, repeats + WARM_UP, seed)
    forwards: dict[str, list[int]] = {"ours": [], "no_guesses": []}
    stages: list[dict[str, float]] = []
    same = True

    def counted(
        name: str, infer: Callable[[Observation], Decision], observation: Observation
    ) -> Sequence[int]:
        before = policy.forwards
        decision = infer(observation)
        forwards[name].append(policy.forwards - before)
        if name == "ours":
            stages.append(dict(decision.latency))
        return decision.tokens

    ways: dict[str, Callable[[Observation], Sequence[int]]] = {
        "generate": lambda o: policy.infer_by_generate(o).tokens,
        "no_guesses": lambda o: counted("no_guesses", policy.infer_without_guesses, o),
        "ours": lambda o: counted("ours", policy.infer, o),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for observation in seen:
        written: list[Sequence[int]] = []
        for name, way in ways.items():
            begun = time.perf_counter()
            # Each remembers answers of its own, of which its next prompt may remind.
            written.append(way(replace(observation, episode=f"{observation.episode} {name}")))
            seconds[name].append(time.perf_counter() - begun)
        same &= all(tokens == written[0] for tokens in written)
    taken = {name: np.array(values[WARM_UP:]) for name, values in seconds.items()}
    mean = {name: float(np.mean(values[WARM_UP:])) for name, values in forwards.items()}
    floor, machine = _floor(policy, seen[0], mean["ours"])
    names = ("prepare", "vision", "prefill", "decode")
    ours = float(np.median(taken["ours"]))
    return {
        "policy": policy.name,
        "device": str(policy.model.device),
        "dtype": kind_of(policy.model),
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        "seed": seed,
        "same_tokens": same,
        "generate_ms": _percentiles(taken["generate"]),
        "ours_ms": _percentiles(taken["ours"]),
        "no_guesses_ms": _percentiles(taken["no_guesses"]),
        "speedup_vs_generate": rounded(np.median(taken["generate"] / taken["ours"])),
        "speedup_no_guesses": rounded(np.median(taken["generate"] / taken["no_guesses"])),
        "forwards": {name: rounded(value) for name, value in mean.items()},
        "stages": {
            n: ms(np.median([s[n] for s in stages[WARM_UP:]])) for n in names if n in stages[0]
        },
        "floor": {name: ms(value) for name, value in floor.items()},
        "floor_ratio": rounded(ours / sum(floor.values())) if floor else None,
        "machine": {"gb_per_s": machine.bandwidth / 1e9, "gflop_per_s": machine.rate / 1e9},
        "batch": batches(policy, seen, max(4, repeats // 4)),
        "costs": costs(max(4, repeats // 4), seed) if policy.model.device.type == "cpu" else {},
    }


def kind_of(model: PreTrainedModel) -> str:
    """The numbers that a model's weights are in."""
    if getattr(model, "hf_quantizer", None) is not None:
        return "int8"  # the only kind that a policy asks for
    return str(model.dtype).removeprefix("torch.")


def numbers(
    policies: Mapping[str, VlmPolicy], repeats: int, seed: int
) -> dict[str, dict[str, float]]:
    """One checkpoint with its weights in several kinds of numbers, in turn: milliseconds per
    decision, how many times faster than the first, and the share of decisions that are its.
    """
    seen = episode(next(iter(policies.values())), repeats + WARM_UP, seed)
    taken = np.zeros((len(seen), len(policies)))
    same = np.zeros((len(seen), len(policies)))
    for step, before in enumerate(seen):
        observation = replace(before, episode=f"{before.episode} numbers")
        decisions: list[Any] = []
        for which, policy in enumerate(policies.values()):
            begun = time.perf_counter()
            decisions.append(policy.infer_without_guesses(observation).bins)
            taken[step, which] = time.perf_counter() - begun
        same[step] = [np.array_equal(bins, decisions[0]) for bins in decisions]
    taken, same = taken[WARM_UP:], same[WARM_UP:]
    return {
        name: {
            "ms": ms(np.median(taken[:, which])),
            "times": rounded(np.median(taken[:, 0] / taken[:, which])),
            "same": rounded(same[:, which].mean()),
        }
        for which, name in enumerate(policies)
    }


def episode(policy: VlmPolicy, length: int, seed: int) -> list[Observation]:
    """What the policy sees of simulated tables on which it acts itself."""
    from rt2_ros.data.images import square
    from rt2_ros.data.split import ROBOT_NAMES
    from rt2_ros.sim.env import TabletopEnv
    from rt2_ros.sim.tabletop import Tabletop

    env = TabletopEnv(Tabletop(ROBOT_NAMES))
    seen: list[Observation] = []
    for table in count(seed):
        now, over = env.reset(table), False
        while not over:
            assert now.image is not None
            image = square(now.image, policy.image_size)
            seen.append(Observation({"scene": image}, now.instruction, now.state, 0, str(table)))
            if len(seen) == length:
                return seen
            now, over = env.step(policy.infer(seen[-1]).action)
    raise AssertionError("tables do not end")


def _floor(
    policy: VlmPolicy, observation: Observation, forwards: float
) -> tuple[dict[str, float], Machine]:
    """The least time by stage, none where the model's patches are not known, and this machine."""
    model, inputs = policy.model, policy.inputs(observation)
    seen = patches(model, inputs)
    work = Work.of(model, patches=seen, tokens=inputs["input_ids"].shape[1])
    machine = measured(work.item * work.text, model.device, model.dtype)
    return work.floor(machine, forwards, LATER_READ) if seen else {}, machine


def batches(policy: VlmPolicy, seen: Sequence[Observation], repeats: int) -> dict[str, float]:
    """Milliseconds per decision where so many robots, each elsewhere in its episode, are
    served together.
    """
    taken: dict[int, list[float]] = {size: [] for size in BATCHES}
    for step in range(repeats + 1):
        for size in BATCHES:
            robots = [
                replace(seen[(step + 3 * robot) % len(seen)], episode=f"{size} robot {robot}")
                for robot in range(size)
            ]
            begun = time.perf_counter()
            policy.infer_batch(robots)
            taken[size].append((time.perf_counter() - begun) / size)
    return {str(size): ms(np.median(values[1:])) for size, values in taken.items()}


def costs(repeats: int, seed: int) -> dict[str, dict[str, float]]:
    """Milliseconds against image side and prompt length, for models of the default one's kind."""
    cases = {("image", side): (side, 24) for side in IMAGE_SIDES}
    cases |= {("prompt", tokens): (192, tokens) for tokens in PROMPTS}
    runs = {}
    for case, (side, tokens) in cases.items():
        shape = shapes.tiny(side)
        model = shape.build("cpu", torch.float32)
        runs[case] = shapes.decider(model, shape.inputs(model, tokens, seed))
    taken: dict[tuple[str, int], list[float]] = {case: [] for case in runs}
    for _ in range(repeats + 1):
        for case, run in runs.items():
            begun = time.perf_counter()
            run()
            taken[case].append(time.perf_counter() - begun)
    result: dict[str, dict[str, float]] = {"image": {}, "prompt": {}}
    for (kind, size), values in taken.items():
        result[kind][str(size)] = ms(np.median(values[1:]))
    return result


def floors(machines: dict[str, Machine]) -> dict[str, Any]:
    """The least time of a decision for each shape on each machine, without and with guesses."""
    table: dict[str, Any] = {}
    for key, shape in shapes.SHAPES.items():
        work = _shape_work(shape.build("meta"), shape)
        table[key] = {
            machine.name: {
                "floor_ms": ms(sum(work.floor(machine, shapes.CHOICES).values())),
                "floor_guessed_ms": ms(sum(work.floor(machine, 3, LATER_READ).values())),
            }
            for machine in machines.values()
        }
    return table


def _shape_work(model: PreTrainedModel, shape: shapes.Shape) -> Work:
    return Work.of(model, patches=shape.patches, tokens=shape.image_tokens + shapes.PROMPT)


def peak_memory(device: torch.device) -> float:
    """MB that this process has held at most: on the GPU, or of main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _percentiles(seconds: np.ndarray) -> dict[str, float]:
    return {"p50": ms(np.median(seconds)), "p99": ms(np.percentile(seconds, 99))}
