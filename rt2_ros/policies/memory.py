# SPDX-License-Identifier: Apache-2.0
"""What a language model's policy remembers of its last answers, attempt by attempt.

    memory = AnswerMemory(grammar, plan_every=3)
    memory.recalled(observation)                    # what the plan before said of what is seen
    prompt = memory.prompt(observation, inputs)     # with guesses, and the plan if it is kept
    memory.note(observation, prompt, answer.steps, plan)

The last answers are guesses at the next (see `rt2_ros.models.decode`): they save time and change
nothing. A plan that is kept begins the next answers as if the model had written it again, until
it is `plan_every` decisions old; then the model writes a new one. What lasts in a plan, such as
which thing is meant and where it is to be put (`rt2_ros.actions.PlanForm`), stays as the first plan
of an attempt says, which was made before an arm hid anything, until that is `look_every` decisions
of `PERIOD_S` old, by the stamps of what is seen where they tell; then the model looks for it anew,
and keeps no plan. Of what was seen `FORGET_S` ago, or later
than now, by its stamps, nothing but guesses is left.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rt2_ros.actions import Grammar, PlanForm
from rt2_ros.actions.tokens import TokenIds
from rt2_ros.models.constrain import Step
from rt2_ros.models.decode import Prompt
from rt2_ros.models.forward import Inputs
from rt2_ros.policies.base import FORGET_S, MOST_ATTEMPTS, Observation

GUESSES = 4
PERIOD_S = 0.25  # between two decisions of an episode as models learn them


class Last(NamedTuple):
    """What an attempt's last decision left."""

    answers: tuple[Sequence[int], ...]  # the newest first
    plan: Sequence[Step]  # the newest's up to the end of "Action:"
    recalled: str  # of its text
    decisions: int  # that were made on this plan
    held: Mapping[Any, Step]  # what lasts, by the grammar's state
    only: Mapping[Any, TokenIds]  # what may come where that ends
    looked: int  # decisions that were made with it
    since_ns: int  # stamp of what was seen when it was found
    stamp_ns: int  # of what was seen


class AnswerMemory:
    """The last answers of each attempt, told apart by episode and instruction.

    plan_every: decisions for which a plan is good; 1 writes a new one each time. form: of plans,
    which says what of them is recalled, and what lasts. look_every: decisions, of PERIOD_S each,
    for which that is good; 1 looks anew each time.
    """

    def __init__(
        self, grammar: Grammar, plan_every: int = 1, form: PlanForm | None = None,
        look_every: int = 1,
    ) -> None:  # fmt: skip
        for name, value in (("plan_every", plan_every), ("look_every", look_every)):
            if value < 1:
                raise ValueError(f"{name}: {value}, expected 1 or more")
        if look_every > 1 and (form is None or not form.lasting):
            raise ValueError(
                f"look_every: {look_every}, expected 1: the model's plans have no form that says "
                "what lasts"
            )
        if look_every > 1:
            grammar.lasting(())  # takes its time now, and not in the first decision
        self._grammar, self._form = grammar, form
        self._plan_every, self._look_every = plan_every, look_every
        self._attempts: OrderedDict[tuple[str, str], Last] = OrderedDict()

    def last(self, observation: Observation) -> Last | None:
        """What is remembered of an attempt, None before its first decision."""
        last = self._attempts.get(_attempt(observation))
        if last and last.stamp_ns and observation.stamp_ns:
            gap = observation.stamp_ns - last.stamp_ns
            if not 0 <= gap < FORGET_S * 1e9:  # meanwhile anything may have moved
                return last._replace(plan=(), recalled="", held={}, only={}, looked=0, since_ns=0)
        return last

    def put_back(self, observation: Observation, last: Last | None) -> None:
        """Forget what came after `last`."""
        self._attempts.pop(_attempt(observation), None)
        if last is not None:
            self._attempts[_attempt(observation)] = last

    def recalled(self, observation: Observation) -> str:
        """What the model is to be reminded of; "" for the first decision of an attempt."""
        last = self.last(observation)
        return last.recalled if last else ""

    def prompt(self, observation: Observation, inputs: Inputs, keep: bool = True) -> Prompt:
        """The prompt with what the last answers are good for; keep: a plan that may be."""
        last = self.last(observation)
        if last is None:
            return Prompt(inputs)
        if self._is_old(last, observation):  # a plan that is kept would say where it was before
            return Prompt(inputs, guesses=last.answers)
        kept = last.plan if keep and last.decisions < self._plan_every else ()
        return Prompt(inputs, begin=kept, held=last.held, only=last.only, guesses=last.answers)

    def _is_old(self, last: Last, observation: Observation) -> bool:
        """Whether what lasts is to be looked for anew."""
        decisions = float(last.looked)
        if last.since_ns and observation.stamp_ns:
            passed = (observation.stamp_ns - last.since_ns) * 1e-9
            decisions = passed / PERIOD_S + 0.5  # which is as many, but for jitter
        return 1 < self._look_every <= decisions

    def note(
        self, observation: Observation, prompt: Prompt, steps: Sequence[Step], plan: str
    ) -> None:
        """Remember an answer, the text of its plan, and what of that was `prompt`'s; of an
        observation that is of no episode, nothing.
        """
        if not observation.episode:
            return
        attempt = _attempt(observation)
        before = self._attempts.pop(attempt, None)
        decisions = before.decisions + 1 if before and prompt.begin else 1
        held, only, looked = prompt.held, prompt.only, before.looked + 1 if before else 1
        since = before.since_ns if before else 0
        if not held:
            (held, only), looked, since = self._lasting(steps), 1, observation.stamp_ns
        older = before.answers if before else ()
        answers = ([step.token for step in steps], *older)[:GUESSES]
        self._attempts[attempt] = Last(
            answers, self._plan(steps), self._form.recalled(plan) if self._form else "", decisions,
            held, only, looked, since, observation.stamp_ns,
        )  # fmt: skip
        if len(self._attempts) > MOST_ATTEMPTS:
            self._attempts.popitem(last=False)

    def _lasting(self, steps: Sequence[Step]) -> tuple[dict[Any, Step], Mapping[Any, TokenIds]]:
        """What lasts, and what may come where it ends."""
        if self._look_every == 1:
            return {}, {}
        places, only = self._grammar.lasting([step.token for step in steps])
        return {state: steps[place] for state, place in places.items()}, only

    def _plan(self, steps: Sequence[Step]) -> Sequence[Step]:
        state, end = self._grammar.start(), 0
        for place, step in enumerate(steps):
            if self._grammar.in_plan(state):
                end = place + 1
            state = self._grammar.advance(state, step.token)
        return steps[:end]


def _attempt(observation: Observation) -> tuple[str, str]:
    return observation.episode, observation.instruction
