# SPDX-License-Identifier: Apache-2.0
"""Robot episodes in the layout of LeRobot datasets, v3: parquet for numbers, mp4 for pictures."""

from rt2_ros.data.lerobot.layout import DatasetInfo
from rt2_ros.data.lerobot.reader import Episodes, Step
from rt2_ros.data.lerobot.writer import Episode, EpisodeWriter

__all__ = ["DatasetInfo", "Episode", "EpisodeWriter", "Episodes", "Step"]
