# SPDX-License-Identifier: Apache-2.0
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from rt2_ros.actions import Action
from rt2_ros.policies import Decision, Observation, load_policy, runner
from rt2_ros.policies.runner import FIRST_PICTURE_S, PolicyRunner, State

WAIT = 30.0  # s


class Scripted:
    """A policy of the tests: answers what it is told to, when it is told to."""

    def __init__(self):
        hold = load_policy("hold")
        self.name, self.image_size, self.action_space = "scripted", 8, hold.action_space
        self.seen, self.turns = [], []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(1000)
        self.reply = self.move

    def move(self, observation, terminate=False):
        action = Action(terminate, np.array([0.01, 0, 0]), np.zeros(3), 0.0)
        return Decision(action, bins=self.action_space.to_bins(action), plan="go", confidence=0.5)

    def infer(self, observation):
        self.seen.append(observation)
        self.turns.append("decide")
        self.entered.release()
        assert self.gate.acquire(timeout=WAIT)
        return self.reply(observation)

    def answer(self, image, question):
        self.turns.append(question)
        return f"{question} {image.shape[0]}"


class Graph:
    """A runner with lists where publishers would be."""

    def __init__(self, **options):
        self.policy = Scripted()
        self.steps, self.statuses, self.answers = [], [], []
        self.changed = threading.Condition()
        self.clock_ns = 100_000_000_000
        self.runner = PolicyRunner(
            self.policy,
            on_step=lambda step: self.note(self.steps, step),
            on_status=lambda status: self.note(self.statuses, status),
            on_answer=lambda text: self.note(self.answers, text),
            now_ns=lambda: self.clock_ns,
            **{"max_rate": 1e6, "max_observation_age": 30.0, **options},
        )
        self.runner.start()

    def note(self, where, what):
        with self.changed:
            where.append(what)
            self.changed.notify_all()

    def until(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, WAIT), self.statuses

    def look(self, stamp_ns=None):
        image = np.zeros((8, 8, 3), np.uint8)
        stamp = self.clock_ns if stamp_ns is None else stamp_ns
        self.runner.observe(Observation({"scene": image}, "", None, stamp))

    def state(self):
        return self.runner.status.state


@pytest.fixture
def graph():
    graph = Graph()
    yield graph
    graph.policy.gate.release(1000)
    assert graph.runner.stop()


@pytest.fixture
def steady(monkeypatch):
    """The runner's steady clock, to be turned by hand."""
    steady = SimpleNamespace(now=100.0)
    clock = SimpleNamespace(monotonic=lambda: steady.now, perf_counter=time.perf_counter)
    monkeypatch.setattr(runner, "time", clock)
    return steady


def test_nothing_is_inferred_without_an_instruction(graph):
    graph.look()
    graph.runner.ask("how tall?")
    graph.until(lambda: graph.answers)
    assert graph.answers == ["how tall? 8"]
    graph.look()
    assert not graph.policy.entered.acquire(timeout=0.1)
    assert graph.state() == State.IDLE


def test_a_step_carries_the_image_stamp_the_instruction_and_its_index(graph):
    graph.runner.instruct(" pick up the apple\n")
    for index in range(2):
        graph.look(graph.clock_ns - 1000 + index)
        graph.until(lambda n=index: len(graph.steps) == n + 1)

    assert [s.step for s in graph.steps] == [0, 1]
    assert [s.stamp_ns for s in graph.steps] == [graph.clock_ns - 1000, graph.clock_ns - 999]
    assert {s.instruction_id for s in graph.steps} == {1}
    assert graph.policy.seen[0].instruction == "pick up the apple"
    assert (graph.state(), graph.runner.status.decisions) == (State.RUNNING, 2)


