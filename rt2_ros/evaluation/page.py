# SPDX-License-Identifier: Apache-2.0
"""docs/results.md, written by `rt2 eval --results`, never by hand.

    update_results("docs/results.md", [RunFolder("out/eval/rt2-tiny"), RunFolder("out/eval/rt1")])

results.json beside it (`rt2_ros.evaluation.results`) is what the page is made of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rt2_ros.data.samples import COORDINATES
from rt2_ros.evaluation import paper, results
from rt2_ros.evaluation.metrics import Difference, Rate, mcnemar
from rt2_ros.evaluation.paper import Cell
from rt2_ros.evaluation.questions import KINDS, NEAR, Answers, kept
from rt2_ros.evaluation.records import cell_title
from rt2_ros.evaluation.results import (
    DIGITS,
    GROUPS,
    Ablation,
    Arm,
    CellResult,
    Results,
    cell_results,
)
from rt2_ros.evaluation.runs import RunFolder, write_whole
from rt2_ros.policies.baselines import SENSES, TOLD

HEAD = (
    "# Results", "",
    "Written by `rt2 eval --results`; never by hand. Each episode is a random table, and the",
    "simulator's physics says whether the task was done. Intervals, in brackets, are 95 %, over",
    "tables: instructions are of few wordings in some cells, which an episode draws from, and a",
    "wording is often done always or never, so that of other words they tell less than it seems.",
    "rt2-tiny's recipe was chosen by tables of these suites, of the same seeds.", "",
    "Seen, unseen and robustness are a quarter each of picking, putting near, putting on and",
    "pushing. No demonstration shows emergent's cards or is told by its descriptions. The web set",
    "asks for the same things in questions about pictures, by description also about pictures of",
    "the robot's table, and tells a robot of them, which only says where they are. So emergent",
    "measures what carries over from there to its tasks, not reasoning that nothing was said",
    "about. Whoever decides, the controller lets a step count for 0.8 s from its picture: one of a",
    "second ago (delay-1s) it refuses, and the arm rests; one of 0.75 s ago (delay-0.75s) it",
    "brakes 0.05 s later, too soon for nearly any task. Neither cell tells much of a policy.", "",
    "Bounds: expert is told the world's state. guess is the expert that does not know which thing",
    "is meant: it takes a random block, or brings the right one to a random thing of the target's",
    f'sort, which is what chance is worth. What is language-blind is told "{TOLD}" whatever is',
    "asked. without-plan are the same weights, told to act at once: nearly all that they learned",
    "begins with a plan, so they never learned that, and it does not tell what plans are worth.",
    "",
)  # fmt: skip


PLOT = "ablation.png"
Table = Mapping[tuple[str, Cell], CellResult]
# What `rt2 eval` puts after the name of a policy that it plays in another way.
VARIANT = re.compile(rf"(-without-plan)?(-({'|'.join(SENSES)})-blind)?( \(ros\))?$")


def update_results(
    path: str | Path, runs: Sequence[RunFolder] = (), answers: Sequence[Answers] = (),
    ablation: Ablation | None = None, present: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Put runs into results.md and results.json in place of older results of the same cells,
    answers in place of older ones of the same policy, and an ablation in place of the older one.

    Of a policy whose weights are others now, what the older ones did is left out, however they
    played: a table of two models under one name would tell of neither. So are those of a policy
    whose settings are others now, and results of a cell whose tables are.

    present: digests of tables by the titles of their cells; what was played on others is left out.

    Raises:
        ValueError: results.json is not what this module wrote.
    """
    path = Path(path)
    data = path.with_suffix(".json")
    known = results.read(data)
    played = [
        result for run in runs for result in cell_results(run) if _of_today(result, present or {})
    ]
    made: list[CellResult | Answers] = [*played, *answers]
    weights = {_model(each): each.weights for each in made if each.weights}
    tables = {result.key[1]: result.tables for result in played if result.tables}
    settings = {result.policy: result.settings for result in played}
    # Newer ones take the places of older ones: policies keep their order.
    kept = [each for each in known.cells if _of_today(each, present or {})]
    cells = {result.key: result for result in (*kept, *played)}
    told = {each.policy: each for each in (*known.answers, *answers)}
    new = Results(
        tuple(
            result for result in cells.values()
            if weights.get(_model(result), result.weights) == result.weights
            and tables.get(result.key[1], result.tables) == result.tables
            and result.settings in ("", settings.get(result.policy, result.settings))
        ),
        tuple(a for a in told.values() if weights.get(_model(a), a.weights) == a.weights),
        ablation or known.ablation,
    )  # fmt: skip
    stale = new.ablation is not None and not all(
        _of_today(cell, present or {}) for arm in new.ablation.arms for cell in arm.cells
    )
    page = render(new, stale)
    write_whole(data, results.written(new))
    write_whole(path, page)


