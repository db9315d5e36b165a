# SPDX-License-Identifier: Apache-2.0
"""What belongs to robot demonstrations, to the web set and to tests; nothing belongs to two."""

import numpy as np
import pytest

from rt2_ros.actions import action_prompt
from rt2_ros.data import knowledge, split, web
from rt2_ros.data.pictographs import by_name
from rt2_ros.data.robot import RobotSource, request
from rt2_ros.data.states import StateSource
from rt2_ros.data.web import web_frame
from rt2_ros.evaluation.suites import load_suite, misspell, suite_names
from rt2_ros.models.tiny import build_processor
from rt2_ros.sim.tasks import Task, parse_task

# Words that a suite's phrasing stands on where it names things by `{object}` and the like.
FILLED = {"object": "banana", "target": "key", "other": "cake"}


def test_demonstrations_cover_at_most_a_quarter_of_what_web_pictures_show():
    web = {p.name for p in split.web_pictographs()}
    assert set(split.ROBOT_NAMES) <= web
    assert len(split.ROBOT_NAMES) <= len(web) / 4


def test_signs_flags_and_people_are_cards_and_no_objects():
    objects = {*split.unseen_names(alike=True), *split.unseen_names(alike=False)}
    assert not objects & {*split.SIGNS, *split.PEOPLE, *split.ROBOT_NAMES}
    assert not any(name.startswith("flag of") for name in objects)
    assert not set(split.unseen_names(alike=True)) & set(split.unseen_names(alike=False))


def test_everything_that_suites_name_is_shown_by_web_pictures():
    web = {p.name for p in split.web_pictographs()}
    for suite in map(load_suite, suite_names()):
        for cell in suite.cells:
            for seed in range(20):
                names = {placement.name for placement in cell.scenario(seed).layout}
                assert names <= web, (cell.title, names - web)


def test_emergent_cards_and_words_are_in_no_demonstration():
    """Its templates may be the demonstrations' own; what fills them never is."""
    emergent = load_suite("emergent")
    random = np.random.default_rng(0)
    source = RobotSource(table=None)
    shown, told = set(), set()
    for _ in range(15):
        demo = source.draw(random, render=False)
        shown |= set(demo.places)
        told.add(source.instruct(random, demo, demo.task).prompt)
    told |= {q.prompt for _ in range(200) for q in StateSource()(random).queries}
    assert shown <= set(split.ROBOT_NAMES)
    for cell in emergent.cells:
        for seed in range(40):
            scenario = cell.scenario(seed)
            if scenario.task.target:
                assert scenario.task.target not in split.ROBOT_NAMES
            assert not any(f" {scenario.instruction}?" in prompt for prompt in told)


def test_web_questions_never_ask_in_the_words_of_a_suite():
    random = np.random.default_rng(1)
    asked = set()
    for _ in range(400):
        asked |= {q.prompt for q in web_frame(random, split.web_pictographs(), looks=4).queries}
    assert any(" State: " in prompt for prompt in asked)
    told = {prompt.split(" State: ")[0] for prompt in asked}
    for suite in map(load_suite, suite_names()):
        for cell in suite.cells:
            for seed in range(30):
                instruction = cell.scenario(seed).instruction
                assert action_prompt(instruction).removesuffix(" A:") not in told


def requests():
    """All phrases that suites ask by."""
    return {
        phrase
        for suite in map(load_suite, suite_names())
        for cell in suite.cells
        for case in cell.cases
        for phrase in case.phrases
    }


def test_descriptions_in_a_demonstrations_words_are_no_suites_request():
    """Where a sign is to be moved, web pictures tell so in these words: "push the heart left"."""
    asked = {phrase for phrase in requests() if "{" not in phrase}
    phrases = {
        phrase
        for of in (split.ROBOT_PHRASES, split.OTHER_PHRASES, split.ROBOT_PHRASES_ZH,
                   split.OTHER_PHRASES_ZH)
        for phrase in sum(of.values(), ())
        if "{object}" in phrase and "{target}" not in phrase
    }  # fmt: skip
    texts = {
        text
        for fact in knowledge.facts()
        for text in (*fact.texts, *fact.texts_zh)
        if {*fact.true} & {*split.SIGNS}
    }

    def told(texts):
        bare = {text.removeprefix("the ") for text in texts}
        said = {phrase.format(object=text) for phrase in phrases for text in bare}
        short = {phrase.replace("the {object}", "{object}") for phrase in phrases}
        return said | {phrase.format(object=text) for phrase in short for text in texts}

    assert told(texts) & asked  # some would be
    assert not told({text for text in texts if not web._tells_movable(text)}) & asked


