# SPDX-License-Identifier: Apache-2.0
"""A run that was killed in the middle of a save goes on as if nothing had been."""

import json
import os
import subprocess
import sys
from pathlib import Path

KILLED = Path(__file__).with_name("killed.py")


def test_a_run_killed_at_any_point_of_a_save_goes_on_with_the_same_losses(tmp_path):
    done = subprocess.run(
        [sys.executable, str(KILLED), str(tmp_path)], capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    unbroken = found.pop("unbroken")
    assert sorted(map(int, unbroken)) == [1, 2, 3, 4, 5, 6, 7]
    assert len(found) == 4
    for point, losses in found.items():
        assert losses == unbroken, point  # to the last digit that is written
    assert len(set(map(tuple, unbroken.values()))) == 7
    for folder in tmp_path.iterdir():
        assert {p.name for p in folder.iterdir()} == {
            "checkpoint", "log.jsonl", "loss.png", "tensorboard",
        }, folder  # no half-written neighbour is left  # fmt: skip