def _of_today(result: CellResult, present: Mapping[str, str]) -> bool:
    """Whether it was played on the tables that its cell has now, as far as anybody knows."""
    return result.tables in ("", present.get(cell_title(*result.key[1]), result.tables))


def _model(result: CellResult | Answers) -> str:
    """The policy, however it was played."""
    return VARIANT.sub("", result.policy)


def render(found: Results, stale: bool = False) -> str:
    """The page; policies in the order in which they were first measured, cells in the paper's.

    stale: whether the ablation's tables are no more those of today.
    """
    table = {result.key: result for result in found.cells}
    policies = list(dict.fromkeys(result.policy for result in found.cells))
    cells = paper.in_order({cell for _, cell in table})
    parts = [
        *HEAD, *_overview(table, policies, cells), *_gaps(table, policies),
        *_answers(found.answers), *_ablation(found.ablation, stale),
        *_compared(table, policies, cells), *_paper(), *_measured(table, policies, cells),
    ]  # fmt: skip
    return "\n".join(parts).rstrip() + "\n"


def answer_rows(answers: Sequence[Answers]) -> list[tuple[str, ...]]:
    """A table: its head, then how each policy answered, and what it kept of another's answers."""
    by_name = {found.policy: found for found in answers}
    kinds = [kind for kind in KINDS if any(kind in found.outcomes for found in answers)]
    rows = [("policy", "questions", "right", *kinds, "kept of", "share kept")]
    for found in answers:
        before = by_name.get(found.before)
        same = before is not None and before.questions == found.questions
        rows.append((
            found.policy, str(found.rate().episodes), _percent(found.rate()),
            *(_percent(found.rate(k)) if k in found.outcomes else "" for k in kinds),
            found.before, _kept(before, found) if before and same else "",
        ))  # fmt: skip
    return rows


def _kept(before: Answers, after: Answers) -> str:
    return points(kept(before, after)) if before.rate().successes else ""


def _answers(answers: Sequence[Answers]) -> Iterable[str]:
    if answers:
        yield from ("## Web questions", "")
        yield "Held-back questions about web pictures, answered freely: right ones, by the sort of"
        yield "answer. Where: where a thing is, told by its name or by what is known of it. Near:"
        yield "what is near it, and where. Yes or no: whether it is there. Number: how many things"
        yield f"there are. What: what is at a place. A place counts within {NEAR} of {COORDINATES}."
        yield "Not asked: what training asks of a name alone in the same words (kind, colour, use)."
        yield "Share kept, in percent: accuracy over accuracy before robot data, same questions,"
        yield "Wald's paired interval; none of a model that had robot data from the beginning, as"
        yield "rt2-tiny has. What becomes of answers when robot data comes, the ablation shows."
        head, *rows = answer_rows(answers)
        yield from ("", *_head(*head), *(_row(*row) for row in rows), "")


