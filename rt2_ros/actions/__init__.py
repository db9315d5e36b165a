# SPDX-License-Identifier: Apache-2.0
"""The action language: space, bins, prompts, vocabularies, grammar, parsing. NumPy only."""

from rt2_ros.actions.answers import AnswerGrammar
from rt2_ros.actions.bins import BINS, SCHEMES, from_bins, to_bins
from rt2_ros.actions.form import PlanForm
from rt2_ros.actions.grammar import MOST_TOKENS, Grammar, TokenGrammar
from rt2_ros.actions.parsing import Parsed, parse
from rt2_ros.actions.prompts import (
    action_prompt,
    answer_text,
    is_stop,
    openvla_prompt,
    openvla_prompt_ids,
    question_prompt,
)
from rt2_ros.actions.space import ACTION_NAMES, STATE_NAMES, Action, ActionSpace
from rt2_ros.actions.tokens import Tokenizer
from rt2_ros.actions.vocabularies import (
    DigitStrings,
    IntegerTokens,
    LeastUsedTokens,
    OpenVLATokens,
    Vocabulary,
    choose_vocabulary,
)

__all__ = [
    "ACTION_NAMES",
    "BINS",
    "MOST_TOKENS",
    "SCHEMES",
    "STATE_NAMES",
    "Action",
    "ActionSpace",
    "AnswerGrammar",
    "DigitStrings",
    "Grammar",
    "IntegerTokens",
    "LeastUsedTokens",
    "OpenVLATokens",
    "Parsed",
    "PlanForm",
    "TokenGrammar",
    "Tokenizer",
    "Vocabulary",
    "action_prompt",
    "answer_text",
    "choose_vocabulary",
    "from_bins",
    "is_stop",
    "openvla_prompt",
    "openvla_prompt_ids",
    "parse",
    "question_prompt",
    "to_bins",
]
