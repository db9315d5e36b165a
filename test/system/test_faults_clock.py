# SPDX-License-Identifier: Apache-2.0
"""Faults of the clock itself, on a graph that follows the simulator's."""

import pytest

from rt2_ros.bench.fault_list import CLOCK_FAULTS
from rt2_ros.bench.faults import BOUND_S, IN_MOTION, bench


@pytest.fixture(scope="module")
def running():
    with bench("test_faults_clock", sim_time=True) as running:
        yield running


@pytest.mark.parametrize("fault", CLOCK_FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_nothing_unsafe_comes_of_a_clock_that_is_wrong(running, fault):
    outcome = running.run(fault)
    assert outcome.unsafe == []
    assert outcome.failed == []
    assert outcome.commands >= IN_MOTION
    assert 0.01 < outcome.time_to_hold < BOUND_S
