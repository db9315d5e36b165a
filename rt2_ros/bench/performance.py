# SPDX-License-Identifier: Apache-2.0
"""The figures of `rt2 bench policy`: tables in the terminal, docs/performance.md and its plot."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from rt2_ros.bench import gpu_report
from rt2_ros.bench.shapes import SHAPES

Rows = list[tuple[str, ...]]


def decision_rows(result: dict[str, Any]) -> Rows:
    """How long a decision takes, by way of deciding."""
    forwards = result["forwards"]
    rows: Rows = []
    for name, key, count, speedup in (
        ("Hugging Face `generate`", "generate_ms", "", 1.0),
        ("rt2_ros", "ours_ms", f"{forwards['ours']}", result["speedup_vs_generate"]),
        ("rt2_ros, without guesses", "no_guesses_ms", f"{forwards['no_guesses']}",
         result["speedup_no_guesses"]),
    ):  # fmt: skip
        figure = result[key]
        rows.append((name, f"{figure['p50']:.1f} ms", f"{figure['p99']:.1f} ms", count,
                     f"{speedup:.2f}"))  # fmt: skip
    if floor := sum(result["floor"].values()):
        rows.append(("floor of this machine", f"{floor:.1f} ms", "", "", ""))
    return rows


def stage_rows(result: dict[str, Any]) -> Rows:
    """Where the time goes, beside the floor."""
    return [
        (
            name,
            f"{took:.2f} ms",
            f"{result['floor'][name]:.2f} ms" if name in result["floor"] else "",
        )
        for name, took in result["stages"].items()
    ]


def batch_rows(batch: dict[str, float]) -> Rows:
    """Decisions per second by batch size."""
    first = batch["1"]
    return [
        (size, f"{ms:.1f} ms", f"{1e3 / ms:.1f}", f"{first / ms:.2f}") for size, ms in batch.items()
    ]


def floor_rows(result: dict[str, Any]) -> Rows:
    """The floor of each shape on each accelerator."""
    rows: Rows = []
    for key, machines in result["accelerators"].items():
        for machine, figure in machines.items():
            plain, guessed = figure["floor_ms"], figure["floor_guessed_ms"]
            rows.append((SHAPES[key].name, machine, f"{plain:.1f} ms", f"{1e3 / plain:.1f} Hz",
                         f"{1e3 / guessed:.1f} Hz"))  # fmt: skip
    return rows


def number_rows(numbers: dict[str, Any]) -> Rows:
    """What a decision takes in other numbers."""
    return [
        (kind, f"{figure['ms']:.1f} ms", f"{figure['times']:.2f}", f"{figure['same']:.0%}")
        for kind, figure in numbers.items()
    ]


DECISION = ("way", "median", "p99", "forwards", "times faster")
STAGE = ("stage", "median", "floor")
BATCH = ("robots", "per decision", "decisions per second", "of one alone")
NUMBERS = ("weights in", "per decision", "times faster", "the same action")
FLOOR = ("shape, bf16", "accelerator", "floor", "at most", "at most, 3 forwards")


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    gpu_report.show_tables(_tables(result))
    Console().print(f"peak memory of this process: {result['peak_memory_mb']:.0f} MB")


def _tables(result: dict[str, Any]) -> Iterable[tuple[str, tuple[str, ...], Rows]]:
    yield "One decision", DECISION, decision_rows(result)
    yield "Where the time goes", STAGE, stage_rows(result)
    yield "Several robots at once", BATCH, batch_rows(result["batch"])
    if "numbers" in result:
        yield "Other numbers, without guesses", NUMBERS, number_rows(result["numbers"])
    for kind, unit, title in (
        ("image", "px", "Picture size"),
        ("prompt", "tokens", "Prompt length"),
    ):
        if kind in result["costs"]:
            figures = result["costs"][kind].items()
            rows: Rows = [(f"{size} {unit}", f"{ms:.1f} ms") for size, ms in figures]
            yield title, (title.lower(), "per decision"), rows
    if "gpu" in result:
        for title, head, rows in gpu_report.tables(result["gpu"]):
            yield f"On a GPU: {title[0].lower()}{title[1:]}", head, rows
    yield "Larger shapes: the floor by vendors' figures", FLOOR, floor_rows(result)


def write(result: dict[str, Any], folder: Path) -> None:
    """FOLDER/performance.md and FOLDER/performance.png."""
    folder.mkdir(parents=True, exist_ok=True)
    same = "the same tokens" if result["same_tokens"] else "DIFFERENT TOKENS"
    machine = result["machine"]
    parts = [
        "# Performance",
        "Written by `rt2 bench policy --docs docs`; never by hand. What is said of a GPU is from "
        "`rt2 bench gpu --json docs/gpu.json`, run on a machine that has one.",
        f"{result['policy']} in {result['dtype']} on {result['device']}, {result['threads']} "
        f"threads, {result['repeats']} decisions on simulated tables, the ways in turn: "
        f"{same}. Measured on this machine: {machine['gb_per_s']:.1f} GB/s reading as many bytes "
        f"as the language model has, {machine['gflop_per_s']:.0f} GFLOP/s multiplying. Peak memory "
        f"of the whole measurement, with the simulator and all the models below: "
        f"{result['peak_memory_mb']:.0f} MB; `rt2 bench loop` measures the policy node's own. "
        "Picture size and prompt length are of models of the default one's kind with random "
        "weights, which write eight integers without a plan and without guesses. Guesses: what was "
        "answered last is tried first, checked in one forward. The floor is the least time that "
        "memory bandwidth and arithmetic allow; it takes "
        f"{result['tokens_per_forward']:g} tokens for a forward after the first.",
        "![Roofline](performance.png)",
    ]
    for title, head, rows in _tables(result):
        lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(r) for r in rows)]
        parts += [f"## {title}", "\n".join(f"| {line} |" for line in lines)]
    if "gpu" in result:
        parts += [
            "## Of the GPU",
            "\n".join(f"- {line}" for line in gpu_report.notes(result["gpu"])),
        ]
    else:
        parts.append("The larger shapes were not measured: no file of `rt2 bench gpu` was given.")
    (folder / "performance.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    plot(result, folder / "performance.png")


def plot(result: dict[str, Any], file: Path) -> None:
    """Stages against their floor, and decisions per second against the size of a batch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = 3 if "gpu" in result else 2
    figure, axes = pyplot.subplots(1, panels, figsize=(4.5 * panels, 3.4), layout="constrained")
    stages, batch = axes[:2]
    names = [n for n in result["stages"] if n in result["floor"] or not result["floor"]]
    places = range(len(names))
    stages.bar([p - 0.2 for p in places], [result["stages"][n] for n in names], 0.4, label="taken")
    floors = [result["floor"].get(n, 0.0) for n in names]
    stages.bar([p + 0.2 for p in places], floors, 0.4, label="floor")
    stages.set_xticks(list(places), names)
    stages.set_ylabel("ms")
    stages.set_title("One decision and the roofline")
    stages.legend()
    sizes = [int(size) for size in result["batch"]]
    batch.plot(sizes, [1e3 / ms for ms in result["batch"].values()], "o-", label="measured")
    if floor := sum(result["floor"].values()):
        batch.axhline(1e3 / floor, linestyle="--", label="floor, one robot")
    batch.set_xscale("log", base=2)
    batch.set_xticks(sizes, [str(size) for size in sizes])
    batch.set_ylim(bottom=0)
    batch.set_xlabel("robots at once")
    batch.set_ylabel("decisions per second")
    batch.set_title("Throughput")
    batch.legend()
    if "gpu" in result:
        _plot_gpu(result["gpu"], axes[2])
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _plot_gpu(gpu: dict[str, Any], axes: Any) -> None:
    """Each shape's stages upon each other, beside their floor."""
    some = [f for f in gpu["shapes"] if "floor_ms" in f]
    for shift, kind, shade in ((-0.2, "stages", 1.0), (0.2, "floor", 0.45)):
        below = [0.0] * len(some)
        for color, stage in enumerate(("vision", "prefill", "decode")):
            heights = [f[kind][stage] for f in some]
            label = stage if kind == "stages" else None
            axes.bar([p + shift for p in range(len(some))], heights, 0.38, bottom=below,
                     color=f"C{color}", alpha=shade, label=label)  # fmt: skip
            below = [b + h for b, h in zip(below, heights, strict=True)]
    axes.set_xticks(range(len(some)), [f["name"] for f in some], fontsize=8)
    axes.set_ylabel("ms")
    axes.set_title(f"{gpu['device']}, and its roofline (pale)")
    axes.legend()
