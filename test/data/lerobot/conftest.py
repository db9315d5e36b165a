# SPDX-License-Identifier: Apache-2.0
"""Small datasets whose pictures tell which frame they are of: i of episode e is grey 20e + 5i."""

import numpy as np
import pytest

from rt2_ros.data.lerobot import Episode, EpisodeWriter

SIDE = 32
CAMERA = "observation.images.scene"
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": [4], "names": ["x", "y", "z", "gripper"]},
    CAMERA: {"dtype": "video", "shape": [SIDE, SIDE, 3], "names": ["height", "width", "channels"]},
    "action": {"dtype": "float32", "shape": [7], "names": None},
    "next.done": {"dtype": "bool", "shape": [1], "names": None},
}


def grey(episode, frame):
    return 20 * episode + 5 * frame


def make_episode(number, length, task=None):
    """Each number is exact in single precision, and another one in each frame."""
    frames = np.arange(length)
    images = np.stack([np.full((SIDE, SIDE, 3), grey(number, i), np.uint8) for i in frames])
    action = np.zeros((length, 7))
    action[:, 0] = frames / 64
    action[:, 6] = frames % 2
    return Episode(
        task or f"pick up thing {number}",
        {
            "observation.state": np.tile(frames[:, None] / 16.0 + number, 4),
            CAMERA: images, "action": action, "next.done": frames[:, None] == length - 1,
        },
        {"seed": 100 + number},
    )  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """Write episodes of these lengths, numbered from `first`, and return the folder."""

    def do(lengths, first=0, folder=tmp_path / "set", features=FEATURES, **options):
        options = {"fps": 4, "robot_type": "panda", "per_file": 2, **options}
        with EpisodeWriter(folder, features=features, **options) as writer:
            for number, length in enumerate(lengths, first):
                episode = make_episode(number, length)
                columns = {name: episode.columns[name] for name in features}
                writer.add(Episode(episode.task, columns, episode.extra))
        return folder

    return do
