# SPDX-License-Identifier: Apache-2.0
"""The decoder as it is on a GPU, without one: recordings are played by a stand-in."""

import numpy as np

from rt2_ros.models.decode import Decoder
from rt2_ros.models.graphs import Recording
from rt2_ros.models.static import StaticSteps

from .architectures import idefics3, llava, paligemma, qwen2_5_vl, smolvlm

KINDS = (llava, idefics3, smolvlm, qwen2_5_vl, paligemma)
TEXTS = ([20, 21, 22], [30], [40, 41, 42, 43, 44, 45, 46], list(range(60, 80)), [50, 51])


class Bins:
    """Eight integers of one token each as an action has them: two that may be one of two, and a
    separator that must come in the middle.
    """

    def __init__(self):
        switch, end = np.arange(20, 22), np.array([2])
        some, every = [np.arange(20 + k, 270 + k) for k in range(3)], np.arange(20, 276)
        self.sets = [switch, *some, np.array([15]), *[every] * 3, np.arange(30, 32), end]

    def start(self):
        return 0

    def allowed(self, state):
        return self.sets[state] if state < len(self.sets) else np.array([])

    def advance(self, state, token):
        if token not in self.allowed(state):
            raise ValueError(f"token {token} is not allowed here")
        return state + 1

    def done(self, state):
        return state == len(self.sets)


class Worded(Bins):
    """The same after a word of one to three tokens, which leads elsewhere."""

    def __init__(self):
        super().__init__()
        self.sets = [np.arange(300, 310), np.arange(300, 310), np.array([16]), *self.sets]

    def advance(self, state, token):
        after = super().advance(state, token)
        return 2 if state == 0 and token % 2 else after


class Played:
    """Instead of a CUDA graph: a replay computes again what was recorded, to the same places."""

    def __init__(self, steps):
        self.count = self.replays = 0
        steps.graphs.records = True
        steps.graphs.warm_up = lambda compute: compute()
        steps.graphs.capture = self.capture

    def capture(self, compute):
        self.count += 1
        outputs = compute()

        def replay():
            self.replays += 1
            for output, value in zip(outputs, compute(), strict=True):
                output.copy_(value)

        return Recording(replay, outputs, compute)


def static(model):
    """The decoder as it is on a GPU."""
    decode = Decoder(model)
    decode._lean, decode._static = None, StaticSteps(model)
    return decode
