# SPDX-License-Identifier: Apache-2.0
import torch

from rt2_ros.models.rt1 import RT1Config
from rt2_ros.models.rt1.film import Film, FilmEfficientNet, cells


def test_film_scales_and_shifts_channels():
    film = Film(1, 2)
    x = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert torch.equal(film(x, torch.ones(1, 1)), x)  # as it starts
    with torch.no_grad():
        film.both.weight.copy_(torch.tensor([[1.0], [0.0], [0.0], [-4.0]]))  # gamma, then beta
    changed = film(x, torch.ones(1, 1))
    assert changed.tolist() == [[[[0, 2], [4, 6]], [[0, 1], [2, 3]]]]


def test_the_instruction_makes_no_difference_before_it_is_learned(small, images):
    net, images = small.vision, images[:, 0]
    one, other = torch.randn(2, 2, small.config.sentence_size)
    plain = net(images, None)
    assert plain.shape == (2, 64, small.config.hidden)
    assert torch.equal(net(images, one), plain) and torch.equal(net(images, other), plain)
    # One step of gradient, and it does.
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    net(images, one).square().mean().backward()
    optimizer.step()
    assert not torch.allclose(net(images, one), net(images, other), atol=1e-6)


def test_published_pictures_have_81_cells():
    assert cells(RT1Config()) == 9
    with torch.device("meta"):
        net = FilmEfficientNet(RT1Config())
        images = torch.zeros(1, 300, 300, 3, dtype=torch.uint8)
        assert net(images, torch.zeros(1, 512)).shape == (1, 81, 512)
    assert len(net.films) == 26  # MBConv blocks of EfficientNet-B3
