# SPDX-License-Identifier: Apache-2.0
"""One compiled world for all tests here; each lays its own table."""

import numpy as np
import pytest

from rt2_ros.sim.tabletop import Tabletop

NAMES = tuple(f"thing {i}" for i in range(10))


def quadrants(name: str) -> np.ndarray:
    """Red, green / blue, yellow, from the top left: tells how a picture is turned."""
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[:32, :32], picture[:32, 32:] = (255, 0, 0, 255), (0, 255, 0, 255)
    picture[32:, :32], picture[32:, 32:] = (0, 0, 255, 255), (255, 255, 0, 255)
    return picture


@pytest.fixture(scope="session")
def shared_tabletop():
    return Tabletop(NAMES, pictures=quadrants)


@pytest.fixture
def tabletop(shared_tabletop):
    shared_tabletop.reset(0)
    return shared_tabletop
