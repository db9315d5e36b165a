# SPDX-License-Identifier: Apache-2.0
"""The built-in "web" set: pictographs on arbitrary backgrounds with questions and answers in
English and Chinese.

    frame = web_frame(np.random.default_rng(7), web_pictographs())
    frame.queries[0]    # Query("Q: where is the umbrella? A:", "umbrella 131 87", "web")

Where something is, is answered with its name first, as the robot's plans begin: what a description
means is learned here, and an instruction that has it in it profits. `look` asks as a robot is
asked, and for the beginning of a plan: what is seen.

Frames are drawn on the fly and depend on the generator's seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from rt2_ros.actions.prompts import PLAN, action_prompt, question_prompt
from rt2_ros.data import drawing, knowledge, split
from rt2_ros.data.pictographs import Pictograph, by_name, number_of
from rt2_ros.data.plans import RECALLED, recall_picture
from rt2_ros.data.samples import Frame, Query, Thing
from rt2_ros.data.split import (
    ROBOT_NAMES,
    ROBOT_PHRASES,
    ROBOT_PHRASES_ZH,
    names,
    unseen_names,
    web_pictographs,
    words_around,
)

SIZE = 192  # px

WHERE = ("where is {}?", "point to {}", "find {}", "which one is {}?")
WHERE_ZH = ("{}在哪里？", "指出{}", "哪个是{}？")
SAID, SAID_ZH = "{}. what could I use?", "{}。用什么？"
WHAT_AT = "what is at {} {}?"
WHAT_AT_ZH = "{} {}是什么？"
KIND = "what kind of thing is the {}?"
COLOUR = "what colour is the {}?"
USE = "what is the {} for?"
YES_NO = "is there a {}?"
LOOK = ("look at the {object}", "find {object}", "point to the {object}")
LOOK_ZH = ("看{object}", "找到{object}")
LOOK_TWO = ("look at the {object} and the {target}", "find {object} and {target}")
LOOK_TWO_ZH = ("看{object}和{target}", "找到{object}和{target}")
NEAR_WHAT, NOTHING = "what is near {}?", "nothing"
NEAR_BINS = 80  # of 256 over the picture, within which something is near
MOST_NEAR = 4  # things that an answer tells
COUNT = "how many things are there?"
COUNT_ZH = "有多少个东西？"
KEYWORD = "the {} one"
WITHOUT_ARTICLE = ("something ", "a ", "an ", "what ")  # descriptions after which "the" is wrong
CHINESE = 0.2  # share of questions
SORTS = ("keycap", "keycap", "keycap", "country-flag", "person-role", "sign")
MIXED = 0.3  # share of those that show two sorts
THEMED = 0.5  # share of pictures whose things are drawn so that a description tells one of them


def words() -> Iterator[str]:
    """Every text that prompts and answers are made of: the tokenizer is built from these."""
    for templates in (WHERE, WHERE_ZH, (SAID, SAID_ZH, WHAT_AT, WHAT_AT_ZH, KIND, COLOUR, USE,
                      YES_NO, COUNT, COUNT_ZH, KEYWORD)):  # fmt: skip
        yield from (template.format("", "") for template in templates)
    for phrases in (ROBOT_PHRASES, ROBOT_PHRASES_ZH):
        for of_kind in phrases.values():
            yield from (phrase.format(object="", target="") for phrase in of_kind)
    yield "what action should the robot take to ? . , yes no nothing table hand robot gripper"
    yield "move put push near onto on top of left right forward back to open close place drop it"
    yield "in the 是 不是 没有"
    for what in web_pictographs():
        yield from (what.name, *names(what), *names(what, chinese=True), *what.keywords)
        yield what.subgroup.replace("-", " ")
    yield from knowledge.words()


def web_frame(
    random: np.random.Generator,
    things: Sequence[Pictograph],
    *,
    size: int = SIZE,
    queries: int = 8,
    most: int = 7,
    looks: int = 0,
) -> Frame:
    """Draw one picture with 2 to `most` pictographs and ask `queries` questions about it.

    looks: how many times a robot is asked besides; see `look`.
    """
    image = drawing.background(random, size)
    theme, chosen = None, None
    if random.random() < THEMED:
        theme, chosen = _theme(random, things, most)
    if chosen is None:
        count = int(random.integers(2, most + 1))
        chosen = [things[i] for i in random.choice(len(things), count, replace=False)]
    placed: list[tuple[Pictograph, Thing]] = []
    for what, centre in zip(chosen, drawing.spread(random, len(chosen), size), strict=False):
        placed.append((what, drawing.paste(random, image, what, centre)))
    image = drawing.degrade(random, image)
    order = [placed[i % len(placed)] for i in range(queries)]
    random.shuffle(order)
    asked = [_ask(random, placed, target) for target in order]
    if theme is not None:  # what the picture was drawn for; its answer was drawn first
        for i in range(min(len(asked), 2)):
            chinese = random.random() < CHINESE
            asked[i] = _where(random, placed[0][1], theme(random, chinese), chinese)
    asked += [look(random, placed, None if i else theme) for i in range(looks)]
    asked = [asked[i] for i in random.permutation(len(asked))]
    return Frame(image, tuple(asked), tuple(thing for _, thing in placed))


# What a thing is called: (the words, whether they are a sentence that asks for it by itself).
Called = tuple[str, bool]
Theme = Callable[[np.random.Generator, bool], Called]


def _theme(
    random: np.random.Generator, things: Sequence[Pictograph], most: int
) -> tuple[Theme | None, list[Pictograph] | None]:
    """Things of which a description tells the first one, and that description; None, None where
    nothing comes to mind.
    """
    count = int(random.integers(1, min(most, 8)))
    pools = _pools(tuple(things))
    draw = random.random()
    if draw < 0.45:  # numbers, flags, people, signs: things of one sort, told by name or sum
        sort = str(random.choice(SORTS))
        pool = pools.sorts.get(sort, ())
        if len(pool) < 3:
            return None, None
        chosen = [pool[i] for i in random.permutation(len(pool))[: count + 1]]
        if random.random() < MIXED:  # "move the heart to 3"
            pool = pools.sorts.get(str(random.choice(SORTS)), ())
            others = [what for what in pool if what not in chosen]
            some = random.permutation(len(others))[: len(chosen) // 2]
            chosen[len(chosen) - len(some) :] = [others[i] for i in some]
        return (lambda random, chinese: _name(random, chosen[0], chosen, chinese)), chosen
    if not pools.facts:
        return None, None
    fact, true, false = pools.facts[int(random.choice(len(pools.facts), p=pools.shares))]
    first = true[int(random.integers(len(true)))]
    others = [false[i] for i in random.permutation(len(false))[:count]]
    return (lambda random, chinese: _told(random, fact, chinese)), [first, *others]


@dataclass(frozen=True)
class _Pools:
    """What themed pictures of some things are drawn from."""

    sorts: dict[str, tuple[Pictograph, ...]]
    facts: tuple[tuple[knowledge.Fact, tuple[Pictograph, ...], tuple[Pictograph, ...]], ...]
    shares: tuple[float, ...]  # how often each fact is asked for


@cache
def _pools(things: tuple[Pictograph, ...]) -> _Pools:
    sorts: dict[str, list[Pictograph]] = {}
    for what in things:
        sort = "sign" if what.group in ("Symbols", "Smileys & Emotion") else what.subgroup
        sorts.setdefault("keycap" if what.subgroup == "keycap" else sort, []).append(what)
    found = []
    for fact in knowledge.facts():
        true = tuple(what for what in things if what.name in fact.true)
        false = tuple(what for what in things if what.name in fact.false)
        if true and len(false) > 1:
            found.append((fact, true, false))
    # What is true of many things takes more pictures to learn, and pictures drawn by chance rarely
    # show what few things are surely not.
    weights = [min(len(true), 30) ** 0.5 / len(false) ** 0.25 for _, true, false in found]
    return _Pools(
        {sort: tuple(members) for sort, members in sorts.items()}, tuple(found),
        tuple(weight / sum(weights) for weight in weights),
    )  # fmt: skip


def _told(random: np.random.Generator, fact: knowledge.Fact, chinese: bool) -> Called:
    texts = fact.texts_zh if chinese else fact.texts
    return texts[int(random.integers(len(texts)))], fact.said


def _name(
    random: np.random.Generator, what: Pictograph, present: Sequence[Pictograph], chinese: bool
) -> Called:
    """One of its names that nothing else has, with its article; a number also as a sum."""
    number = number_of(what.name)
    if number is not None and random.random() < 0.5:
        return knowledge.sums(random, number, chinese), False
    taken = {text for other in present if other is not what for text in _meant(other, chinese)}
    known = [text for text in names(what, chinese) if text not in taken] or [what.name]
    text = known[int(random.integers(len(known)))]
    bare = chinese or random.random() < (0.5 if number is not None else 0.1)
    return text if bare else f"the {text}", False


@cache
def _meant(what: Pictograph, chinese: bool) -> frozenset[str]:
    """All that may mean it: its names, and what is true of it ("heart" of a blue one)."""
    facts = knowledge.facts_of(what.name)
    told = [text for fact in facts for text in (fact.texts_zh if chinese else fact.texts)]
    return frozenset((*names(what, chinese), *(text.removeprefix("the ") for text in told)))


def _describe(
    random: np.random.Generator, what: Pictograph, present: Sequence[Pictograph], chinese: bool
) -> Called | None:
    """A description that tells it from everything else in the picture; None where none does."""
    among = [p.name for p in present]
    known = [fact for fact in knowledge.facts_of(what.name) if fact.tells(what.name, among)]
    if known and (chinese or random.random() < 0.75):
        return _told(random, known[int(random.integers(len(known)))], chinese)
    if chinese:
        return None
    # A word that Unicode files this thing, and nothing else in the picture, under.
    others = {w for p in present if p is not what for w in _words_of(p)}
    left = [KEYWORD.format(word) for word in what.keywords if word not in others]
    left = [text for text in left if text not in knowledge.texts()]  # a colour says more
    return (str(random.choice(left)), False) if left else None


@cache
def _words_of(what: Pictograph) -> frozenset[str]:
    """Every word that may mean it: of Unicode, and of what is known of it."""
    told = (*what.keywords, what.name, what.subgroup.replace("-", " "), *_meant(what, False))
    return frozenset((*what.keywords, *(word for text in told for word in text.split())))


def where_query(
    random: np.random.Generator, thing: Thing, present: Sequence[Pictograph],
    described: float = 0.45,
) -> Query:  # fmt: skip
    """Where a thing is, asked so that nothing else answers; "umbrella 131 87".

    present: everything in the picture. described: share of questions that do not say its name.
    """
    what, chinese = by_name(thing.name), random.random() < CHINESE
    called = None
    if random.random() < described:
        called = _describe(random, what, present, chinese)
    return _where(random, thing, called or _name(random, what, present, chinese), chinese)


def _where(random: np.random.Generator, thing: Thing, called: Called, chinese: bool) -> Query:
    text, said = called
    if said:
        template = SAID_ZH if chinese else SAID
    else:
        template = str(random.choice(WHERE_ZH if chinese else WHERE))
    answer = f"{thing.name} {thing.u} {thing.v}"
    return Query(question_prompt(template.format(text)), answer, "web", thing.name, text)


def look(
    random: np.random.Generator, placed: Sequence[tuple[Pictograph, Thing]],
    theme: Theme | None = None,
) -> Query:  # fmt: skip
    """What a robot sees of what it is told about: "Plan: red heart 98 200 pear 131 87", and then
    whatever, which is not asked for.

    Without this a policy that read plans of demonstrations alone finds nothing but their things
    where a robot is told something. It is told to look; the demonstrations' own words stand only
    where a sign, a flag or a person is to be moved, which no suite asks for.

    theme: calls the first of the things, which then is one that the robot is told about.
    """
    from rt2_ros.sim.tasks import PUSHES, Task

    chinese = random.random() < CHINESE
    present = [what for what, _ in placed]
    order = [placed[i] for i in random.permutation(len(placed))[: int(random.integers(1, 3))]]
    if theme is not None and placed[0] not in order:
        order[0] = placed[0]
    order.sort(key=lambda one: one[0].name in _movable())
    demonstrated = order[0][0].name not in _movable() and random.random() < 0.7
    if demonstrated:
        kinds = Task.PLACING if len(order) == 2 else ("pick", *PUSHES)
        phrase = split.phrase(random, str(random.choice(kinds)), chinese)
    else:
        order = [order[i] for i in random.permutation(len(order))]
        one, two = (LOOK_ZH, LOOK_TWO_ZH) if chinese else (LOOK, LOOK_TWO)
        phrase = str(random.choice(two if len(order) == 2 else one))
    words, seen = {"object": "", "target": ""}, []
    for (what, thing), part in zip(order, ("object", "target"), strict=False):
        called = None
        if theme is not None and thing is placed[0][1]:
            called = theme(random, chinese)
        elif random.random() < 0.3:
            called = _describe(random, what, present, chinese)
        if called is None or called[1] or (demonstrated and _tells_movable(called[0])):
            called = _name(random, what, present, chinese)  # no sentences; no suite's request
        words[part] = called[0].removeprefix("the ")
        seen.append(f"{what.name} {thing.u} {thing.v}")
        bare = called[0].startswith(WITHOUT_ARTICLE)
        number = number_of(what.name) is not None
        if bare or (number and random.random() < 0.5):  # "to 3"
            phrase = phrase.replace(f"the {{{part}}}", f"{{{part}}}")
    phrase, words = split.mistyped(random, phrase, words)
    mentions = [(what.name, text) for (what, _), text in zip(order, words.values(), strict=False)]
    first, second = (*mentions, ("", ""))[:2]
    rest = [what for what, _ in placed if what.name not in (first[0], second[0])]
    told = phrase.format(**words)
    hand = [*random.integers(0, 256, 2), random.integers(10, 200), random.choice([0, 2, 95, 255])]
    answer, told = f"{PLAN} {' '.join(seen)}", words_around(random, told, rest)
    recalled = ""
    if random.random() < RECALLED:
        things = [thing for _, thing in order]
        recalled = recall_picture(random, things, [thing for _, thing in placed])
    prompt = action_prompt(told, hand, recalled)
    return Query(prompt, answer, "web", *first, second=second, ends=False)


@cache
def _tells_movable(text: str) -> bool:
    """Whether a description may mean what a suite asks a robot to move ("the one not red")."""
    told = [fact for fact in knowledge.facts() if text in (*fact.texts, *fact.texts_zh)]
    return any(name in _movable() for fact in told for name in fact.true)


@cache
def _movable() -> frozenset[str]:
    """What demonstrations or suites ask a robot to move."""
    return frozenset((*ROBOT_NAMES, *unseen_names(alike=True), *unseen_names(alike=False)))


def _ask(
    random: np.random.Generator,
    placed: Sequence[tuple[Pictograph, Thing]],
    target: tuple[Pictograph, Thing],
) -> Query:
    """One question about `target`, asked so that nothing else in the picture answers it."""
    what, thing = target
    present = [other for other, _ in placed]
    draw = random.random()
    if draw < 0.68:
        return where_query(random, thing, present)
    if draw < 0.76:
        question = NEAR_WHAT.format(_name(random, what, present, False)[0])
        return Query(question_prompt(question), _near(placed, thing), "web")
    chinese = random.random() < CHINESE
    name = call(random, what)
    if draw < 0.86:
        question = (WHAT_AT_ZH if chinese else WHAT_AT).format(thing.u, thing.v)
        answer = names(what, chinese)[0] if chinese else what.name
    elif draw < 0.90:
        question, answer = KIND.format(name), _kind(what)
    elif draw < 0.93 and (facts := _stated(what)):
        question, answer = facts[int(random.integers(len(facts)))]
        question = question.format(name)
    elif draw < 0.97:
        there = random.random() < 0.5
        if not there:
            absent = web_pictographs()
            taken = {text for other in present for text in _meant(other, False)}
            while name in taken:
                name = call(random, absent[int(random.integers(len(absent)))])
        question, answer = YES_NO.format(name), "yes" if there else "no"
    else:
        question, answer = COUNT_ZH if chinese else COUNT, str(len(placed))
    return Query(question_prompt(question), answer, "web")


def _near(placed: Sequence[tuple[Pictograph, Thing]], thing: Thing) -> str:
    """What is near a thing, as plans tell it: "bus 60 91 kite 140 70", from left to right."""
    away = {
        (other.u, other.v, other.name): (other.u - thing.u) ** 2 + (other.v - thing.v) ** 2
        for _, other in placed
        if other is not thing
    }
    near = sorted((one for one in away if away[one] < NEAR_BINS**2), key=lambda one: away[one])
    return " ".join(f"{name} {u} {v}" for u, v, name in sorted(near[:MOST_NEAR])) or NOTHING


def _kind(what: Pictograph) -> str:
    kinds = [fact for fact in knowledge.kinds() if what.name in fact.true]
    return kinds[0].texts[0].removeprefix("the ") if kinds else what.subgroup.replace("-", " ")


@cache
def _stated(what: Pictograph) -> tuple[tuple[str, str], ...]:
    """Questions about a thing that need no picture, with their answers."""
    found = [(COLOUR, colour) for colour in knowledge.colours_of(what.name)]
    found += [(USE, use) for use in knowledge.uses_of(what.name)]
    return tuple(found)


def call(random: np.random.Generator, what: Pictograph) -> str:
    """What a person might call it in English: its name, or another word for it."""
    known = names(what)
    if known[0] == what.name and len(known) > 1 and random.random() < 0.5:
        return what.name
    return known[int(random.integers(len(known)))]
