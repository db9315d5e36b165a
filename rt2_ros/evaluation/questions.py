# SPDX-License-Identifier: Apache-2.0
"""Held-back questions about web pictures: what a policy knows beside what it does.

    answers = ask(load_policy("rt2-tiny"), count=500, seed=0)
    answers.rate("where")               # Rate(successes=171, episodes=180)
    kept(before, answers)               # the share of them that robot data has left

Each question is about a picture of its own, drawn from a seed that no training picture comes from.
Without it nobody can answer: of what kind or colour a thing is, and what it is for, is not asked,
as training asks that of its name alone in the very same words. Whether it is known is seen where it
tells a thing: "where is the tool?".

The policy decodes freely, as for a person who asks. An answer that names places is right where its
words are and each place is near enough; any other where it is the same text.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from rt2_ros.actions.prompts import question_prompt
from rt2_ros.data.samples import COORDINATES, Query
from rt2_ros.data.split import evaluation_seeds, web_pictographs
from rt2_ros.data.web import COLOUR, KIND, NEAR_WHAT, USE, web_frame
from rt2_ros.evaluation.metrics import Difference, Rate, paired_ratio
from rt2_ros.policies import Policy
from rt2_ros.provenance import git_revision

NEAR = 12  # of COORDINATES, between the place that is told and the right one
THINGS = 12  # in a picture at most; training crowds up to 20 into some
# In the order of a table; what each means stands in `rt2_ros.evaluation.page`.
KINDS = ("where", "near", "yes or no", "number", "what")
# Words and signs; Chinese characters stand alone.
_TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+|[^\w\s]")
_NEAR_WHAT = f"Q: {NEAR_WHAT.partition('{')[0]}"
# Questions of a name alone.
_OF_NAMES = re.compile(
    "|".join(re.escape(question_prompt(q)).replace(r"\{\}", ".+") for q in (KIND, COLOUR, USE))
)


@dataclass(frozen=True)
class Answers:
    """How a policy answered.

    outcomes: kind of question -> "1" or "0" for each question, in the order of their seeds.
    questions: hash of all of them, the same for the same questions.
    before: the policy that it is compared with, what it was before robot data; "" for none.
    weights: digest of its checkpoint; "" where there is none, or it was not kept yet.
    """

    policy: str
    outcomes: Mapping[str, str]
    questions: str
    seed: int
    before: str
    revision: str
    date: str
    weights: str = ""

    def rate(self, kind: str | None = None) -> Rate:
        """Right ones of all that were asked, or of one kind."""
        chosen = self.outcomes.get(kind, "") if kind else "".join(self.outcomes.values())
        return Rate(chosen.count("1"), len(chosen))


def held_back(count: int, seed: int = 0) -> Iterator[tuple[NDArray[np.uint8], Query]]:
    """`count` pictures, uint8 (192, 192, 3) RGB, with a question each that needs its picture.

    Raises:
        ValueError: the seeds are not all test seeds.
    """
    things = web_pictographs()
    for number in evaluation_seeds(seed, count):
        random = np.random.default_rng(number)
        frame = web_frame(random, things, most=THINGS)
        assert frame.image is not None
        queries = [query for query in frame.queries if not _OF_NAMES.fullmatch(query.prompt)]
        yield frame.image, queries[int(random.integers(len(queries)))]


def ask(
    policy: Policy, count: int, seed: int = 0, *, before: str = "",
    on_answer: Callable[[bool], None] = lambda right: None,
) -> Answers:  # fmt: skip
    """Ask a policy `count` questions; one that raises is not measured."""
    outcomes: dict[str, str] = dict.fromkeys(KINDS, "")
    asked = []
    for image, query in held_back(count, seed):
        question = query.prompt.removeprefix("Q: ").removesuffix(" A:")
        correct = right(policy.answer(image, question), query.answer)
        outcomes[kind_of(query)] += str(int(correct))
        asked.append(query)
        on_answer(correct)
    return Answers(
        policy.name, {kind: bits for kind, bits in outcomes.items() if bits},
        digest(asked), seed, before, git_revision(),
        datetime.now(timezone.utc).date().isoformat(),
    )  # fmt: skip


def digest(queries: Iterable[Query]) -> str:
    """Of questions and what is expected: 16 hex digits, the same for the same ones."""
    text = "".join(f"{query.prompt}\n{query.answer}\n" for query in queries)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def kind_of(query: Query) -> str:
    """What sort of answer a question asks for: one of KINDS."""
    if query.prompt.startswith(_NEAR_WHAT):
        return "near"
    words, places = _parts(query.answer)
    if places:
        return "where"
    if words in (["yes"], ["no"], ["是"], ["不", "是"], ["有"], ["没", "有"]):
        return "yes or no"
    return "number" if len(words) == 1 and words[0].isdecimal() else "what"


def right(given: str, expected: str) -> bool:
    """Whether an answer says what was expected, case, accents and spaces aside.

    >>> right("Umbrella 128 90", "umbrella 131 87")
    True
    """
    (words, places), (true_words, true_places) = _parts(given), _parts(expected)
    if words != true_words or len(places) != len(true_places):
        return False
    return all(math.dist(*pair) <= NEAR for pair in zip(places, true_places, strict=True))


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


def _parts(answer: str) -> tuple[list[str], list[tuple[int, int]]]:
    """An answer's words, and the places behind its names, (u, v) in 0..255; [] where it has none.

    >>> _parts("keycap three 60 91 bus 140 70")
    (['keycap', 'three', 'bus'], [(60, 91), (140, 70)])
    """
    plain = unicodedata.normalize("NFKD", answer.casefold())
    words = _TOKEN.findall("".join(c for c in plain if not unicodedata.combining(c)))
    named: list[str] = []
    places: list[tuple[int, int]] = []
    left = list(words)
    while left:
        end = next((i + 1 for i in range(1, len(left)) if _is_place(left, i)), 0)
        if not end:
            return words, []
        named += left[: end - 2]
        places.append((int(left[end - 2]), int(left[end - 1])))
        left = left[end:]
    return named, places


def _is_place(words: list[str], last: int) -> bool:
    """Whether a place ends with that word: two coordinates, and no third number behind them."""
    pair, behind = words[last - 1 : last + 1], words[last + 1 : last + 2]
    known = all(w.isdecimal() and int(w) < COORDINATES for w in pair)
    return known and not (behind and behind[0].isdecimal())
