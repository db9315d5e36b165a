# SPDX-License-Identifier: Apache-2.0
"""The figures of `rt2 bench gpu` as tables and sentences, for the terminal and for docs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

Rows = list[tuple[str, ...]]

DECISION = (
    "shape",
    "generate",
    "rt2_ros",
    "p99",
    "at most",
    "floor",
    "of the floor",
    "same tokens",
)
STAGE = ("shape", "vision", "its floor", "prefill", "its floor", "decode", "its floor")
MEMORY = ("shape", "weights", "one robot, over weights", "16 robots, over weights")
PREFIX = ("shape", "tokens before the picture", "read once", "read each time")


def show(result: dict[str, Any]) -> None:
    """Print the tables and the notes."""
    show_tables(tables(result))
    for line in notes(result):
        Console(highlight=False).print(line)


def show_tables(some: Iterable[tuple[str, tuple[str, ...], Rows]]) -> None:
    """Print titles, heads and rows."""
    for title, head, rows in some:
        table = Table(*head, title=title)
        for row in rows:
            table.add_row(*row)
        Console(highlight=False).print(table)


def tables(result: dict[str, Any]) -> Iterable[tuple[str, tuple[str, ...], Rows]]:
    """Title, head and rows of each; a shape of which a part failed is in those of the others, and a
    part of which nothing was measured has no table.
    """
    sizes = next((list(f["batch"]) for f in result["shapes"] if "batch" in f), [])
    batch = ("shape", *(f"robots: {size}" for size in sizes), "8 against 1", "at the floor")
    for title, head, part, row in (
        ("One decision", DECISION, "floor_ms", _decision),
        ("Where the time goes", STAGE, "floor", _stages),
        ("Several robots at once, per decision", batch, "batch_floor", _batch),
        ("Memory", MEMORY, "peak_memory_16_mb", _memory),
        ("What stands before the picture in every prompt", PREFIX, "prefix", _prefix),
    ):
        rows: Rows = [(f["name"], *row(f)) for f in result["shapes"] if part in f]
        if rows:
            yield title, head, rows


def notes(result: dict[str, Any]) -> Iterable[str]:
    """What tables cannot say."""
    versions = f"torch {result['torch']}, Transformers {result['transformers']}"
    fewer = f", {result['generated']} by `generate`" if "generated" in result else ""
    yield (
        f"Measured on {result['date']} on one {result['device']} in {result['dtype']}, random "
        f"weights, {versions}; {result['repeats']} decisions of each kind{fewer}, in turn."
    )
    yield (
        "An action is eight tokens of 256 each, as of the vocabularies integers, least_used and "
        "openvla. PaliGemma's and Qwen's tokenizers split numbers into digits: by the vocabulary "
        "digits an action is some 22 tokens, and decoding takes so many times longer."
    )
    for f in result["shapes"]:
        if f["note"]:
            yield f"{f['name']}: {f['note']}."
        if "gb_per_s" in f:
            yield (
                f"{f['name']}: the floor is that of {f['gb_per_s']:.0f} GB/s and "
                f"{f['tflop_per_s']:.0f} TFLOP/s, as measured there."
            )
        for part, reason in f.get("lost", {}).items():
            yield f"{f['name']}: no CUDA graph for the {part}: {reason}."
        if "gap" in f:
            yield _tokens(f)
        if f.get("batch_gain_floor", 5) < 5:
            yield (
                f"{f['name']}: at the floor eight robots get {f['batch_gain_floor']:.1f} times the "
                "decisions of one, for their prompts are multiplied eight times; here they get "
                f"{f['batch_gain']:.1f} times."
            )
        for part, trace in f["errors"].items():
            yield f"{f['name']}: {part} failed: {trace.strip().splitlines()[-1]}"


def _tokens(f: dict[str, Any]) -> str:
    exact = "the same" if f.get("same_in_float32") else "NOT the same"
    return (
        f"{f['name']}: {exact} tokens as `generate` in float32; in bfloat16 "
        f"{f['same_answers']:.0%} of the answers are, and by the model's own scores no choice is "
        f"more than {f['gap']:.3f} standard deviations from the best one "
        f"(`generate`'s own: {f['generate_gap']:.3f})."
    )


def _decision(f: dict[str, Any]) -> tuple[str, ...]:
    same = "yes" if f.get("same_tokens") else "not compared"
    if "same_answers" in f and not f["same_tokens"]:
        same = f"{f['same_answers']:.0%}"
    return (
        f"{f['generate_ms']:.1f} ms", f"{f['ours_ms']:.1f} ms", f"{f['ours_p99_ms']:.1f} ms",
        f"{f['hz']:.1f} Hz", f"{f['floor_ms']:.1f} ms", f"{f['floor_ratio']:.2f}", same,
    )  # fmt: skip


def _stages(f: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{figures[name]:.2f} ms"
        for name in ("vision", "prefill", "decode")
        for figures in (f["stages"], f["floor"])
    )


def _batch(f: dict[str, Any]) -> tuple[str, ...]:
    times = (f"{ms:.1f} ms" for ms in f["batch"].values())
    return (*times, f"{f['batch_gain']:.2f}", f"{f['batch_gain_floor']:.2f}")


def _memory(f: dict[str, Any]) -> tuple[str, ...]:
    weights = f["weights_mb"]
    peaks = (f["peak_memory_mb"], f["peak_memory_16_mb"])
    return (f"{weights:.0f} MB", *(f"{peak / weights - 1:.0%}" for peak in peaks))


def _prefix(f: dict[str, Any]) -> tuple[str, ...]:
    figures = f["prefix"]
    return (f"{figures['tokens']}", f"{figures['kept_ms']:.1f} ms", f"{figures['read_ms']:.1f} ms")