def test_a_new_instruction_drops_what_is_in_flight(graph):
    graph.policy.gate = threading.Semaphore(0)
    graph.runner.instruct("pick up the apple")
    graph.look()
    assert graph.policy.entered.acquire(timeout=WAIT)
    graph.runner.instruct("pick up the banana")
    graph.policy.gate.release(2)
    graph.until(lambda: graph.statuses[-1].state == State.HOLDING)
    while not graph.steps:  # the worker frees itself on its own time
        graph.look()
        time.sleep(0.01)

    assert graph.policy.seen[-1].instruction == "pick up the banana"
    (one, first), (other, second) = (graph.policy.seen[i].episode.split() for i in (0, -1))
    assert one == other and (first, second) == ("1", "2")  # nor another runner's of this policy
    assert {s.instruction_id for s in graph.steps} == {2}
    assert graph.steps[0].step == 0


@pytest.mark.parametrize(("waited", "seen"), [(0.02, [-3, -2]), (0.03, [-3, -1])])
def test_an_observation_waits_for_the_worker_a_quarter_of_a_period_at_most(steady, waited, seen):
    """With a camera at 10 Hz a decision of 0.12 s leaves 8 in a second, not 5."""
    graph = Graph()
    graph.policy.gate = threading.Semaphore(0)
    graph.runner.instruct("pick up the apple")
    graph.look(graph.clock_ns - 3)
    assert graph.policy.entered.acquire(timeout=WAIT)
    steady.now += 0.1
    graph.look(graph.clock_ns - 2)
    steady.now += waited
    graph.policy.gate.release(1)
    graph.until(lambda: graph.steps)
    if seen[-1] == -1:
        assert not graph.policy.entered.acquire(timeout=0.1)
        graph.look(graph.clock_ns - 1)
    assert graph.policy.entered.acquire(timeout=WAIT)
    assert [o.stamp_ns - graph.clock_ns for o in graph.policy.seen] == seen
    graph.policy.gate.release(1000)
    assert graph.runner.stop()


@pytest.mark.parametrize("words", ["", "stop"])
def test_an_empty_instruction_stops_and_publishes_nothing_more(graph, words):
    graph.policy.gate = threading.Semaphore(0)
    graph.runner.instruct("pick up the apple")
    graph.look()
    assert graph.policy.entered.acquire(timeout=WAIT)
    graph.runner.instruct(words)
    graph.policy.gate.release(1)
    graph.look()
    assert not graph.policy.entered.acquire(timeout=0.1)
    assert graph.steps == []
    status = graph.runner.status
    assert (status.state, status.instruction, status.reason) == (State.IDLE, "", "stopped")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x" * 10_240, "instruction refused: 10240 characters, at most 1000"),
        ("pick\x07up", "instruction refused: control character U+0007 at position 4"),
    ],
)
def test_a_refused_instruction_stops_the_old_one_and_says_why(graph, text, reason):
    graph.runner.instruct("pick up the apple")
    graph.runner.instruct(text)
    graph.look()
    assert not graph.policy.entered.acquire(timeout=0.1)
    status = graph.statuses[-1]
    assert (status.state, status.instruction, status.reason) == (State.IDLE, "", reason)
    assert status.instruction_id == 2  # the old id is foreign from now on


@pytest.mark.parametrize(
    ("age_s", "reason"),
    [
        (40.0, "the newest observation is 40.0 s old, limit 30 s"),
        (-40.0, "the newest observation is stamped 40.0 s in the future: check the clocks"),
    ],
)
def test_a_stale_observation_holds(graph, age_s, reason):
    graph.runner.instruct("pick up the apple")
    graph.look(graph.clock_ns - int(age_s * 1e9))
    graph.runner.tick()
    assert (graph.state(), graph.runner.status.reason) == (State.HOLDING, reason)
    assert not graph.policy.entered.acquire(timeout=0.1)


def test_a_camera_that_never_came_is_said_once(graph):
    graph.runner.instruct("pick up the apple")
    graph.runner.tick()
    graph.runner.tick()
    assert [s.reason for s in graph.statuses[-2:]] == [
        "waiting for an observation",
        "no observation yet: is the camera running?",
    ]


