# SPDX-License-Identifier: Apache-2.0
"""What is remembered of an attempt: guesses that change nothing, and a plan that is kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rt2_ros.actions import PlanForm
from rt2_ros.data.pictographs import by_name
from rt2_ros.data.plans import plan_form
from rt2_ros.data.web import web_frame
from rt2_ros.models.constrain import Held, Step
from rt2_ros.models.decode import Answer
from rt2_ros.models.row import Prompt
from rt2_ros.policies import Observation, load_policy, memory, vlm


def look(seed, episode="a", instruction="pick up the banana"):
    things = [by_name(name) for name in ("banana", "pear", "red apple")]
    image = web_frame(np.random.default_rng(seed), things, most=3).image
    state = np.array([0.4 + 0.03 * (seed % 8), 0.1, 0.2 - 0.02 * (seed % 8), 0.0])
    return Observation({"scene": image}, instruction, state, 0, episode)


def lasting(policy, decisions):
    """What lasts in the plan of each, token by token."""
    grammar, found = policy._grammar, []
    for decision in decisions:
        ids = grammar.encode(decision.bins, decision.plan)
        places = sorted(grammar.lasting(ids)[0].values())
        found.append([grammar.vocabulary.text([ids[place]]) for place in places])
    return found


def test_the_past_makes_a_decision_faster_not_another():
    policy, slow, reference = (load_policy("rt2-tiny", threads=1) for _ in range(3))
    taken, texts = [], []
    for seed in (*[0] * 8, 1, 2, 3, 4, 5):
        seen = look(seed)
        before = policy.forwards, slow.forwards
        found, expected = policy.infer(seen), slow.infer_without_guesses(seen)
        assert found.text == expected.text == reference.infer_by_generate(seen).text
        np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-4)
        taken.append((policy.forwards - before[0], slow.forwards - before[1]))
        texts.append(found.text)
    assert taken[0][0] == taken[0][1]
    guessed = [n for n in range(1, 8) if texts[n] in texts[max(0, n - memory.GUESSES) : n]]
    assert guessed and all(taken[n][0] < taken[n][1] for n in guessed)
    assert all(taken[n][0] == 1 for n in guessed if texts[n] == texts[n - 1])


def test_a_plan_is_kept_for_as_many_decisions_as_were_asked_for():
    policy = load_policy("rt2-tiny", threads=1, plan_every=3)
    first = policy.infer(look(0, episode="fresh")).plan
    others = (4, 5, 6, 7, 1, 2)
    written = [policy.infer(look(seed)).plan for seed in (0, *others)]
    assert written[:3] == [first] * 3
    assert written[3] == written[4] == written[5] not in (first, written[6])


def test_the_next_prompt_reminds_of_what_the_plan_said_is_seen(monkeypatch):
    policy = load_policy("rt2-tiny", threads=1)
    asked = []
    prepare = policy._prepare
    monkeypatch.setattr(
        policy, "_prepare", lambda i, prompt: asked.append(prompt) or prepare(i, prompt)
    )
    plans = [policy.infer(look(seed)).plan for seed in (0, 1)]
    policy.infer(look(2))
    policy.infer(look(3, instruction="pick up the pear"))
    seen = [plan_form().recalled(plan) for plan in plans]
    assert all(" at " in part for part in seen)
    reminded = [prompt.partition(" Plan: ")[2] for prompt in asked]
    assert reminded == ["", f"{seen[0]}. A:", f"{seen[1]}. A:", ""]


@pytest.mark.parametrize("second", [0, 1], ids=["not done", "done"])
@pytest.mark.parametrize("infer", ["infer", "infer_by_generate"])
def test_done_counts_where_a_look_without_the_reminder_says_so_too(monkeypatch, infer, second):
    """Every answer is that of a model that is done; a second one says what it is told to."""
    policy = load_policy("rt2-tiny", threads=1, plan_every=3)
    told = policy.infer(look(0))  # a plan to be reminded of
    grammar, asked, kept = policy._grammar, [], []
    ends = [grammar.encode([end, *told.bins[1:]], told.plan) for end in (second, 1)]

    def answer(prompt):
        text = policy._processor.tokenizer.decode(prompt.inputs["input_ids"][0])
        asked.append("Plan:" in text)
        kept.append(bool(prompt.begin))
        return [Step(i, torch.tensor([i]), torch.ones(1)) for i in ends[asked[-1]]]

    def decode(prompts, grammar, smoothing):
        return [Answer(answer(prompt), {"decode": 1.0}) for prompt in prompts]

    prompt = policy._memory.prompt
    prompts = []
    monkeypatch.setattr(
        policy._memory, "prompt", lambda *a, **k: prompts.append(prompt(*a, **k)) or prompts[-1]
    )
    monkeypatch.setattr(policy, "_decode", decode)
    monkeypatch.setattr(vlm, "generate", lambda *a, **k: answer(prompts[-1]))
    decision = getattr(policy, infer)(look(1))
    assert asked == [True, False] and kept == [True, False]
    assert decision.action.terminate == bool(second)
    if infer == "infer":
        assert decision.latency["decode"] == 2.0
    assert policy._memory.recalled(look(1)) == plan_form().recalled(told.plan)

    asked.clear()
    fresh = getattr(policy, infer)(look(2, episode="b"))  # not reminded of anything: believed
    assert asked == [False] and fresh.action.terminate == bool(second)


def test_a_kept_plan_is_of_its_own_episode_and_instruction():
    policy = load_policy("rt2-tiny", threads=1, plan_every=10)
    first = policy.infer(look(0)).plan
    fresh = load_policy("rt2-tiny", threads=1)
    for other in (look(6, episode="b"), look(6, instruction="pick up the red apple")):
        assert policy.infer(other).plan == fresh.infer(other).plan != first
    assert policy.infer(look(6)).plan == first


@pytest.mark.parametrize("infer", ["infer", "together"])
def test_of_what_is_of_no_episode_nothing_is_remembered(infer):
    """Two robots that share a model would act on what the other saw."""
    seen = [look(seed, episode="") for seed in (0, 6)]
    policy = load_policy("rt2-tiny", threads=1, plan_every=10)
    found = policy.infer_batch(seen) if infer == "together" else [policy.infer(s) for s in seen]
    fresh = [load_policy("rt2-tiny", threads=1).infer(s) for s in seen]
    assert [d.text for d in found] == [d.text for d in fresh]
    assert found[0].plan != found[1].plan
    assert policy._memory.last(seen[0]) is None


def test_what_follows_a_kept_plan_is_what_the_model_would_write_after_it():
    policy, slow, reference = (load_policy("rt2-tiny", threads=1, plan_every=3) for _ in range(3))
    plans = []
    for seed in (0, 4, 5, 6, 7):
        seen = look(seed)
        found, expected = policy.infer(seen), reference.infer_by_generate(seen)
        assert found.text == expected.text == slow.infer_without_guesses(seen).text
        assert found.confidence == pytest.approx(expected.confidence, abs=1e-4)
        plans.append(found.plan)
    assert plans[0] == plans[1] == plans[2] != plans[3] == plans[4]


def test_a_plan_that_is_kept_is_as_sure_as_when_it_was_made(monkeypatch):
    monkeypatch.setattr(memory.AnswerMemory, "recalled", lambda *_: "")  # the very same question
    policy = load_policy("rt2-tiny", threads=1, plan_every=3)
    first, second, third = (policy.infer(look(2)) for _ in range(3))
    assert first.text == second.text == third.text and first.confidence < 0.95
    assert second.confidence == pytest.approx(first.confidence, abs=1e-4)
    assert third.confidence == pytest.approx(first.confidence, abs=1e-4)


def test_only_so_many_attempts_are_remembered(monkeypatch):
    monkeypatch.setattr(memory, "MOST_ATTEMPTS", 2)
    policy = load_policy("rt2-tiny", threads=1, plan_every=10)
    first = policy.infer(look(0, episode="a")).plan
    policy.infer(look(1, episode="b"))
    assert policy.infer(look(2, episode="a")).plan == first  # used just now: b is the oldest
    policy.infer(look(2, episode="c"))
    assert policy.infer(look(6, episode="a")).plan == first
    fresh = load_policy("rt2-tiny", threads=1).infer(look(6)).plan
    assert policy.infer(look(6, episode="b")).plan == fresh


def test_what_lasts_stays_as_it_was_first_seen_until_it_is_looked_for_anew():
    policy, reference = (load_policy("rt2-tiny", threads=1, look_every=3) for _ in range(2))
    decisions = []
    for seed in range(7):
        seen = look(seed, instruction="move the banana near the pear")
        decisions.append(policy.infer(seen))
        other = reference.infer_by_generate(seen)
        assert other.text == decisions[-1].text
        assert other.confidence == pytest.approx(decisions[-1].confidence, abs=1e-4)
    lasts = lasting(policy, decisions)
    assert {"banana", "pear"} <= set(lasts[0])
    assert lasts[0] == lasts[1] == lasts[2] != lasts[3] == lasts[4] == lasts[5]
    assert decisions[0].plan != decisions[1].plan  # all else is as it is seen
    # What was chosen before is as sure as it was: a look of its own is not taken for granted.
    alone = load_policy("rt2-tiny", threads=1, look_every=1)
    assert alone.infer(look(0, instruction="move the banana near the pear")).confidence == (
        pytest.approx(decisions[0].confidence, abs=1e-4)
    )
    assert all(decision.confidence < 0.999 for decision in decisions)


def test_what_lasts_does_so_for_as_long_at_any_rate():
    """Three decisions of a quarter of a second each: seven at 10 Hz, two at 3 Hz."""
    instruction = "move the banana near the pear"
    for period, same in ((0.25, 3), (0.1, 7), (0.35, 2)):
        policy = load_policy("rt2-tiny", threads=1, look_every=3)
        seen = [
            replace(look(n, instruction=instruction), stamp_ns=round((10 + n * period) * 1e9))
            for n in range(same + 1)
        ]
        lasts = lasting(policy, [policy.infer(each) for each in seen])
        assert all(last == lasts[0] for last in lasts[:same]) and lasts[same] != lasts[0]


def test_what_lasts_is_looked_for_anew_although_a_plan_is_still_good():
    policy, reference = (
        load_policy("rt2-tiny", threads=1, plan_every=2, look_every=3) for _ in range(2)
    )
    decisions = []
    for seed in range(7):
        seen = look(seed, instruction="put the banana on the red apple")
        decisions.append(policy.infer(seen))
        assert decisions[-1].plan.split()[-1] != "done"  # which is looked at twice, and not kept
        assert reference.infer_by_generate(seen).plan == decisions[-1].plan
    lasts, plans = lasting(policy, decisions), [decision.plan for decision in decisions]
    assert lasts[0] == lasts[1] == lasts[2] != lasts[3] == lasts[4] == lasts[5] != lasts[6]
    assert plans[0] == plans[1] != plans[2] != plans[3] == plans[4] != plans[5]


@pytest.mark.parametrize("settings", [{"look_every": 9}, {"plan_every": 9}, {}])
def test_what_was_seen_too_long_ago_is_forgotten(settings):
    """Against a policy that begins anew there; guesses stay, and change nothing."""
    policy, reference = (load_policy("rt2-tiny", threads=1, **settings) for _ in range(2))

    def seen(seed, seconds, episode="a"):
        instruction = "move the banana near the pear"
        return replace(look(seed, episode, instruction), stamp_ns=round(seconds * 1e9))

    def same(found, expected):
        assert found.text == expected.text
        assert found.confidence == pytest.approx(expected.confidence, abs=1e-4)

    before = policy.infer(seen(0, 10.0))
    same(before, reference.infer_by_generate(seen(0, 10.0)))
    for episode, seconds in (("b", 12.0), ("c", 11.9)):  # 2 s later; 0.1 s before that
        forwards = policy.forwards
        found = policy.infer(seen(4, seconds))
        same(found, reference.infer_by_generate(seen(4, seconds, episode)))
        assert found.plan != before.plan
        if seconds == 12.0:
            same(reference.infer_by_generate(seen(4, seconds)), found)
        assert policy.forwards > forwards
    kept = policy.infer(seen(5, 13.8))  # 1.9 s after the last one
    same(kept, reference.infer_by_generate(seen(5, 13.8, "c")))
    if settings:
        assert lasting(policy, [kept]) == lasting(policy, [found])


def test_a_thing_that_lasts_does_not_become_one_with_a_longer_name():
    policy = load_policy("rt2-tiny", threads=1)
    grammar, seen = policy._grammar, look(0)
    plan = "cat 38 109 at 161 75 off 124 129 take over"
    ids, other = (grammar.encode([0] * 8, text) for text in (plan, plan.replace("cat", "cat face")))
    remembered = memory.AnswerMemory(grammar, form=plan_form(), look_every=3)
    steps = [Step(token, torch.tensor([token]), torch.ones(1)) for token in ids]
    remembered.note(seen, Prompt({}), steps, plan)
    prompt = remembered.prompt(seen, {})
    holding, state = Held(grammar, prompt.held, only=prompt.only), grammar.start()
    for token in ids[:2]:  # "Plan: cat"
        assert token in holding.allowed(state)
        state = holding.advance(state, token)
    assert other[:2] == ids[:2] and other[2] in grammar.allowed(state)
    assert sorted(policy._integers) == holding.allowed(state).tolist()


@pytest.mark.parametrize("name", ["plan_every", "look_every"])
def test_a_plan_that_is_kept_for_no_decision_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}: 0, expected 1 or more"):
        memory.AnswerMemory(load_policy("rt2-tiny")._grammar, **{name: 0})


def test_plans_of_which_nothing_lasts_cannot_be_looked_for_now_and_then():
    grammar = load_policy("rt2-tiny")._grammar
    form = PlanForm("[<thing> # #] <verb>", {"thing": ("key",), "verb": ("take",)})
    for plans in (None, form):
        with pytest.raises(ValueError, match="look_every: 4, expected 1: .* no form that says"):
            memory.AnswerMemory(grammar, form=plans, look_every=4)
