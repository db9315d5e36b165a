# SPDX-License-Identifier: Apache-2.0
"""Runs a policy on the newest observation in one worker thread, one instruction at a time.

    runner = PolicyRunner(policy, on_step=..., on_status=..., on_answer=..., now_ns=time.time_ns)
    runner.start()
    runner.instruct("pick up the apple")      # instruction_id 1
    runner.observe(observation)               # stores only; the worker infers
    runner.blind("two cameras speak")         # what comes is none of this robot's: HOLDING
    runner.tick()                             # now and then: finds that observations went stale
    runner.instruct("")                       # stops; what is in flight is dropped

Plain Python, so that every rule below is tested without a graph:

- a decision starts with the first observation that arrives while the worker is free, or with one
  that waited a quarter of their interval for it, and no longer: an action belongs to what is seen
  now, and a policy that takes little longer than a camera's period keeps nearly its rate;
- a decision for an instruction that has since been replaced is dropped;
- an invalid decision, or an observation older than the limit, publishes nothing: HOLDING;
- terminate is published once, then nothing more until the next instruction: DONE;
- a policy that raises is FAULT until the next instruction; so is one that sees nothing for some
  seconds before its first decision: nothing moves because somebody plugs a camera in;
- a question is answered between two decisions: one at a time while they are due, so that however
  many are asked, the arm goes on.
"""

from __future__ import annotations

import math
import time
import unicodedata
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import IntEnum
from threading import Condition, RLock, Thread
from uuid import uuid4

from rt2_ros.actions import is_stop
from rt2_ros.policies.base import Decision, Observation, Policy

MAX_INSTRUCTION = 1000  # characters
MOST_QUESTIONS = 8  # that wait for their answer
RAISED = "the policy raised"  # how a fault's reason begins that is the policy's own
RATE_WINDOW_S = 2.0
LONG_S = 2.0  # that a decision takes, from which on the status says so
FIRST_PICTURE_S = 5.0  # for an observation to come, after which an instruction is over
# Share of a period by which a decision may come early, made up for by the next: a camera that runs
# at just the allowed rate would else lose every second picture to its jitter. So much of a camera's
# period a picture may wait for the worker.
EARLY = 0.25


class State(IntEnum):
    """The states of a policy, numbered as in PolicyStatus.msg."""

    UNCONFIGURED = 0
    IDLE = 1
    RUNNING = 2
    HOLDING = 3
    DONE = 4
    FAULT = 5


@dataclass(frozen=True)
class Status:
    """What the policy is doing; field by field as in PolicyStatus.msg, times apart."""

    state: State = State.UNCONFIGURED
    instruction: str = ""
    instruction_id: int = 0
    reason: str = ""
    rate: float = 0.0
    decisions: int = 0
    invalid: int = 0


@dataclass(frozen=True)
class Step:
    """One valid decision, ready to be published.

    step counts the valid decisions of an instruction from 0; inference_s is the policy's own time.
    """

    decision: Decision
    stamp_ns: int
    instruction_id: int
    step: int
    inference_s: float


def refusal(text: str) -> str:
    """Why `text` is no instruction or question, in one line; "" if it is one (or empty)."""
    if len(text) > MAX_INSTRUCTION:
        return f"{len(text)} characters, at most {MAX_INSTRUCTION}"
    for index, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Cs"):
            return f"control character U+{ord(character):04X} at position {index}"
    return ""