def test_an_instruction_that_sees_nothing_is_over_and_a_camera_that_is_plugged_in_moves_nothing(
    steady,
):
    graph = Graph()
    graph.runner.instruct("pick up the apple")
    steady.now += FIRST_PICTURE_S - 0.1
    graph.runner.tick()
    assert graph.state() == State.HOLDING
    steady.now += 0.2
    graph.runner.tick()
    assert graph.state() == State.FAULT
    assert graph.runner.status.reason.endswith("give the instruction again")
    graph.look()
    assert not graph.policy.entered.acquire(timeout=0.1)
    graph.runner.instruct("pick up the apple")
    graph.look()
    graph.until(lambda: graph.steps)
    assert graph.runner.stop()


def test_a_policy_that_computes_for_long_is_not_reported_as_well(steady):
    graph = Graph()
    graph.policy.gate = threading.Semaphore(0)
    graph.runner.instruct("pick up the apple")
    graph.look()
    assert graph.policy.entered.acquire(timeout=WAIT)
    for _ in range(4):
        steady.now += 1.0
        graph.look()
        graph.runner.tick()
    assert graph.state() == State.HOLDING
    assert graph.runner.status.reason == "the policy has been computing for 4 s"
    assert len(graph.statuses) == 3  # said once
    graph.policy.gate.release(1000)
    graph.until(lambda: graph.state() == State.RUNNING)
    assert graph.runner.stop()


def test_a_camera_that_stops_while_running_holds_and_goes_on_when_it_is_back(graph):
    graph.runner.instruct("pick up the apple")
    graph.look()
    graph.until(lambda: graph.statuses[-1].state == State.RUNNING)
    graph.clock_ns += 40_000_000_000
    graph.runner.tick()
    assert graph.state() == State.HOLDING
    graph.look()
    graph.until(lambda: graph.statuses[-1].state == State.RUNNING)
    assert [s.step for s in graph.steps] == [0, 1]


def test_observations_that_end_are_stale_even_if_the_clock_stands_still():
    graph = Graph(max_observation_age=0.05)
    graph.runner.instruct("pick up the apple")
    graph.look()
    time.sleep(0.1)
    graph.runner.tick()
    assert graph.state() == State.HOLDING
    assert "limit 0.05 s" in graph.runner.status.reason
    assert graph.runner.stop()


def test_an_invalid_decision_publishes_nothing_and_holds(graph):
    graph.policy.reply = lambda observation: Decision.invalid("7 integers, expected 8")
    graph.runner.instruct("pick up the apple")
    graph.look()
    graph.until(lambda: graph.statuses[-1].invalid)
    status = graph.statuses[-1]
    assert (status.state, status.reason) == (
        State.HOLDING,
        "invalid decision: 7 integers, expected 8",
    )
    assert (graph.steps, status.decisions) == ([], 0)


def test_terminate_is_published_once_and_ends_the_inferring(graph):
    graph.policy.reply = lambda observation: graph.policy.move(observation, terminate=True)
    graph.runner.instruct("pick up the apple")
    graph.look()
    graph.until(lambda: graph.statuses[-1].state == State.DONE)
    assert graph.policy.entered.acquire(timeout=WAIT)
    graph.look()
    graph.runner.tick()
    assert not graph.policy.entered.acquire(timeout=0.1)
    assert [s.decision.action.terminate for s in graph.steps] == [True]

    graph.runner.instruct("pick up the banana")
    graph.look()
    graph.until(lambda: len(graph.steps) == 2)


def test_a_policy_that_raises_is_a_fault_until_the_next_instruction(graph):
    def broken(observation):
        raise RuntimeError("out of\nmemory")

    graph.policy.reply = broken
    graph.runner.instruct("pick up the apple")
    graph.look()
    graph.until(lambda: graph.statuses[-1].state == State.FAULT)
    assert graph.statuses[-1].reason == "the policy raised RuntimeError: out of memory"
    assert graph.policy.entered.acquire(timeout=WAIT)
    graph.look()
    assert not graph.policy.entered.acquire(timeout=0.1)

    graph.policy.reply = graph.policy.move
    graph.runner.instruct("pick up the apple")
    while not graph.steps:
        graph.look()
        time.sleep(0.01)


