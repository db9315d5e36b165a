# SPDX-License-Identifier: Apache-2.0
"""Held-back questions: the same for everyone, judged as a person would, kept shares paired."""

import re
from dataclasses import replace

import numpy as np
import pytest

from rt2_ros.data.samples import Query
from rt2_ros.data.split import web_pictographs
from rt2_ros.data.web import web_frame
from rt2_ros.evaluation.questions import (
    KINDS,
    THINGS,
    Answers,
    ask,
    held_back,
    kept,
    kind_of,
    right,
)


class Knowing:
    """Has seen the answers, and forgets those that `wrong` names."""

    def __init__(self, wrong=(), name="knowing"):
        self.name, self._wrong = name, set(wrong)
        self.asked = []
        self._answers = [query.answer for _, query in held_back(40)]

    def answer(self, image, question):
        assert image.dtype == np.uint8 and image.shape == (192, 192, 3)
        self.asked.append(question)
        number = len(self.asked) - 1
        return "no idea" if number in self._wrong else f" {self._answers[number].upper()} "


@pytest.mark.parametrize(
    "given, expected, correct",
    [
        ("umbrella 131 87", "umbrella 131 87", True),
        ("Umbrella 140 94", "umbrella 131 87", True),  # 11.4 away
        ("umbrella 140 96", "umbrella 131 87", False),  # 12.7 away
        ("banana 131 87", "umbrella 131 87", False),
        ("umbrella", "umbrella 131 87", False),
        ("umbrella 131 87", "umbrella", False),
        ("131 87", "131 87", True),
        ("87 131", "131 87", False),
        ("bus 60 91 keycap three 140 70", "bus 55 95 keycap three 141 66", True),
        ("bus 60 91 keycap three 140 70", "bus 55 95 keycap three 160 66", False),
        ("bus 60 91", "bus 60 91 keycap three 140 70", False),
        ("keycap three 140 70 bus 60 91", "bus 60 91 keycap three 140 70", False),
        ("nothing", "bus 60 91", False),
        ("pinata", "piñata", True),
        ("雨 伞", "雨伞", True),
        ("雨", "雨伞", False),
        ("3 号", "3号", True),
        ("t - shirt", "T-shirt", True),
        ("3", "3", True),
        ("13", "3", False),
        ("", "yes", False),
    ],
)
def test_an_answer_is_right_by_its_words_and_near_enough(given, expected, correct):
    assert right(given, expected) is correct


@pytest.mark.parametrize(
    "answer, kind",
    [("umbrella 131 87", "where"), ("131 87", "where"), ("no", "yes or no"), ("没有", "yes or no"),
     ("4", "number"), ("food fruit", "what"), ("keycap three", "what"),
     ("keycap three 20 30", "where")],
)  # fmt: skip
def test_kinds_go_by_the_answer(answer, kind):
    assert kind_of(Query("Q: is it so? A:", answer, "web")) == kind
    assert kind_of(Query("Q: what is near the key? A:", answer, "web")) == "near"


def test_questions_are_the_same_for_everyone_and_from_test_seeds_alone():
    first, second = Knowing(), Knowing(wrong=[0])
    answers, others = ask(first, 20), ask(second, 20)
    assert first.asked == second.asked and len(set(first.asked)) > 10
    assert not any("A:" in question or "Q:" in question for question in first.asked)
    assert answers.rate().successes == 20 and others.rate().successes == 19
    assert answers.questions == others.questions != ask(Knowing(), 19).questions
    assert set(answers.outcomes) <= set(KINDS) and "where" in answers.outcomes
    assert sum(answers.rate(kind).episodes for kind in answers.outcomes) == 20
    for count, seed in ((0, 0), (5, 99_999), (1, 1_000_000)):
        with pytest.raises(ValueError, match="test seeds"):
            next(held_back(count, seed))


def test_no_question_is_one_that_training_asks_of_a_name_alone():
    drawn = [web_frame(np.random.default_rng(n), web_pictographs(), most=THINGS) for n in range(40)]
    of_names = re.compile(r"Q: what (kind of thing|colour) is the .*|Q: what is the .* for\? A:")
    assert any(of_names.match(query.prompt) for frame in drawn for query in frame.queries)
    asked = [query for _, query in held_back(300)]
    assert not [query.prompt for query in asked if of_names.match(query.prompt)]
    assert {kind_of(query) for query in asked} == set(KINDS)
    what = [query.prompt for query in asked if kind_of(query) == "what"]
    assert what and all(re.search(r"\d+ \d+", prompt) for prompt in what)


def test_what_is_kept_is_counted_on_the_same_questions():
    before, after = ask(Knowing([1, 2], "start"), 40), ask(Knowing([2, 3, 4]), 40, before="start")
    found = kept(before, after)
    assert found.value == pytest.approx(37 / 38) and found.low < found.value < found.high
    assert after.before == "start"
    with pytest.raises(ValueError, match="start and knowing were not asked the same"):
        kept(before, replace(after, questions="others"))
    assert isinstance(after, Answers)