class PolicyRunner:
    """The loop from observations to steps. All callbacks come with the runner's lock held.

    now_ns is the clock of the observations' stamps. max_observation_age and the period 1/max_rate
    are in seconds and Hz.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        on_step: Callable[[Step], None],
        on_status: Callable[[Status], None],
        on_answer: Callable[[str], None],
        now_ns: Callable[[], int],
        max_observation_age: float = 0.5,
        max_rate: float = 10.0,
    ) -> None:
        self._policy = policy
        self._on_step, self._on_status, self._on_answer = on_step, on_status, on_answer
        self._now_ns = now_ns
        self._max_age = max_observation_age
        self._period = 1.0 / max_rate
        self._lock = RLock()
        self._wake = Condition(self._lock)
        self._status = Status(State.IDLE)
        self._newest: Observation | None = None
        self._arrived = 0.0  # monotonic time of `_newest`
        self._blind, self._blinded = "", -math.inf  # why none was taken, and when, monotonic
        self._told = 0.0  # and of the instruction
        self._interval = 0.0  # s between the two newest
        self._fresh = False  # whether `_newest` is to be decided upon
        self._waits = False  # whether it arrived while the worker was busy
        self._busy, self._began = False, 0.0  # and since when
        self._due = 0.0  # monotonic time at which max_rate allows the next decision
        self._questions: deque[str] = deque()
        self._answered = False  # whether the worker's last turn was a question
        self._times: deque[float] = deque(maxlen=50)
        self._stopped = False
        self._id = uuid4().hex  # as several may share a policy that remembers
        self._thread = Thread(target=self._work, name="policy", daemon=True)

    @property
    def status(self) -> Status:
        """The present status with the rate of the last seconds."""
        with self._lock:
            return replace(self._status, rate=self._rate())

    def start(self) -> None:
        """Start the worker and publish the first status."""
        self._thread.start()
        with self._lock:
            self._on_status(self.status)

    def stop(self, timeout: float = 10.0) -> bool:
        """End the worker; what it computes now is dropped. False if it did not end in time.

        The policy is let go as the worker ends.
        """
        with self._lock:
            self._stopped = True
            self._wake.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def instruct(self, text: str) -> None:
        """Take a new instruction, "" or "stop" to stop; a refused one stops too, as a change was
        meant.
        """
        text = "" if is_stop(text) else text.strip()
        reason = refusal(text)
        with self._lock:
            if reason:
                state, text, reason = State.IDLE, "", f"instruction refused: {reason}"
            elif not text:
                state, reason = State.IDLE, "stopped"
            else:
                state, reason = State.HOLDING, "waiting for an observation"
            self._times.clear()
            self._told, self._due = time.monotonic(), 0.0
            self._fresh = self._waits = False  # the first too is on what is seen from now on
            self._status = Status(state, text, self._status.instruction_id + 1, reason)
            self._on_status(self.status)
            self._wake.notify_all()

    def observe(self, observation: Observation) -> None:
        """Store the newest observation; the worker is woken if it is free for it."""
        with self._lock:
            now = time.monotonic()
            self._newest, self._arrived, self._interval = observation, now, now - self._arrived
            self._fresh, self._waits = not self._busy and self._is_due(), self._busy
            self._wake.notify_all()

    def blind(self, reason: str) -> None:
        """Note that something was to be observed, but must not be acted on."""
        with self._lock:
            self._blind, self._blinded = reason, time.monotonic()

    def ask(self, question: str) -> None:
        """Answer a question about the newest image, between two decisions."""
        question = question.strip()
        reason = refusal(question) or ("" if question else "the question is empty")
        with self._lock:
            if not reason and len(self._questions) >= MOST_QUESTIONS:
                reason = f"{MOST_QUESTIONS} questions wait already"
            if reason:
                self._on_answer(f"no answer: {reason}")
            else:
                self._questions.append(question)
                self._wake.notify_all()

    def tick(self) -> None:
        """Look whether observations still come; call it a few times per second."""
        with self._lock:
            if self._active() and (stale := self._stale()):
                late = time.monotonic() - max(self._told, self._arrived) > FIRST_PICTURE_S
                if late and not self._busy and not self._status.decisions:
                    self._become(State.FAULT, f"{stale}; then give the instruction again")
                else:
                    self._become(State.HOLDING, stale)
                self._wake.notify_all()  # a question need not wait for a decision any longer
            elif self._active() and self._busy:
                took = time.monotonic() - self._began
                if took > LONG_S:
                    self._become(State.HOLDING, f"the policy has been computing for {took:.0f} s")

    def _stale(self) -> str:
        """Why the newest observation cannot be used, "" if it can."""
        if time.monotonic() - self._blinded < self._max_age:
            return self._blind
        if self._newest is None:
            return "no observation yet: is the camera running?"
        age = (self._now_ns() - self._newest.stamp_ns) / 1e9
        if age >= -self._max_age:  # a simulated clock may stand still
            age = max(age, time.monotonic() - self._arrived)
        if age > self._max_age:
            return f"the newest observation is {age:.1f} s old, limit {self._max_age:g} s"
        if age < -self._max_age:
            return f"the newest observation is stamped {-age:.1f} s in the future: check the clocks"
        return ""

    def _become(self, state: State, reason: str = "") -> None:
        """Change the status; publish it when state or kind of reason changes."""
        before = self._status
        self._status = replace(before, state=state, reason=reason)
        if (before.state, _kind(before.reason)) != (state, _kind(reason)):
            self._on_status(self.status)

    def _rate(self) -> float:
        since = time.monotonic() - RATE_WINDOW_S
        times = [t for t in self._times if t >= since]
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 2 else 0.0

    def _work(self) -> None:
        while True:
            with self._lock:
                turn = self._wake.wait_for(self._turn)
                if turn == "stop":
                    del self._policy  # its model; whoever stops it may keep the runner
                    return
                self._answered = turn == "answer"
                question = self._questions.popleft() if self._answered else None
                observation, asked = self._newest, self._status
                self._busy, self._fresh, self._waits = True, False, False
                self._began = time.monotonic()
                if question is None:
                    self._due = max(self._due, time.monotonic()) + self._period
            try:
                if question is not None:
                    self._answer(question, observation)
                elif observation is not None:
                    # An instruction is an attempt of its own, whatever is remembered of others.
                    episode = f"{self._id} {asked.instruction_id}"
                    about = replace(observation, instruction=asked.instruction, episode=episode)
                    self._infer(about, asked)
            except Exception as error:  # of who is told: the next instruction is worked on
                self._untold(error)

    def _turn(self) -> str:
        """What the worker does next, "" for nothing; after a question a decision if one can be."""
        if self._stopped:
            return "stop"
        deciding = self._active() and not self._stale()
        if self._questions and not (self._answered and deciding and self._is_due()):
            return "answer"
        return "decide" if deciding and self._fresh else ""

    def _active(self) -> bool:
        return self._status.state in (State.RUNNING, State.HOLDING)

    def _is_due(self) -> bool:
        """Whether max_rate allows a decision."""
        return time.monotonic() >= self._due - EARLY * self._period

    def _infer(self, observation: Observation, asked: Status) -> None:
        started = time.perf_counter()
        try:
            decision, failure = self._policy.infer(observation), ""
        except Exception as error:  # anything at all: the arm holds, and the status says why
            decision, failure = None, f"{RAISED} {type(error).__name__}: {error}"
        inference = time.perf_counter() - started
        with self._lock:
            self._busy = False
            if self._stopped or asked.instruction_id != self._status.instruction_id:
                return
            waited = time.monotonic() - self._arrived
            self._fresh = self._waits and waited < EARLY * self._interval and self._is_due()
            now = self._status
            if decision is None:
                self._become(State.FAULT, _line(failure))
            elif decision.action is None:
                self._status = replace(now, invalid=now.invalid + 1)
                self._become(State.HOLDING, _line(f"invalid decision: {decision.reason}"))
            else:
                stamp, index = observation.stamp_ns, now.decisions
                self._times.append(time.monotonic())
                self._on_step(Step(decision, stamp, now.instruction_id, index, inference))
                self._status = replace(now, decisions=index + 1)
                self._become(State.DONE if decision.action.terminate else State.RUNNING)

    def _untold(self, error: Exception) -> None:
        """Note that what came of it could not be told; that this cannot be told is likely."""
        with self._lock, suppress(Exception):
            self._busy = False
            self._become(State.FAULT, _line(f"not told: {type(error).__name__}: {error}"))

    def _answer(self, question: str, observation: Observation | None) -> None:
        reason = self._stale()
        try:
            if observation is None or reason:
                text = f"no answer: {reason}"
            else:
                text = self._policy.answer(observation.image, question)
        except Exception as error:  # the loop goes on
            text = _line(f"no answer: the policy raised {type(error).__name__}: {error}")
        with self._lock:
            self._busy = False
            if not self._stopped:
                self._on_answer(text)


def _line(text: str) -> str:
    """At most 300 characters on one line."""
    return " ".join(text.split())[:300]


def _kind(reason: str) -> str:
    """A reason without its numbers: an age that grows is no news."""
    return "".join(c for c in reason if not c.isdigit() and c != ".")
