# SPDX-License-Identifier: Apache-2.0
"""What a language model's policy remembers of its last answers, attempt by attempt.

    memory = AnswerMemory(grammar, plan_every=3)
    memory.recalled(observation)                    # what the plan before said of what is seen
    prompt = memory.prompt(observation, inputs)     # with guesses, and the plan if it is kept
    memory.note(observation, prompt, answer.tokens, plan)

The last answers are guesses at the next (see `rt2_ros.models.decode`): they save time and change
nothing. A plan that is kept begins the next answers as if the model had written it again, until
it is `plan_every` decisions old; then the model writes a new one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from rt2_ros.actions import Grammar, PlanForm
from rt2_ros.models.decode import Prompt
from rt2_ros.models.forward import Inputs
from rt2_ros.policies.base import Observation

GUESSES = 4
MOST = 256  # attempts that are remembered; the one that was longest ago is forgotten first


class _Last(NamedTuple):
    answers: tuple[Sequence[int], ...]  # the newest first
    plan: Sequence[int]  # the newest's tokens up to the end of "Action:"
    recalled: str  # of its text
    decisions: int  # that were made on this plan


class AnswerMemory:
    """The last answers of each attempt, told apart by episode and instruction.

    plan_every: decisions for which a plan is good; 1 writes a new one each time. form: of plans,
    which says what of them is recalled.
    """

    def __init__(self, grammar: Grammar, plan_every: int = 1, form: PlanForm | None = None) -> None:
        if plan_every < 1:
            raise ValueError(f"plan_every: {plan_every}, expected 1 or more")
        self._grammar, self._plan_every, self._form = grammar, plan_every, form
        self._attempts: OrderedDict[tuple[str, str], _Last] = OrderedDict()

    def recalled(self, observation: Observation) -> str:
        """What the model is to be reminded of; "" for the first decision of an attempt."""
        last = self._attempts.get(_attempt(observation))
        return last.recalled if last else ""

    def prompt(self, observation: Observation, inputs: Inputs) -> Prompt:
        """The prompt with what the last answers are good for."""
        last = self._attempts.get(_attempt(observation))
        if last is None:
            return Prompt(inputs)
        kept = last.plan if last.decisions < self._plan_every else ()
        return Prompt(inputs, begin=kept, guesses=last.answers)

    def note(
        self, observation: Observation, prompt: Prompt, tokens: Sequence[int], plan: str
    ) -> None:
        """Remember an answer, the text of its plan, and whether that plan was `prompt`'s."""
        attempt = _attempt(observation)
        before = self._attempts.pop(attempt, None)
        decisions = before.decisions + 1 if before and prompt.begin else 1
        older = before.answers if before else ()
        answers = (tokens, *older)[:GUESSES]
        self._attempts[attempt] = _Last(
            answers, self._plan(tokens), self._form.recalled(plan) if self._form else "", decisions
        )
        if len(self._attempts) > MOST:
            self._attempts.popitem(last=False)

    def _plan(self, tokens: Sequence[int]) -> Sequence[int]:
        state, end = self._grammar.start(), 0
        for place, token in enumerate(tokens):
            if self._grammar.in_plan(state):
                end = place + 1
            state = self._grammar.advance(state, token)
        return tokens[:end]


def _attempt(observation: Observation) -> tuple[str, str]:
    return observation.episode, observation.instruction
