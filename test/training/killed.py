# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed with signal 9 at each point of a save, and go on: what test_resume starts.

Each killed run is a fork of this process, so that torch is imported once. Prints one JSON object:
for each point, the losses by step of the run that went on, and under "unbroken" those of one that
was left alone.
"""

import contextlib
import functools
import io
import json
import os
import signal
import sys
from pathlib import Path

import torch
from tiny_runs import losses, tiny_config, tiny_run, tiny_stage

import rt2_ros.training.tiny
from rt2_ros.training import checkpoint

torch.set_num_threads(1)
torch.compile = lambda module: module
rt2_ros.training.tiny.build_processor = functools.cache(rt2_ros.training.tiny.build_processor)
STAGES = (tiny_stage(steps=7, dense_weight=0.5, shares={"colour": 1.0, "talk": 0.5}),)


def run(folder):
    with contextlib.redirect_stdout(io.StringIO()):
        tiny_run(tiny_config(folder, stages=STAGES, save_steps=3)).run()
    return losses(folder)


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def half(state, path):
    """A file that was being written."""
    buffer = io.BytesIO()
    torch.serialization.save(state, buffer)
    Path(path).write_bytes(buffer.getvalue()[: buffer.tell() // 2])
    die()


def second(function, deadly):
    """Does as `function` does once, and the second time as `deadly`."""
    calls = []

    def wrapper(*args, **kwargs):
        calls.append(1)
        return (function if len(calls) == 1 else deadly)(*args, **kwargs)

    return wrapper


def die_in_state():
    torch.save = second(torch.save, half)


def die_before_the_renames():
    replace = os.replace
    # The first save finds no older checkpoint, so it renames once; the second twice.
    os.replace = second(replace, die)


def die_between_the_renames():
    replace = os.replace
    os.replace = second(replace, second(replace, die))


def die_after_the_renames():
    remove = checkpoint.shutil.rmtree

    def last(path, **options):
        if str(path).endswith(".old") and Path(path).exists():
            die()
        remove(path, **options)

    checkpoint.shutil.rmtree = last


POINTS = (die_in_state, die_before_the_renames, die_between_the_renames, die_after_the_renames)


def main(folder):
    found = {"unbroken": run(folder / "unbroken")}
    for point in POINTS:
        place = folder / point.__name__
        child = os.fork()
        if not child:
            point()
            run(place)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, point.__name__
        before = losses(place)
        assert max(before) == 6, before  # it died in the second save
        found[point.__name__] = run(place)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