def test_a_fifth_of_what_a_robot_is_told_stands_among_words_that_no_suite_has():
    random = np.random.default_rng(0)
    said = [split.words_around(random, "pick up the key") for _ in range(2000)]
    among = {around.format("pick up the key") for around in split.AROUND}
    assert 340 < sum(text in among for text in said) < 460
    assert among <= {*said}
    told = {
        around.format(phrase)
        for arounds, phrases in (
            (split.AROUND, split.ROBOT_PHRASES), (split.AROUND_ZH, split.ROBOT_PHRASES_ZH)
        )
        for around in arounds
        for phrase in (phrase for of_kind in phrases.values() for phrase in of_kind)
    }  # fmt: skip
    told |= {phrase for of_kind in (*split.OTHER_PHRASES.values(), *split.OTHER_PHRASES_ZH.values())
             for phrase in of_kind}  # fmt: skip
    asked = requests() - {
        p for of in (split.ROBOT_PHRASES, split.ROBOT_PHRASES_ZH) for p in sum(of.values(), ())
    }
    assert len(told) > 800 and not told & asked


@pytest.mark.parametrize("told", ["pick up the key", "拿起钥匙"])
def test_an_eighth_stands_among_words_that_are_none(told):
    random = np.random.default_rng(0)
    chinese = not told.isascii()
    known = {around.format(told) for around in (split.AROUND_ZH if chinese else split.AROUND)}
    said = [split.words_around(random, told) for _ in range(3000)]
    strange = [text for text in said if text not in known and text != told]
    assert 0.10 < len(strange) / len(said) < 0.14
    assert all(told in text and text != told for text in strange)
    assert len({*strange}) > 0.95 * len(strange)
    ends = [(text.startswith(told), text.endswith(told)) for text in strange]
    for before_behind_both in ((False, True), (True, False), (False, False)):
        assert ends.count(before_behind_both) > 0.25 * len(ends)
    vocabulary = build_processor().tokenizer.get_vocab()
    words = [word for text in strange for word in text.replace(told, " ").split()]
    if not chinese:
        assert sum(word.strip(",") in vocabulary for word in words) < 0.1 * len(words)


def test_every_word_that_the_tokenizer_has_of_its_own_stands_in_some_prompt_or_name():
    """A word that nothing has taught would be told from any other by chance."""
    vocabulary = build_processor().tokenizer.get_vocab()
    for word in ("please", "thank", "kindly", "sorry", "{}", "{}?"):
        assert word not in vocabulary


def test_a_twelfth_of_english_requests_has_typos_and_they_are_none_of_the_suites():
    random = np.random.default_rng(0)
    phrase, called = "pick up the {object} and put it", {"object": "red apple"}
    right = (phrase, called)
    said = [split.mistyped(random, phrase, called) for _ in range(6000)]
    wrong = [one for one in said if one != right]
    assert 0.065 < len(wrong) / len(said) < 0.095
    right_letters = {*phrase.format(**called)}
    for text, names in wrong:
        assert "{object}" in text and [*names] == ["object"]
        typed = text.format(**names)
        # A letter that its word has not; the suites' typos swap, drop or double those it has.
        assert len(typed) >= len(phrase.format(**called))
        pairs = zip(typed.split(), phrase.format(**called).split(), strict=True)
        changed = [(now, was) for now, was in pairs if now != was]
        assert changed and all({*now} - {*was} and len(was) > 3 for now, was in changed)
        assert all(now[0] == was[0] for now, was in changed)
    assert any({*text.format(**names)} - right_letters for text, names in wrong)
    assert {split.mistyped(random, "拿起{object}", {"object": "苹果"})[0] for _ in range(300)} == {
        "拿起{object}"
    }
    for _ in range(300):
        typed = misspell(random, phrase.format(**called), 2)
        pairs = zip(typed.split(), phrase.format(**called).split(), strict=True)
        assert all({*now} <= {*was} for now, was in pairs)


def test_a_thing_that_is_mistyped_is_still_the_one_that_is_meant():
    random, found = np.random.default_rng(0), 0
    for _ in range(1000):
        text, mentions = request(random, Task("on", "umbrella", "octopus"), typos=True)
        assert [name for name, _ in mentions] == ["umbrella", "octopus"]
        assert all(called in text for _, called in mentions)
        found += text.isascii() and any(name != called for name, called in mentions)
    assert 20 < found < 100