@pytest.mark.parametrize("what", ["step", "answer", "status"])
def test_what_cannot_be_told_is_a_fault_and_no_end(graph, what):
    """As where the middleware takes no message: the worker must live, and say so."""

    def broken(_):
        raise RuntimeError("cannot publish")

    graph.runner.instruct("pick up the apple")
    whole = getattr(graph.runner, f"_on_{what}")
    setattr(graph.runner, f"_on_{what}", broken)
    graph.runner.ask("how tall?") if what == "answer" else None
    graph.look()
    limit = time.monotonic() + WAIT
    while graph.state() != State.FAULT and time.monotonic() < limit:
        time.sleep(0.01)
    assert graph.runner.status.reason == "not told: RuntimeError: cannot publish"
    setattr(graph.runner, f"_on_{what}", whole)
    graph.runner.instruct("pick up the apple")
    graph.look()
    graph.until(lambda: graph.steps)


def test_a_question_without_a_fresh_image_or_with_bad_words_gets_a_reason(graph):
    graph.runner.ask("what is it?")
    graph.until(lambda: len(graph.answers) == 1)
    graph.runner.ask("what\x1bis it?")
    graph.runner.ask(" ")
    assert graph.answers == [
        "no answer: no observation yet: is the camera running?",
        "no answer: control character U+001B at position 4",
        "no answer: the question is empty",
    ]


def test_questions_that_wait_do_not_keep_the_arm_waiting(graph):
    graph.policy.gate = threading.Semaphore(0)
    graph.runner.instruct("pick up the apple")
    graph.look()
    assert graph.policy.entered.acquire(timeout=WAIT)
    for question in ("one?", "two?", "three?"):
        graph.runner.ask(question)
    graph.policy.gate.release(1000)
    while len(graph.answers) < 3:  # the worker frees itself on its own time
        graph.look()
        time.sleep(0.01)
    assert graph.answers == ["one? 8", "two? 8", "three? 8"]
    assert graph.policy.turns[:6] == ["decide", "one?", "decide", "two?", "decide", "three?"]


def test_a_question_does_not_wait_for_an_observation_that_does_not_come():
    graph = Graph(max_observation_age=0.2)
    graph.runner.instruct("pick up the apple")
    graph.look()
    graph.runner.ask("one?")
    graph.runner.ask("two?")
    started = time.monotonic()
    while len(graph.answers) < 2:
        assert time.monotonic() - started < WAIT
        graph.runner.tick()
        time.sleep(0.01)
    assert "limit 0.2 s" in graph.answers[1]
    assert graph.runner.stop()


def test_questions_are_answered_while_no_decision_is_due():
    graph = Graph(max_rate=0.01)
    graph.runner.instruct("pick up the apple")
    graph.look()
    graph.until(lambda: graph.steps)
    for question in ("one?", "two?", "three?"):
        graph.runner.ask(question)
    graph.until(lambda: len(graph.answers) == 3)
    assert graph.runner.stop()


def test_a_question_too_many_is_told(graph):
    graph.policy.gate = threading.Semaphore(0)
    graph.runner.instruct("pick up the apple")
    graph.look()
    assert graph.policy.entered.acquire(timeout=WAIT)
    for number in range(9):
        graph.runner.ask(f"{number}?")
    assert graph.answers == ["no answer: 8 questions wait already"]
    graph.policy.gate.release(1000)
    graph.runner.instruct("")
    graph.until(lambda: len(graph.answers) == 9)
    assert graph.answers[1:] == [f"{number}? 8" for number in range(8)]


def test_the_rate_is_capped():
    graph = Graph(max_rate=20.0)
    graph.runner.instruct("pick up the apple")
    start = time.monotonic()
    while time.monotonic() - start < 0.5 or len(graph.steps) < 2:
        assert time.monotonic() - start < WAIT
        graph.look()
        time.sleep(0.002)
    count = len(graph.steps)
    assert count <= 1 + 20.0 * (time.monotonic() - start)
    assert graph.runner.stop()