def _ablation(ablation: Ablation | None, stale: bool) -> Iterable[str]:
    """The paper's question: what web knowledge, and keeping it, is worth to a robot."""
    if ablation is None:
        return
    yield from ("## Ablation", "")
    yield f"Models that differ in start, data and plans, {ablation.minutes:g} minutes each on"
    yield f"{ablation.machine}, seed {ablation.seed}, as in section 4.3 of the paper. Each was"
    yield "trained once: intervals and p are over episodes, and do not tell what another run would"
    yield "give. Data are shares of pictures; most tokens of answers are the robot's. Cells of a"
    yield "group count together; reasoning is one cell of emergent. Web answers kept, in percent:"
    yield "accuracy over that of the start."
    for arm in ablation.arms:
        if not arm.plans:
            yield f"{arm.name} also lacks what plans are learned by: questions on what a plan"
            yield "begins with, which the start has learned, and rows in words alone."
    dates, revisions = (
        sorted({getattr(cell, what) for arm in ablation.arms for cell in arm.cells})
        for what in ("date", "revision")
    )
    revisions = list(dict.fromkeys(", ".join(revisions).split(", ")))
    trained = ", ".join(dict.fromkeys(arm.trained for arm in ablation.arms if arm.trained))
    told = f"trained at {trained}, " if trained else ""
    yield f"Measured on {', '.join(dates)} at {', '.join(revisions)}, {told}by the recipe of then."
    if stale:
        yield "The tables have been changed since: compare its rows with each other alone."
    if ablation.start_minutes:
        yield f"The start, which some begin with, took {ablation.start_minutes:g} minutes before."
    if any(arm.base for arm in ablation.arms):
        yield "RT-1 learns from the same demonstrations by its own recipe; it answers no questions."
    yield from ("", f"![Ablation]({PLOT})", "")
    yield from _head("model", "start", "data", *GROUPS, "web answers", "web answers kept", "steps")
    start = ablation.start
    yield _row(start.policy, "", "", *("" for _ in GROUPS), _counted(start.rate()), "", "")
    for arm in ablation.arms:
        data = ", ".join(f"{name} {share:g}" for name, share in arm.shares.items())
        data += f", {arm.base}" if arm.base else "" if arm.plans else ", no plans"
        rates = [arm.rate(group) for group in GROUPS]
        yield _row(
            arm.name, arm.start or "random weights", data,
            *(_counted(rate) if rate.episodes else "" for rate in rates),
            _counted(arm.answers.rate()) if arm.answers else "",
            _kept(start, arm.answers) if arm.answers else "", arm.steps,
        )  # fmt: skip
    reached = [(a.name, [a.reach(group) for group in GROUPS]) for a in ablation.arms]
    if any(rate.episodes for _, rates in reached for rate in rates):
        yield from (
            "", "Of the same episodes, those in which the right thing was reached: what is to be",
            "taken, pushed or brought, not where to. In symbols and people its name says it.", "",
        )  # fmt: skip
        yield from _head("model", *GROUPS)
        for name, rates in reached:
            yield _row(name, *(_counted(rate) if rate.episodes else "" for rate in rates))
    yield from _arms_compared(ablation.arms)
    yield ""


def _arms_compared(arms: Sequence[Arm]) -> Iterable[str]:
    """The arm that has most against each other one, on the same episodes."""
    first = max(arms, key=lambda arm: (bool(arm.start), len(arm.shares), arm.plans))
    rows = [
        (other.name, [_arm_pair(first.group(group), other.group(group)) for group in GROUPS])
        for other in arms
        if other is not first
    ]
    if any(entry for _, entries in rows for entry in entries):
        yield from ("", f"{first.name} and another model on the same episodes: +, those that")
        yield f"{first.name} alone did; −, those that the other alone did; p, McNemar's exact test,"
        yield from ("two-sided, not corrected for the number of comparisons.", "")
        yield from _head("model", *GROUPS)
        for name, entries in rows:
            yield _row(name, *entries)


def _arm_pair(first: Sequence[CellResult], other: Sequence[CellResult]) -> str:
    """Of a group's cells together; nothing unless all of their episodes are the same."""
    pairs = [*zip(first, other, strict=False)]
    if not pairs or any(_shared(a, b) < max(len(a.outcomes), len(b.outcomes)) for a, b in pairs):
        return ""
    found = mcnemar(
        (x == "1", y == "1") for a, b in pairs for x, y in zip(a.outcomes, b.outcomes, strict=True)
    )
    return f"+{found.first} −{found.second}, p {p_value(found.p)}"


def _counted(rate: Rate) -> str:
    return f"{_percent(rate)} of {rate.episodes}"


def _overview(table: Table, policies: Sequence[str], cells: Sequence[Cell]) -> Iterable[str]:
    yield from _head("suite", "cell", *policies)
    for cell in cells:
        entries = [table[p, cell].rate if (p, cell) in table else None for p in policies]
        yield _row(*cell, *(_percent(rate) if rate else "" for rate in entries))
    yield ""


