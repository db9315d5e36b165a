# SPDX-License-Identifier: Apache-2.0
"""Plays episodes: tables in processes of their own, one policy that decides for many at once.

    with RunFolder.create("out/eval/rt2-tiny", info) as run:
        play(episodes(suites, 100, 0), PolicyPlayer(policy), run)

While the policy decides for one process' tables, the others compute physics and pictures. The
processes are served in turn, so that the same command plays the same episodes in the same batches.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

from rt2_ros.actions import Action
from rt2_ros.data import split
from rt2_ros.evaluation.records import EpisodeRecord, Key
from rt2_ros.evaluation.runs import RunFolder
from rt2_ros.evaluation.suites import Cell, Suite
from rt2_ros.evaluation.tables import Act, Begin, Command, Crashed, Ended, Seen, TableProcess
from rt2_ros.policies import Decision, Observation, Policy, infer_batch
from rt2_ros.policies.base import MOST_ATTEMPTS

SLOTS = 6  # tables in a process
MAX_CRASHES = 3  # of table processes, after which something is wrong with the machine
HOPELESS = 6  # episodes that crash before any has ended: something is wrong with all of them


class PolicyFailed(RuntimeError):
    """The policy raised: not a bad episode, but an evaluation that cannot go on."""


class Player(Protocol):
    """Who plays: decides on a batch of what is seen."""

    name: str
    image_size: int

    def decide(self, seen: Sequence[tuple[str, Seen]]) -> list[Decision]:
        """One decision for each (episode, what is seen)."""
        ...


class PolicyPlayer:
    """A policy, shown what it may know."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.name, self.image_size = policy.name, policy.image_size

    def decide(self, seen: Sequence[tuple[str, Seen]]) -> list[Decision]:
        """The policy's decisions, in one call where it has one for batches."""
        return infer_batch(
            self._policy,
            [
                Observation({"scene": s.image}, s.instruction, s.state, s.stamp_ns, episode)
                for episode, s in seen
            ],
        )


class ExpertPlayer:
    """The scripted expert, who is told the truth: the upper bound of what an arm can do here."""

    name = "expert"
    image_size = 192

    def decide(self, seen: Sequence[tuple[str, Seen]]) -> list[Decision]:
        """The expert's actions, cut into the default model's bins."""
        from rt2_ros.data.robot import SPACE

        decisions = []
        for _, s in seen:
            bins = SPACE.to_bins(self._wanted(s))
            text = " ".join(map(str, bins))
            decisions.append(Decision(SPACE.from_bins(bins), bins=bins, text=text, confidence=1.0))
        return decisions

    def _wanted(self, seen: Seen) -> Action:
        return seen.expert


class GuessPlayer(ExpertPlayer):
    """The expert that does not know which thing is meant: what chance is worth."""

    name = "guess"

    def _wanted(self, seen: Seen) -> Action:
        return seen.guess


# Who needs no policy, by name.
EXPERTS: dict[str, type[ExpertPlayer]] = {p.name: p for p in (ExpertPlayer, GuessPlayer)}


@dataclass(frozen=True)
class Episode:
    """One to be played."""

    cell: Cell
    seed: int

    @property
    def title(self) -> str:
        """'unseen-objects/easy 17'."""
        return f"{self.cell.title} {self.seed}"

    @property
    def key(self) -> tuple[str, str, int]:
        """Suite, cell, seed: as EpisodeRecord.key."""
        return self.cell.suite, self.cell.name, self.seed


@dataclass
class _Playing:
    """One that is being played."""

    episode: Episode
    latency_ms: list[float] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    invalid: int = 0


def episodes(suites: Iterable[Suite], count: int, seed: int) -> list[Episode]:
    """`count` episodes of each cell, with seeds from `seed` on; a cell that is named twice once.

    Raises:
        ValueError: the seeds are not all test seeds, or two cells have the same name.
    """
    seeds = split.evaluation_seeds(seed, count)
    cells: dict[str, Cell] = {}
    for cell in (cell for suite in suites for cell in suite.cells):
        if cells.setdefault(cell.title, cell).digest != cell.digest:
            raise ValueError(
                f"{cell.source} and {cells[cell.title].source} both have {cell.title}; expected "
                "another name for one of the files"
            )
    return [Episode(cell, s) for cell in cells.values() for s in seeds]


