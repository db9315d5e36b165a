# SPDX-License-Identifier: Apache-2.0
"""What the web set knows: plain facts, each asked only where exactly one thing answers."""

import re

import numpy as np
import pytest

from rt2_ros.data import knowledge
from rt2_ros.data.split import web_pictographs
from rt2_ros.data.web import web_frame

WEB = web_pictographs()


@pytest.mark.parametrize(
    ("text", "true", "false"),
    [
        ("the fruit", "banana pineapple mango", "hammer rocket carrot"),
        ("水果", "banana", "hammer"),
        ("the tool", "hammer wrench axe", "banana panda guitar"),
        ("the animal that lives in the sea", "octopus dolphin", "horse panda butterfly"),
        ("the one that is not red", "banana cucumber", "strawberry tomato cherries"),
        ("something heavy", "rock anchor elephant", "feather balloon"),
        ("something light", "feather", "rock brick"),
        ("a healthy drink", "mate", "sake"),
        ("the smallest animal", "ant", "elephant horse gorilla"),
        ("I am thirsty", "mate", "hammer guitar"),
        ("what I could use to drive a nail", "hammer", "banana"),
        ("the person who puts out fires", "firefighter", "cook singer astronaut"),
    ],
)
def test_facts_are_what_people_would_say(text, true, false):
    fact = knowledge.fact(text)
    assert set(true.split()) <= fact.true
    assert set(false.split()) <= fact.false


def test_no_fact_is_true_and_false_of_one_thing_and_all_are_of_the_web_set():
    names = {p.name for p in WEB}
    for fact in knowledge.facts():
        assert not fact.true & fact.false, fact.texts
        assert fact.true | fact.false <= names
        assert fact.texts and fact.texts_zh


def test_an_unknown_name_in_the_table_is_refused_by_name():
    with pytest.raises(ValueError, match=r"knowledge.yaml: 'unobtainium' is no thing"):
        knowledge._of(["banana", "unobtainium"])


def _result(text):
    """The number that an expression means, worked out here on its own."""
    words = {word: number for number, word in enumerate(knowledge.NUMBERS)}
    words |= {sign: number for number, sign in enumerate(knowledge.NUMBERS_ZH)}
    minus = re.search(r"minus|减| - ", text) is not None
    found = re.findall(r"\d+|[a-z]+|[零一二三四五六七八九十]", text)
    numbers = [int(w) if w.isdigit() else words[w] for w in found if w.isdigit() or w in words]
    assert len(numbers) == 2, text
    return numbers[0] - numbers[1] if minus else sum(numbers)


@pytest.mark.parametrize("chinese", [False, True])
def test_sums_come_to_what_they_should(chinese):
    random = np.random.default_rng(0)
    for _ in range(300):
        value = int(random.integers(0, 11))
        assert _result(knowledge.sums(random, value, chinese)) == value


def test_every_where_question_has_one_answer_in_its_picture():
    """Looked up here by the words of the question, among what the picture shows."""
    random, looked_up = np.random.default_rng(3), 0
    by_text = {}
    for fact in knowledge.facts():
        for text in (*fact.texts, *fact.texts_zh):
            by_text.setdefault(text, []).append(fact)
    for _ in range(400):
        frame = web_frame(random, WEB, queries=8)
        present = {thing.name for thing in frame.things}
        places = {thing.name: f"{thing.u} {thing.v}" for thing in frame.things}
        for query in frame.queries:
            if not query.mention:
                continue
            assert query.answer == f"{query.about} {places[query.about]}"
            known = by_text.get(query.mention, [])
            if known and query.mention.removeprefix("the ") != query.about:  # "bird" is one
                rest = present - {query.about}
                assert any(query.about in f.true and rest <= f.false for f in known), query
                looked_up += 1
    assert looked_up > 300
