# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch


class Numbers:
    """A language of the tests: numbers, each by 1 to 7 greater than the one before, modulo 200.

    Left alone, a model of random weights would say its favourite word for ever. ids: (n,) token of
    each number, one after the other; length: tokens of an answer, the end token included.
    """

    def __init__(self, ids, end, length):
        self.ids, self.end, self.length = np.array(ids), np.array([end]), length
        self.sets = {n: self.ids[n % 200 : n % 200 + 7] for n in range(len(ids) + 1)}

    def start(self):
        return (0, 0)

    def allowed(self, state):
        count, last = state
        if count == self.length:
            return np.array([])
        return self.end if count == self.length - 1 else self.sets[last]

    def advance(self, state, token):
        if token not in self.allowed(state):
            raise ValueError(f"token {token} is not allowed here")
        return state[0] + 1, int(token - self.ids[0]) + 1

    def done(self, state):
        return state[0] == self.length


@pytest.fixture(scope="session")
def numbers():
    return Numbers


@pytest.fixture(scope="module")
def one_thread():
    """Small models gain nothing by a second thread; on a busy machine they wait for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
