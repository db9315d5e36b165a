# SPDX-License-Identifier: Apache-2.0
"""Held-back questions about web pictures: what a policy knows beside what it does.

    answers = ask(load_policy("rt2-tiny"), count=500, seed=0)
    answers.rate("where")               # Rate(successes=171, episodes=180)
    kept(before, answers)               # the share of them that robot data has left

Each question is about a picture of its own, drawn from a seed that no training picture comes from.
The policy decodes freely, as for a person who asks. An answer that names a place is right where its
words are and the place is near enough; any other where it is the same text.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from rt2_ros.data.samples import COORDINATES, Query
from rt2_ros.data.split import evaluation_seeds, web_pictographs
from rt2_ros.data.web import web_frame
from rt2_ros.evaluation.metrics import Difference, Rate, paired_ratio
from rt2_ros.policies import Policy
from rt2_ros.provenance import git_revision

NEAR = 12  # of COORDINATES, between the place that is told and the right one
THINGS = 12  # in a picture at most; training crowds up to 20 into some
KINDS = ("where", "yes or no", "number", "what")  # in the order of a table
# Words and signs; Chinese characters stand alone.
_TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+|[^\w\s]")


@dataclass(frozen=True)
class Answers:
    """How a policy answered.

    outcomes: kind of question -> "1" or "0" for each question, in the order of their seeds.
    questions: hash of all of them, the same for the same questions.
    before: the policy that it is compared with, what it was before robot data; "" for none.
    """

    policy: str
    outcomes: Mapping[str, str]
    questions: str
    seed: int
    before: str
    revision: str
    date: str

    def rate(self, kind: str | None = None) -> Rate:
        """Right ones of all that were asked, or of one kind."""
        chosen = self.outcomes.get(kind, "") if kind else "".join(self.outcomes.values())
        return Rate(chosen.count("1"), len(chosen))


def held_back(count: int, seed: int = 0) -> Iterator[tuple[NDArray[np.uint8], Query]]:
    """`count` pictures, uint8 (192, 192, 3) RGB, with a question each.

    Raises:
        ValueError: the seeds are not all test seeds.
    """
    things = web_pictographs()
    for number in evaluation_seeds(seed, count):
        random = np.random.default_rng(number)
        frame = web_frame(random, things, most=THINGS)
        assert frame.image is not None
        yield frame.image, frame.queries[int(random.integers(len(frame.queries)))]


def ask(
    policy: Policy, count: int, seed: int = 0, *, before: str = "",
    on_answer: Callable[[bool], None] = lambda right: None,
) -> Answers:  # fmt: skip
    """Ask a policy `count` questions; one that raises is not measured."""
    outcomes: dict[str, str] = dict.fromkeys(KINDS, "")
    asked = hashlib.sha256()
    for image, query in held_back(count, seed):
        question = query.prompt.removeprefix("Q: ").removesuffix(" A:")
        correct = right(policy.answer(image, question), query.answer)
        outcomes[kind_of(query)] += str(int(correct))
        asked.update(f"{query.prompt}\n{query.answer}\n".encode())
        on_answer(correct)
    return Answers(
        policy.name, {kind: bits for kind, bits in outcomes.items() if bits},
        asked.hexdigest()[:16], seed, before, git_revision(),
        datetime.now(timezone.utc).date().isoformat(),
    )  # fmt: skip


def kind_of(query: Query) -> str:
    """What sort of answer a question asks for: one of KINDS."""
    words, place = _parts(query.answer)
    if place:
        return "where"
    if words in (["yes"], ["no"], ["是"], ["不", "是"], ["有"], ["没", "有"]):
        return "yes or no"
    return "number" if len(words) == 1 and words[0].isdecimal() else "what"


def right(given: str, expected: str) -> bool:
    """Whether an answer says what was expected, case, accents and spaces aside.

    >>> right("Umbrella 128 90", "umbrella 131 87")
    True
    """
    (words, place), (true_words, true_place) = _parts(given), _parts(expected)
    if words != true_words or bool(place) != bool(true_place):
        return False
    return not place or math.dist(place, true_place) <= NEAR


def kept(before: Answers, after: Answers) -> Difference:
    """The share of its right answers that a policy still has: accuracy / accuracy before.

    Raises:
        ValueError: they were not asked the same.
    """
    if before.questions != after.questions:
        raise ValueError(f"{before.policy} and {after.policy} were not asked the same questions")
    return paired_ratio(
        (a == "1", b == "1")
        for kind, bits in after.outcomes.items()
        for a, b in zip(bits, before.outcomes[kind], strict=True)
    )


def _parts(answer: str) -> tuple[list[str], tuple[int, ...]]:
    """An answer's words, and the place at its end, (u, v) in 0..255; () where it has none."""
    plain = unicodedata.normalize("NFKD", answer.casefold())
    words = _TOKEN.findall("".join(c for c in plain if not unicodedata.combining(c)))
    end = words[-2:]
    if len(end) == 2 and all(w.isdecimal() and int(w) < COORDINATES for w in end):
        return words[:-2], (int(end[0]), int(end[1]))
    return words, ()
