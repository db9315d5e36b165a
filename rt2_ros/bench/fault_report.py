# SPDX-License-Identifier: Apache-2.0
"""What came of injected faults: figures for `--json`, a table for a terminal, a Markdown page, and
what was seen, for `--records`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rt2_ros.bench.fault_list import Fault
from rt2_ros.bench.judge import Sample, Sent


@dataclass
class Outcome:
    """What came of a fault: unsafe: what the arm was told or did that it must not; failed: what
    else was not as expected; time_to_hold: s from the fault to rest.
    """

    fault: Fault
    unsafe: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    time_to_hold: float | None = None
    commands: int = 0
    notes: list[str] = field(default_factory=list)


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The keys of `--json`."""
    holds = [1e3 * o.time_to_hold for o in outcomes if o.time_to_hold is not None]
    p50, p99 = np.percentile(holds, [50, 99]) if holds else (None, None)
    rows = [
        {
            "fault": o.fault.name,
            "expected": o.fault.expect,
            "unsafe": o.unsafe,
            "failed": o.failed,
            "time_to_hold_ms": None if o.time_to_hold is None else round(1e3 * o.time_to_hold),
            "commands": o.commands,
            "notes": o.notes,
        }
        for o in outcomes
    ]
    return {
        "faults": len(outcomes),
        "kinds": len({o.fault.name for o in outcomes}),
        "unsafe": sum(bool(o.unsafe) for o in outcomes),
        "failed": sum(bool(o.failed) for o in outcomes),
        "commands": sum(o.commands for o in outcomes),
        "time_to_hold_ms": {
            "p50": None if p50 is None else round(float(p50)),
            "p99": None if p99 is None else round(float(p99)),
        },
        "outcomes": rows,
    }


def keep(
    folder: Path, name: str, struck: float, sent: Sequence[Sent], states: Sequence[Sample]
) -> None:
    """Write what the arm was told and did into a new file there; times in s from `struck`."""
    folder.mkdir(parents=True, exist_ok=True)
    number = sum(1 for _ in folder.iterdir())
    record = {
        "fault": name,
        "sent": [
            {
                "time": round(each.time - struck, 4),
                "points": np.round(each.times, 4).tolist(),
                "positions": each.positions.tolist(),
                "velocities": each.velocities.tolist(),
            }
            for each in sent
        ],
        "states": [
            {
                "time": round(each.time - struck, 4),
                "position": each.position.tolist(),
                "velocity": each.velocity.tolist(),
            }
            for each in states
        ],
    }
    (folder / f"{number:03}.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


def table_of(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows (fault, expected, what happened, time to hold) for each kind of fault."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for outcome in result["outcomes"]:
        rows.setdefault(outcome["fault"], []).append(outcome)
    found = []
    for name, outcomes in rows.items():
        problems = sorted({words for o in outcomes for words in (*o["unsafe"], *o["failed"])})
        times = [o["time_to_hold_ms"] for o in outcomes if o["time_to_hold_ms"] is not None]
        held = f"{max(times)} ms" if times else ""
        found.append((name, outcomes[0]["expected"], "; ".join(problems) or "as expected", held))
    return found


def summary(result: dict[str, Any]) -> str:
    """One line for a person."""
    hold = result["time_to_hold_ms"]
    return (
        f"{result['faults']} faults of {result['kinds']} kinds, {result['commands']} commands to "
        f"the arm; unsafe: {result['unsafe']}, otherwise not as expected: {result['failed']}; "
        f"time to hold {hold['p50']} ms (median), {hold['p99']} ms (p99)"
    )


def report(result: dict[str, Any]) -> str:
    """The same as Markdown."""
    lines = [
        "# Faults",
        "",
        f"Written by `rt2 bench faults --repeats {result['faults'] // result['kinds']} --report "
        "docs/faults.md`: the real graph, each fault injected while the arm moves, the simulator "
        "as judge.",
        "",
        f"**{summary(result)}.**",
        "",
        "| fault | expected of the arm | found | longest time to hold |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in table_of(result)),
        "",
        "Limits: it may move, but within every limit. Time to hold: from the fault until the last "
        "joint is below 0.02 rad/s for good. Each "
        "trajectory has its end in it, a brake when its picture is 0.8 s old at the latest; what "
        "stops the joint states or the controller itself stops the arm sooner.",
    ]
    return "\n".join(lines) + "\n"


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("fault", "expected", "found", "longest time to hold", title="rt2 bench faults")
    for row in table_of(result):
        table.add_row(*row)
    console = Console(highlight=False)
    console.print(table)
    console.print(summary(result), soft_wrap=True)
