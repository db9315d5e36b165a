# SPDX-License-Identifier: Apache-2.0
"""`rt2 bench gpu`: models of 3 and 7 billion parameters, with random weights, on this GPU.

    rt2 bench gpu --json gpu.json                     # needs torch and transformers alone, no ROS
    rt2 bench policy --gpu gpu.json --docs docs       # elsewhere: into the docs, which keep it

For each shape: a decision by the model's own `generate` and by the decoder, in turn, with its
stages beside what the GPU's memory and multiplications need at least; 1 to 16 robots at once;
memory; and whether the two write the same. In float32, with few layers, they must. In bfloat16 two
likely tokens may be as near to each other as the rounding of either way of computing; so where
answers differ, the model's own scores after the same tokens say how far a choice was from the best
one: `gap`, in standard deviations of the scores. A wrong token would be several away.

What fails is reported with its traceback, and the rest is measured; the file is written after each
part.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PreTrainedModel

from rt2_ros.bench import gpu_report, ms, rounded, shapes
from rt2_ros.bench.roofline import Work, measured
from rt2_ros.models.constrain import generate
from rt2_ros.models.decode import Answer, Decoder, Prompt
from rt2_ros.models.forward import Inputs, Prefix, with_suffix

BATCHES = (1, 2, 4, 8, 16)
WARM_UP = 2
GENERATED = 6  # decisions by `generate`, which take long
PICTURES = 8
DEPTH = 2  # layers in float32
SYSTEM = 128  # tokens before the picture that are the same in every prompt
NEAR = 0.25  # standard deviations of the scores: rounding may decide so much


def main(argv: list[str]) -> int:
    """Measure, print, write; 1 where a part failed or a token was wrong."""
    parser = argparse.ArgumentParser("rt2 bench gpu", description="Measure large models.")
    names = ", ".join(shapes.SHAPES)
    parser.add_argument("--shapes", default=names.replace(" ", ""), help=f"of {names}")
    parser.add_argument("--repeats", type=int, default=20, help="of each figure (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: 0)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args(argv)
    chosen = args.shapes.split(",")
    if unknown := sorted(set(chosen) - set(shapes.SHAPES)):
        raise ValueError(f"--shapes names {unknown[0]!r}; expected some of {names}")
    if args.repeats < 1:
        raise ValueError(f"--repeats is {args.repeats}; expected 1 or more")
    if not torch.cuda.is_available():
        raise ValueError("this machine has no GPU that torch can use")
    result = measure(
        [shapes.SHAPES[name] for name in chosen], torch.device("cuda"), args.repeats, args.seed,
        args.json,
    )  # fmt: skip
    gpu_report.show(result)
    return 0 if all(right(figures) for figures in result["shapes"]) else 1


def right(figures: dict[str, Any]) -> bool:
    """Whether a shape was measured as a whole and wrote no wrong token."""
    return not figures["errors"] and figures["same_in_float32"] and figures["gap"] <= NEAR


def measure(
    some: Sequence[shapes.Shape], device: torch.device, repeats: int, seed: int,
    file: Path | None = None, dtype: torch.dtype = torch.bfloat16,
) -> dict[str, Any]:  # fmt: skip
    """Everything about some shapes; seconds become ms in the result."""
    cuda = device.type == "cuda"
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if cuda else str(device),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "dtype": str(dtype).removeprefix("torch."),
        "repeats": repeats,
        "generated": min(repeats, GENERATED),
        "shapes": [],
    }
    for shape in some:
        figures: dict[str, Any] = {"name": shape.name, "note": shape.note, "errors": {}}
        result["shapes"].append(figures)
        bench = _Bench(shape, device, dtype, repeats, seed)
        for part in (bench.exact, bench.build, bench.times, bench.floors, bench.tokens,
                     bench.prefix):  # fmt: skip
            begun = time.perf_counter()
            try:
                figures |= part()
            except Exception:  # noqa: BLE001  # the next part may work, and this machine be lent
                figures["errors"][part.__name__] = traceback.format_exc()
                print(traceback.format_exc())
            took = time.perf_counter() - begun
            print(f"{shape.name}: {part.__name__}, {took:.1f} s", flush=True)
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        del bench
        _tidy(cuda)
    return result


@dataclass
class _Bench:
    """One shape; its parts are run in turn, and each returns figures."""

    shape: shapes.Shape
    device: torch.device
    dtype: torch.dtype
    repeats: int
    seed: int
    figures: dict[str, Any] = field(default_factory=dict)

    def exact(self) -> dict[str, Any]:
        """Whether few layers in float32 write the same tokens."""
        model = self.shape.build(self.device.type, torch.float32, DEPTH)
        decode, grammar = Decoder(model), shapes.Integers()
        given = self._inputs(model, 4)
        expected = [[s.token for s in generate(model, each, grammar)] for each in given]
        prompts = [Prompt(each) for each in given]
        same = True
        for _ in range(2):  # recorded, and replayed
            same &= [decode([prompt], grammar)[0].tokens for prompt in prompts] == expected
            same &= [answer.tokens for answer in decode(prompts, grammar)] == expected
        return {"same_in_float32": same, "answers_in_float32": len(set(map(tuple, expected)))}

    def build(self) -> dict[str, Any]:
        """The model itself, with the decoder: what they hold."""
        _tidy(self.device.type == "cuda")
        begun = time.perf_counter()
        self.model = self.shape.build(self.device.type, self.dtype)
        weights = sum(p.numel() * p.element_size() for p in self.model.parameters())
        self.given = self._inputs(self.model, PICTURES)
        self.grammar = shapes.Integers()
        built = time.perf_counter() - begun
        self._forget_peak()
        begun = time.perf_counter()
        self.decode = Decoder(self.model)
        self._ours(1, 0)
        first = time.perf_counter() - begun
        self._ours(1, 1)
        return {
            "weights_mb": rounded(weights / 2**20),
            "peak_memory_mb": rounded(self._peak()),
            "build_s": rounded(built),
            "first_s": rounded(first),
        }

    def times(self) -> dict[str, Any]:
        """Decisions by `generate` and by the decoder, for several robots too, in turn."""
        ways: dict[str, Callable[[int], Any]] = {
            "generate": lambda step: generate(self.model, self.given[step % PICTURES], self.grammar)
        }
        for size in BATCHES:
            ways[str(size)] = lambda step, size=size: self._ours(size, step)  # type: ignore[misc]
        taken: dict[str, list[float]] = {way: [] for way in ways}
        stages: list[dict[str, float]] = []
        for step in range(self.repeats + WARM_UP):
            for way, run in ways.items():
                if way == "generate" and step >= GENERATED + WARM_UP:
                    continue
                self._wait()
                begun = time.perf_counter()
                answer = run(step)
                self._wait()
                taken[way].append(time.perf_counter() - begun)
                if way == "1":
                    stages.append(answer[0].latency)
        median = {way: float(np.median(values[WARM_UP:])) for way, values in taken.items()}
        self.median = median
        ours = np.array(taken["1"][WARM_UP:])
        return {
            "generate_ms": ms(median["generate"]),
            "ours_ms": ms(median["1"]),
            "ours_p99_ms": ms(np.percentile(ours, 99)),
            "hz": rounded(1 / median["1"]),
            "speedup_vs_generate": rounded(median["generate"] / median["1"]),
            "stages": {
                name: ms(np.median([each[name] for each in stages[WARM_UP:]]))
                for name in ("vision", "prefill", "decode")
            },
            "batch": {str(n): ms(median[str(n)] / n) for n in BATCHES},
            "batch_gain": rounded(8 * median["1"] / median["8"]),
            "peak_memory_16_mb": rounded(self._peak()),
            "lost": self.decode.lost,
        }

    def floors(self) -> dict[str, Any]:
        """What the machine needs at least, for one robot and for several."""
        tokens = self.given[0]["input_ids"].shape[1]
        work = Work.of(self.model, patches=self.shape.patches, tokens=tokens)
        machine = measured(work.item * work.text, self.device, self.dtype)
        floor = {n: work.floor(machine, shapes.CHOICES, batch=n) for n in BATCHES}
        whole = {n: sum(stages.values()) for n, stages in floor.items()}
        return {
            "gb_per_s": rounded(machine.bandwidth / 1e9),
            "tflop_per_s": rounded(machine.rate / 1e12),
            "floor": {name: ms(value) for name, value in floor[1].items()},
            "floor_ms": ms(whole[1]),
            "floor_ratio": rounded(self.median["1"] / whole[1]),
            "batch_floor": {str(n): ms(value / n) for n, value in whole.items()},
            "batch_gain_floor": rounded(8 * whole[1] / whole[8]),
        }

    def tokens(self) -> dict[str, Any]:
        """How the answers compare with those of `generate`."""
        expected = [[s.token for s in generate(self.model, g, self.grammar)] for g in self.given]
        alone = [self._ours(1, step)[0].tokens for step in range(PICTURES)]
        together = [answer.tokens for answer in self._ours(PICTURES, 0)]
        gaps = [max(map(self._gap, self.given, answers)) for answers in (expected, alone, together)]
        same = [a == b for answers in (alone, together)
                for a, b in zip(answers, expected, strict=True)]  # fmt: skip
        return {
            "same_tokens": all(same),
            "same_answers": rounded(np.mean(same)),
            "generate_gap": round(gaps[0], 4),
            "gap": round(max(gaps[1:]), 4),
        }

    def prefix(self) -> dict[str, Any]:
        """What reading a system prompt once saves, where attention is causal."""
        if self.model.config.model_type not in Prefix.CAUSAL:
            return {}
        given = self.shape.inputs(self.model, shapes.PROMPT, self.seed, SYSTEM)
        ways = {keep: Decoder(self.model, keep_prefix=keep) for keep in (True, False)}
        taken: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(self.repeats + WARM_UP):
            for keep, decode in ways.items():
                self._wait()
                begun = time.perf_counter()
                decode([Prompt(given)], self.grammar)
                taken[keep].append(time.perf_counter() - begun)
        kept, read = (ms(np.median(taken[keep][WARM_UP:])) for keep in (True, False))
        return {"prefix": {"tokens": SYSTEM, "kept_ms": kept, "read_ms": read}}

    def _inputs(self, model: PreTrainedModel, count: int) -> list[dict[str, torch.Tensor]]:
        return [self.shape.inputs(model, shapes.PROMPT, self.seed + n) for n in range(count)]

    def _ours(self, size: int, step: int) -> list[Answer]:
        prompts = [Prompt(self.given[(step + row) % PICTURES]) for row in range(size)]
        return self.decode(prompts, self.grammar)

    @torch.inference_mode()
    def _gap(self, given: Inputs, tokens: list[int]) -> float:
        """How far the worst of the choices was from the best one, by the model's own scores."""
        kind = self.model.config.model_type
        whole = with_suffix(given, tokens[: shapes.CHOICES - 1], kind)
        scores = self.model(**whole, use_cache=False, logits_to_keep=shapes.CHOICES).logits[0]
        worst = 0.0
        for place, token in enumerate(tokens[: shapes.CHOICES]):
            allowed = self.grammar.allowed(place)
            some = scores[place, torch.from_numpy(allowed).to(scores.device)].float()
            chosen = some[int(np.flatnonzero(allowed == token)[0])]
            worst = max(worst, float((some.max() - chosen) / some.std()))
        return worst

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _forget_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def _peak(self) -> float:
        cuda = self.device.type == "cuda"
        return torch.cuda.max_memory_allocated(self.device) / 2**20 if cuda else 0.0


def _tidy(cuda: bool) -> None:
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
