# SPDX-License-Identifier: Apache-2.0
"""A world in a thread of its own: setup, steps, work handed to it, teardown."""

import threading
import time

import pytest

from rt2_ros.nodes.realtime import RealTimeLoop

WAIT = 30.0  # s


class World:
    """Counts its steps; `stepped` is released at each."""

    def __init__(self):
        self.threads, self.events, self.errors, self.times = set(), [], [], []
        self.stepped = threading.Semaphore(0)
        self.slow = 0.0
        self.stands_still = False

    def loop(self, period=0.005):
        return RealTimeLoop(
            lambda: self.note("setup"),
            self.step,
            lambda: self.note("teardown"),
            period=period,
            failed=self.errors.append,
        )

    def note(self, event):
        self.threads.add(threading.get_ident())
        self.events.append(event)

    def step(self):
        self.times.append(time.monotonic())
        if self.slow:
            time.sleep(self.slow)  # the work of a step
            self.slow = 0.0
        self.stepped.release()
        return self.stands_still

    def steps(self, count):
        for _ in range(count):
            assert self.stepped.acquire(timeout=WAIT)


def test_everything_happens_in_one_thread_of_its_own():
    world = World()
    loop = world.loop()
    loop.call(lambda: world.note("call"))
    loop.post(lambda: world.note("post"))
    loop.close()
    assert world.events == ["setup", "call", "post", "teardown"]
    assert len(world.threads) == 1 and threading.get_ident() not in world.threads


def test_steps_come_only_while_it_runs():
    world = World()
    loop = world.loop()
    assert not world.times
    loop.run(True)
    world.steps(3)
    loop.run(False)
    count = len(world.times)
    assert not world.stepped.acquire(timeout=0.05) or len(world.times) == count
    loop.close()


def test_what_setup_raises_is_raised_where_the_loop_is_made():
    world = World()
    world.note = lambda event: (_ for _ in ()).throw(RuntimeError("no OpenGL"))
    with pytest.raises(RuntimeError, match="no OpenGL"):
        world.loop()


def test_an_exception_of_called_work_is_raised_to_the_caller_and_of_posted_work_told():
    world = World()
    loop = world.loop()
    with pytest.raises(KeyError):
        loop.call(lambda: {}["seed"])
    loop.post(lambda: {}["seed"])
    loop.close()
    assert [type(error) for error in world.errors] == [KeyError]


def test_a_late_step_is_made_up_for():
    def took():
        world = World()
        loop = world.loop(period=0.02)
        world.slow = 0.04
        loop.run(True)
        world.steps(4)
        loop.close()
        return world.times[3] - world.times[0]

    # A busy machine is late by itself now and then; a step that is not made up for always is.
    assert any(took() < 0.04 + 0.02 * 2 - 0.005 for _ in range(20))


def test_time_in_which_the_world_stood_still_is_not_made_up_for():
    world = World()
    world.stands_still = True
    loop = world.loop(period=0.02)
    world.slow = 0.04
    loop.run(True)
    world.steps(4)
    loop.close()
    assert world.times[3] - world.times[0] >= 0.04 + 0.02 * 3 - 0.001


def test_a_call_that_waits_too_long_says_so():
    world, go_on = World(), threading.Event()
    loop = world.loop()
    with pytest.raises(TimeoutError, match="waited 0.05 s for the thread 'world'"):
        loop.call(lambda: go_on.wait(WAIT), timeout=0.05)
    go_on.set()
    loop.close()