@pytest.mark.parametrize("told", ["pick up the key", "拿起钥匙"])
def test_some_requests_name_a_thing_that_is_not_meant_in_words_that_no_suite_has(told):
    random, others = np.random.default_rng(0), [by_name("cup with straw"), by_name("banana")]
    said = [split.words_around(random, told, others) for _ in range(3000)]
    names = ("cup with straw", "banana") if told.isascii() else ("带吸管杯", "香蕉")
    sparing = [text for text in said if any(name in text for name in names)]
    assert 0.045 < len(sparing) / len(said) < 0.075 and all(told in text for text in sparing)
    wrappers = split.SPARING if told.isascii() else split.SPARING_ZH
    assert len(set(sparing)) == len(wrappers) * len(names)
    phrases = [
        p for cell in load_suite("instructions").cells for c in cell.cases for p in c.phrases
    ]
    asked = {p.format(object="key", other="cup", target="banana") for p in phrases}
    taught = {
        wrapper.format(told=phrase.format(object="key", target="banana"), other="cup")
        for wrapper in (*split.SPARING, *split.SPARING_ZH)
        for of in (split.ROBOT_PHRASES, split.OTHER_PHRASES, split.ROBOT_PHRASES_ZH)
        for phrase in sum(of.values(), ())
    }
    assert not taught & asked


def test_a_quarter_of_requests_is_put_in_other_words_and_paraphrases_in_verbs_of_neither():
    random = np.random.default_rng(0)
    for kind in split.ROBOT_PHRASES:
        for chinese, few, others in (
            (False, split.ROBOT_PHRASES, split.OTHER_PHRASES),
            (True, split.ROBOT_PHRASES_ZH, split.OTHER_PHRASES_ZH),
        ):
            said = [split.phrase(random, kind, chinese) for _ in range(600)]
            assert {*said} == {*few[kind], *others[kind]} and not {*few[kind]} & {*others[kind]}
            assert 0.19 < sum(text in others[kind] for text in said) / len(said) < 0.31
            parts = {text.count("{object}") + text.count("{target}") for text in others[kind]}
            assert parts == {text.count("{object}") + text.count("{target}") for text in few[kind]}
    taught = {*" ".join(p for of in split.OTHER_PHRASES.values() for p in of).split()}
    taught |= {*" ".join(p for of in split.ROBOT_PHRASES.values() for p in of).split()}
    tested = {"fetch", "hand", "lifted", "raise", "set", "beside", "stack", "belongs", "slide",
              "shove", "towards", "apart", "spread", "shut", "press", "like", "want"}  # fmt: skip
    cell = load_suite("instructions").cell("paraphrases")
    phrases = [phrase for case in cell.cases for phrase in case.phrases]
    assert all(tested & {*phrase.split()} or "off the" in phrase for phrase in phrases), phrases
    assert taught & tested == {"hand"}  # of "open the hand" and "your hand", not of "hand me"


@pytest.mark.parametrize("kind", split.ROBOT_PHRASES)
def test_every_phrasing_is_understood_as_its_kind_of_task(kind):
    for phrases in (split.ROBOT_PHRASES, split.ROBOT_PHRASES_ZH):
        for phrase in phrases[kind]:
            words = {key: by_name(name) for key, name in FILLED.items() if key != "other"}
            chinese = not phrase.isascii()
            said = {key: p.name_zh if chinese else p.name for key, p in words.items()}
            task = parse_task(phrase.format(**said), split.object_name)
            assert task.kind == kind
            assert task.object == ("banana" if "{object}" in phrase else "")
            assert task.target == ("key" if "{target}" in phrase else "")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("apple", "red apple"), ("Red Apple", "red apple"), ("香蕉", "banana"),
        ("3", "keycap three"),
        ("number 7", "keycap seven"), ("seven", "keycap seven"), ("数字3", "keycap three"),
        ("french flag", "flag of france"), ("flag of France", "flag of france"),
        ("法国国旗", "flag of france"), ("heart", "red heart"), ("消防员", "firefighter"),
        ("can", "canned food"), ("pig", "pig"),
    ],
)  # fmt: skip
def test_people_may_call_a_thing_by_any_of_its_names(words, name):
    assert split.object_name(words) == name


def test_no_demonstration_calls_a_thing_as_an_unseen_one_is_called():
    unseen = {name for alike in (True, False) for name in split.unseen_names(alike=alike)}
    called = {n for name in split.ROBOT_NAMES for n in split.names(by_name(name))}
    assert not unseen & called


def test_the_digest_tells_splits_apart(monkeypatch):
    before = split.digest()
    monkeypatch.setattr(split, "ROBOT_NAMES", split.ROBOT_NAMES[:-1])
    assert split.digest() != before
    monkeypatch.undo()
    phrases = {**split.ROBOT_PHRASES, "open": ("open sesame",)}
    monkeypatch.setattr(split, "ROBOT_PHRASES", phrases)
    assert split.digest() != before
    monkeypatch.undo()
    assert split.digest() == before


def test_training_and_test_seeds_never_meet():
    assert split.TEST_SEEDS.stop <= split.TRAIN_SEEDS.start
