# SPDX-License-Identifier: Apache-2.0
"""The action language: space, bins, prompts, vocabularies, grammar, parsing. NumPy only."""

from rt2_ros.actions.bins import BINS, SCHEMES, from_bins, to_bins
from rt2_ros.actions.prompts import (
    action_prompt,
    answer_text,
    openvla_prompt,
    openvla_prompt_ids,
    question_prompt,
)
from rt2_ros.actions.space import ACTION_NAMES, STATE_NAMES, Action, ActionSpace

__all__ = [
    "ACTION_NAMES",
    "BINS",
    "SCHEMES",
    "STATE_NAMES",
    "Action",
    "ActionSpace",
    "action_prompt",
    "answer_text",
    "from_bins",
    "openvla_prompt",
    "openvla_prompt_ids",
    "question_prompt",
    "to_bins",
]
