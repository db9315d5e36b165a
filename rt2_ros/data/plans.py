# SPDX-License-Identifier: Apache-2.0
"""What the plans of demonstrations say, in words.

A plan first says what is seen: what the task is about, where its top is (u, v in 0..255 over the
picture), and of where it is to be put whether that is flat or high. Then where that is on the table
(x, y in the state's own bins), and for "near" which sides of the target are open and to which of
them it goes. Then what comes next, as the expert does (`rt2_ros.sim.expert.Subgoal`): the verb,
where the fingertips go if that is not where the thing is, and the step. So each word and number
follows from few that the model has before it, and the action is a difference of two of them:

    "Plan: key 38 109 cake 120 80 flat at 161 75 150 99 open left back to left put 151 138 over."

Some prompts remind of what the last plan said of where things are, as a policy's do from its
second decision on: the arm may hide now what was seen then. Now and then that is wrong, as
policies are.

    "Q: what ... ? State: 150 99 80 95. Plan: key 80 97 cake 120 80 flat at 140 88 150 99 open left
    back to left. A:"
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rt2_ros.actions import ActionSpace, PlanForm
from rt2_ros.data import split

if TYPE_CHECKING:  # the simulator is imported when it is first used
    from rt2_ros.sim.expert import Subgoal
    from rt2_ros.sim.tabletop import TabletopState
    from rt2_ros.sim.tasks import Task

MISREAD = 0.08  # share of things that a reminder takes for another one
STRAY = 20  # bins that something in the hand may have moved since, standard deviation
BLURRED = 0.3, 12  # share of other things that were seen badly, and by how many bins
OPEN, TO = "open", "to"  # what stands before the sides of a target, and the chosen one
AT = " at"  # what stands before a plan's x and y
FLAT, HIGH = "flat", "high"  # a card, a block
# The words of plans beside names, as `rt2_ros.sim.expert` has them: verbs, then steps.
PLAN_WORDS = (
    "take", "lift", "put", "stack", "leave", "drop", "push left", "push right", "push forward",
    "push back", "open", "close", FLAT, HIGH, "at", "over", "down", "up", "grip", "release",
    "push", "done", "to",
)  # fmt: skip


def plan_text(
    goal: Subgoal, task: Task, truth: TabletopState, places: dict[str, tuple[int, int]],
    space: ActionSpace,
) -> str:  # fmt: skip
    """What a task is about and what comes next, in words: "key 38 109 at 161 75 take over".

    places: u, v of things by name.
    """
    from rt2_ros.sim.expert import open_sides, others, side_for
    from rt2_ros.sim.tasks import PUSHES

    things = [truth.find(name) for name in task.things]
    seen = [
        _Seen(o.name, places[o.name], across_bins(o.position[:2], space), o.kind == "card")
        for o in things
    ]
    sides = ""
    if task.kind == "near":
        free = open_sides(things[1].position[:2], others(truth, task))
        sides = _sides_text(free, side_for(truth, task))
    what: list[Any] = [goal.verb]
    if goal.verb in ("put", "stack", *PUSHES):
        what += across_bins(goal.place, space)
    return " ".join([*([_seen_text(seen, sides)] if seen else []), *map(str, what), goal.step])


def recall(
    random: np.random.Generator, task: Task, truth: TabletopState,
    places: dict[str, tuple[int, int]], space: ActionSpace,
) -> str:  # fmt: skip
    """What the plan before may have said of where things are: mostly right."""
    from rt2_ros.sim.expert import SIDES, open_sides, others, side_for
    from rt2_ros.sim.tasks import PUSHES

    seen, lie = [], []
    for name in task.things:
        misread = random.random() < MISREAD
        there = truth.objects[int(random.integers(len(truth.objects)))]
        thing = there if misread else truth.find(name)
        moves = name == task.object and (truth.held == name or task.kind in PUSHES)
        share, blur = (0.8, STRAY) if moves else BLURRED
        spread = blur if random.random() < share else 1.5
        where = [*places[thing.name], *across_bins(thing.position[:2], space)]
        where = (where + random.normal(0, spread, 4)).round().clip(0, 255).astype(int).tolist()
        seen.append(_Seen(thing.name, where[:2], where[2:], thing.kind == "card"))
        lie.append(thing.position[:2])
    sides = ""
    if task.kind == "near":
        free = {*open_sides(lie[1], others(truth, task))}
        if random.random() < MISREAD:
            free ^= {str(random.choice(list(SIDES)))}
        side = side_for(truth, task)
        if side not in free:
            side = str(random.choice(sorted(free) or list(SIDES)))
        sides = _sides_text([name for name in SIDES if name in free], side)
    return _seen_text(seen, sides)


class _Seen(NamedTuple):
    """What a plan says of a thing. place: u, v; across: x, y in the state's bins."""

    name: str
    place: Sequence[int]
    across: Sequence[int]
    flat: bool


def _sides_text(free: Sequence[str], side: str) -> str:
    return " ".join([*((OPEN, *free) if free else ()), TO, side])


def _seen_text(seen: Sequence[_Seen], sides: str) -> str:
    """The first half of a plan: what it is about, then where that is on the table."""
    if not seen:
        return ""
    words: list[Any] = [seen[0].name, *seen[0].place]
    for target in seen[1:]:
        words += [target.name, *target.place, FLAT if target.flat else HIGH]
    words += [AT.strip(), *(value for one in seen for value in one.across)]
    return " ".join(map(str, [*words, *([sides] if sides else [])]))


def across_bins(place: ArrayLike, space: ActionSpace) -> list[int]:
    """A place (2,) on the table, m, as x and y in a space's bins of the state."""
    return space.state_bins([*np.asarray(place), 0.0, 0.0])[:2].tolist()


def plan_form() -> PlanForm:
    """What `plan_text` writes of anything that web pictures show."""
    from rt2_ros.sim.expert import SIDES, STEPS, VERBS

    return PlanForm(
        "[<thing> # # [<thing> # # <kind>] at # # [# # [[open <sides>] to <side>]]] | "
        "<verb> [# #] <step>",
        {
            "thing": tuple(what.name for what in split.web_pictographs()),
            "kind": (FLAT, HIGH), "verb": VERBS, "side": tuple(SIDES), "step": STEPS,
            "sides": tuple(" ".join(some) for n in range(1, 5) for some in combinations(SIDES, n)),
        },
    )  # fmt: skip