def play(
    wanted: Iterable[Episode],
    player: Player,
    run: RunFolder,
    *,
    processes: int | None = None,
    slots: int = SLOTS,
    films: bool = False,
    on_record: Callable[[EpisodeRecord], None] = lambda record: None,
) -> None:
    """Play what the run does not have yet, and append each record to it as it ends.

    processes: of tables; two, or one for each core beyond, if None.

    Raises:
        PolicyFailed: the policy raised. What was finished is in the run: play again to go on.
        ValueError: more tables than a policy can keep apart.
    """
    left = deque(run.left(wanted))
    if processes is None:
        processes = max(2, min(len(os.sched_getaffinity(0)) - 1, MOST_ATTEMPTS // slots))
    if processes * slots > MOST_ATTEMPTS:
        raise ValueError(
            f"processes: {processes} of {slots} tables, expected at most {MOST_ATTEMPTS} tables in "
            "all: a policy remembers no more attempts at a time"
        )
    stage = _Stage(left, run.crashed(), player, run, films, on_record)
    count = min(processes, -(-len(left) // slots))
    groups = [_Group(stage, slots, player.image_size) for _ in range(count)]
    try:
        for group in groups:
            group.start()
        while any(group.waiting for group in groups):
            for group in itertools.compress(groups, [group.waiting for group in groups]):
                group.turn()
    finally:
        for group in groups:
            group.close()


class _Stage:
    """What all tables share: the episodes left, those of them that crashed before, player, run."""

    def __init__(
        self, left: deque[Episode], again: Set[Key], player: Player, run: RunFolder, films: bool,
        on_record: Callable[[EpisodeRecord], None],
    ) -> None:  # fmt: skip
        self.left, self._again, self._player, self._run = left, again, player, run
        self._films, self._on_record = films, on_record
        self.crashes = 0
        self._crashed, self._ended = 0, 0

    def begin(self, episode: Episode) -> Begin:
        film = str(self._run.video_path(episode.key)) if self._films else ""
        return Begin(episode.cell, episode.seed, film)

    def decide(self, seen: Sequence[tuple[_Playing, Seen]]) -> list[Act]:
        """One step for each table, all in one batch."""
        if not seen:
            return []
        started = time.perf_counter()
        try:
            decisions = self._player.decide([(p.episode.title, s) for p, s in seen])
        except Exception as error:
            raise PolicyFailed(
                f"policy {self._player.name} raised {type(error).__name__}: {error}; what was "
                f"finished is in {self._run.path}, and the same command goes on with it"
            ) from error
        share_ms = (time.perf_counter() - started) * 1000 / len(seen)
        acts = []
        for (playing, _), decision in zip(seen, decisions, strict=True):
            playing.latency_ms.append(share_ms)
            if decision.action is None:
                playing.invalid += 1
                acts.append(Act(None, f"invalid: {decision.reason}"))
            else:
                playing.confidence.append(decision.confidence)
                acts.append(Act(decision.action, decision.text))
        return acts

    def end(self, playing: _Playing, reply: Ended | Crashed, died: bool = False) -> None:
        """Write the record; died: with its process, which says nothing of the episode."""
        episode = playing.episode
        said: dict[str, Any] = {
            "latency_ms": tuple(playing.latency_ms), "confidence": tuple(playing.confidence),
            "invalid": playing.invalid,
        }  # fmt: skip
        if isinstance(reply, Crashed):
            self._crashed += not died and episode.key not in self._again
            if self._crashed >= HOPELESS and not self._ended:
                raise RuntimeError(f"every episode crashes: {reply.error}")
            record = EpisodeRecord.crashed(self._player.name, episode.key, reply.error, **said)
        else:
            self._ended += 1
            strip = ""
            if reply.frames:
                strip = self._run.save_strip(reply.frames, reply.notes, episode.key)
            record = EpisodeRecord(
                **said, policy=self._player.name, suite=episode.cell.suite,
                cell=episode.cell.name, seed=episode.seed,
                instruction=reply.instruction, skill=reply.skill, object=reply.object,
                target=reply.target, success=reply.success, failure=reply.failure,
                steps=reply.steps, path_length=reply.path_length, sim_seconds=reply.sim_seconds,
                held=reply.held, strip=strip, reached=reply.reached,
            )  # fmt: skip
        self._run.append(record)
        self._on_record(record)


class _Group:
    """The tables of one process and the episodes on them."""

    def __init__(self, stage: _Stage, slots: int, image_size: int) -> None:
        self._stage, self._slots, self._image_size = stage, slots, image_size
        self._playing: dict[int, _Playing] = {}
        self._process: TableProcess | None = None

    @property
    def waiting(self) -> bool:
        """Whether replies are due."""
        return bool(self._playing)

    def start(self) -> None:
        """Begin an episode in each slot."""
        self._process = TableProcess(self._slots, self._image_size)
        self._send([command for slot in range(self._slots) for command in self._next(slot)])

    def turn(self) -> None:
        """Take the replies, decide, send on."""
        assert self._process is not None
        try:
            replies = self._process.receive()
        except EOFError:
            self._restart()
            return
        seen: list[tuple[int, Seen]] = []
        commands: list[tuple[int, Command]] = []
        for slot, reply in replies:
            if isinstance(reply, Seen):
                seen.append((slot, reply))
            else:
                self._stage.end(self._playing.pop(slot), reply)
                commands += self._next(slot)
        acts = self._stage.decide([(self._playing[slot], s) for slot, s in seen])
        commands += [(slot, act) for (slot, _), act in zip(seen, acts, strict=True)]
        self._send(commands)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()

    def _next(self, slot: int) -> list[tuple[int, Command]]:
        if not self._stage.left:
            return []
        episode = self._stage.left.popleft()
        self._playing[slot] = _Playing(episode)
        return [(slot, self._stage.begin(episode))]

    def _send(self, commands: list[tuple[int, Command]]) -> None:
        assert self._process is not None
        if commands:
            self._process.send(commands)

    def _restart(self) -> None:
        """The process is gone: its episodes have crashed, the next ones get a new one."""
        assert self._process is not None
        reason = self._process.exit_reason()
        self.close()
        while self._playing:
            self._stage.end(self._playing.popitem()[1], Crashed(reason), died=True)
        self._stage.crashes += 1
        if self._stage.crashes > MAX_CRASHES:
            raise RuntimeError(f"table processes ended {self._stage.crashes} times; last: {reason}")
        self.start()
