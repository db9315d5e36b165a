# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from rt2_ros.models.constrain import Smoothing


def test_a_neighbourhood_wins_over_a_spike():
    tokens = torch.arange(1000, 1256)
    probabilities = torch.zeros(256)
    probabilities[127] = 0.25
    probabilities[119:125] = 0.125
    values = {1000 + i: i for i in range(256)}
    assert int(probabilities.argmax()) == 127
    assert 120 <= int(Smoothing(values, 4)(tokens, probabilities).argmax()) <= 124
    assert int(Smoothing(values, 0)(tokens, probabilities).argmax()) == 127
    saturated = torch.zeros(256)  # half a Gaussian at the end of the range
    saturated[252:] = torch.tensor([0.06, 0.15, 0.27, 0.29])
    assert int(Smoothing(values, 6)(tokens, saturated).argmax()) == 255
    # A switch of two, words, and integers of which not all may come (the ends of names) are left
    # alone.
    few = torch.arange(1000, 1011)
    for allowed in (torch.tensor([1000, 1001]), torch.tensor([5, 1000, 1001]), few):
        some = torch.rand(len(allowed))
        assert torch.equal(Smoothing(values, 4)(allowed, some), some)
    with pytest.raises(ValueError, match="smoothing: 65"):
        Smoothing(values, 65)
