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


def test_a_word_competes_with_a_number_not_with_one_spike_of_it():
    """Learned with soft targets, the likeliest integer of a sure number has a third."""
    tokens = torch.tensor([7, 8, *range(1000, 1256)])
    smoothing = Smoothing({1000 + i: i for i in range(256)}, 6)
    number = torch.exp(-0.5 * ((torch.arange(256) - 90) / 1.3) ** 2)
    for sure, best in ((0.7, 92), (0.4, 0)):  # of a number at all: then 90, else the first word
        probabilities = torch.cat([torch.tensor([1 - sure, 0.0]), sure * number / number.sum()])
        assert int(probabilities.argmax()) == 0
        assert int(smoothing(tokens, probabilities).argmax()) == best
    edge = torch.exp(-0.5 * (torch.arange(256) / 1.3) ** 2)
    probabilities = torch.cat([torch.tensor([0.55, 0.0]), 0.45 * edge / edge.sum()])
    assert int(smoothing(tokens, probabilities).argmax()) == 0  # also at the picture's edge
    words = torch.arange(2000, 2600)  # among many the free text of a plan goes on as it was
    many = torch.rand(len(words) + 256)
    assert torch.equal(smoothing(torch.cat([torch.arange(1000, 1256), words]), many), many)