def _measured(table: Table, policies: Sequence[str], cells: Sequence[Cell]) -> Iterable[str]:
    yield from ("## Every measurement", "")
    yield "Reached: in so many the hand was where the task begins, over the right thing or where a"
    yield "push of it begins, and stayed, whatever came of it. Empty where nobody looked."
    yield ""
    yield from _head(
        "policy", "suite", "cell", "success", "95 % interval", "episodes", "reached", "seeds",
        "failures", "revision", "date",
    )  # fmt: skip
    for cell in cells:
        for result in (table[p, cell] for p in policies if (p, cell) in table):
            failures = ", ".join(f"{count} {name}" for name, count in result.failures.items())
            low, high = result.rate.interval
            yield _row(
                result.policy, result.suite, result.cell, f"{result.rate.value:.0%}",
                f"{low:.0%} to {high:.0%}", result.rate.episodes,
                f"{result.reach.value:.0%}" if result.reached else "", result.seeds,
                failures or "none", result.revision, result.date,
            )  # fmt: skip
    yield ""


def _gaps(table: Table, policies: Sequence[str]) -> Iterable[str]:
    """Seen minus unseen, for policies that were measured on all of both."""
    rows = []
    for policy in policies:
        if all((policy, cell) in table for cell in (paper.SEEN, *paper.UNSEEN)):
            seen = table[policy, paper.SEEN].rate
            rest = Rate.together(table[policy, cell].rate for cell in paper.UNSEEN)
            difference = points(seen.minus(rest))
            rows.append(_row(policy, f"{seen.value:.0%}", f"{rest.value:.0%}", difference))
    if rows:
        yield from ("## Generalisation gap", "")
        yield "Seen minus all unseen cells together, in points, with Newcombe's interval."
        yield from ("", *_head("policy", "seen", "unseen", "gap"), *rows, "")


def _compared(table: Table, policies: Sequence[str], cells: Sequence[Cell]) -> Iterable[str]:
    """The policy that was measured first against each other one, on the same episodes."""
    first, others = (policies[0], policies[1:]) if policies else ("", [])
    rows = []
    for cell in cells:
        entries = [_pair(table.get((first, cell)), table.get((o, cell))) for o in others]
        if any(entries):
            rows.append(_row(*cell, *entries))
    if rows:
        yield from ("## Compared", "")
        yield f"{first} and another policy on the same episodes: +, those that {first} alone did;"
        yield "−, those that the other alone did; p, McNemar's exact test, two-sided, not corrected"
        yield "for the number of comparisons. Where one played more, on the first that both did;"
        yield "empty where their episodes are not the same."
        yield from ("", *_head("suite", "cell", *others), *rows, "")


def _pair(first: CellResult | None, other: CellResult | None) -> str:
    """Of the episodes that both played, which are the first ones of whoever played more."""
    if first is None or other is None or not (count := _shared(first, other)):
        return ""
    outcomes = zip(first.outcomes[:count], other.outcomes[:count], strict=True)
    found = mcnemar((a == "1", b == "1") for a, b in outcomes)
    of = f" of {count}" if count < max(len(first.outcomes), len(other.outcomes)) else ""
    return f"+{found.first} −{found.second}{of}, p {p_value(found.p)}"


def _shared(first: CellResult, other: CellResult) -> int:
    """How many episodes both played from the beginning on; 0 if those are not the same ones."""
    each = [
        [result.episodes[i : i + DIGITS] for i in range(0, len(result.episodes), DIGITS)]
        for result in (first, other)
    ]
    same = all("----" in (a, b) or a == b for a, b in zip(*each, strict=False))
    changed = first.tables and other.tables and first.tables != other.tables
    return min(map(len, each)) if same and not changed else 0


def _paper() -> Iterable[str]:
    yield f"## The paper's figures ({paper.SOURCE})"
    yield from ("", f"In percent, of {paper.NOT_COMPARABLE}.", "")
    yield from _head("suite", "cell", *paper.MODELS)
    for cell, rates in paper.PAPER.items():
        yield _row(*cell, *rates)
    yield _row("unseen", "average", *paper.UNSEEN_AVERAGE)
    yield _row("emergent", "average", *paper.EMERGENT_AVERAGE)
    yield ""


def _percent(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.value:.0%} ({100 * low:.0f} to {100 * high:.0f})"


def points(difference: Difference) -> str:
    """A difference in percentage points: "12 (3 to 21)"."""
    value, low, high = (round(100 * x) for x in (difference.value, difference.low, difference.high))
    return f"{value} ({low} to {high})".replace("-", "−")


def p_value(p: float) -> str:
    """How a p-value is written: "= 0.031", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}".rstrip("0").rstrip(".")


def _head(*names: str) -> tuple[str, str]:
    return _row(*names), "|" + "---|" * len(names)


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
