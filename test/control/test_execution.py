# SPDX-License-Identifier: Apache-2.0
"""What the arm really does when trajectories follow on each other."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from rt2_ros.bench.rig import PERIOD

OPTIONS = {
    "plain": {},
    "filter": {"smoothing_time": 0.1},
    "ensemble": {"ensemble_horizon": 3},
    "both": {"smoothing_time": 0.1, "ensemble_horizon": 3},
}


def play(rig, seconds):
    """Run, and return joint positions and velocities (m, 7) at each period."""
    rows = []
    for _ in range(round(seconds / PERIOD)):
        rig.run(PERIOD)
        rows.append((rig.q, rig.velocity))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_from_1_hz_to_10_hz_late_and_irregular_nothing_jumps(rig_with, options):
    rig = rig_with(**options, no_progress_time=60.0)
    limits, rng = rig.profile.limits(), np.random.default_rng(0)
    positions, velocities, newest = [rig.q[None]], [rig.velocity[None]], rig.now_ns
    for rate, count in ((1.0, 4), (10.0, 25), (2.0, 4)):
        for _ in range(count):
            age = 0.0 if rng.random() < 0.3 else rng.uniform(0.0, 0.3)
            stamp = rig.now_ns - round(age * 1e9)
            goal = np.array([0.5, 0.0, 0.25]) + rng.uniform(-0.1, 0.1, 3)
            newest = max(newest, stamp)
            rig.move(*(goal - rig.tip.position), stamp_ns=newest)
            q, velocity = play(rig, rng.uniform(0.6, 1.4) / rate)
            positions.append(q)
            velocities.append(velocity)
    q, velocity = np.concatenate(positions), np.concatenate(velocities)
    assert rig.arm.accepted > 25
    assert np.abs(np.diff(velocity, axis=0)).max() > 0.01  # it did move
    assert (np.abs(velocity) <= limits.velocity + 1e-9).all()
    assert (np.abs(np.diff(q, axis=0)) <= limits.velocity * PERIOD + 1e-9).all()
    assert (np.abs(np.diff(velocity, axis=0)) <= limits.acceleration * PERIOD + 1e-6).all()


def jerk(rig):
    """Send a target that trembles about a straight line; return the mean square of the jerk."""
    tips = []
    for step in range(12):
        tremble = 0.02 * (-1) ** step
        goal = np.array([0.5, -0.1 + 0.02 * step, 0.25 + tremble])
        rig.move(*(goal - rig.tip.position))
        for _ in range(20):
            rig.run(PERIOD)
            tips.append(rig.tip.position)
    third = np.diff(np.array(tips)[100:], n=3, axis=0) / PERIOD**3
    return float((third**2).sum(axis=1).mean())


def test_each_option_makes_it_smoother(rig_with):
    plain, filtered, ensemble, both = (jerk(rig_with(**o)) for o in OPTIONS.values())
    assert filtered < 0.3 * plain
    assert ensemble < 0.7 * plain
    assert both < filtered


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_a_single_decision_is_carried_out_to_its_end(rig_with, options):
    rig = rig_with(**options)
    before = rig.tip.position
    rig.move(0.04, -0.03, 0.02)
    rig.run(0.79)
    assert_allclose(rig.tip.position - before, [0.04, -0.03, 0.02], atol=1e-3)


def test_by_default_nothing_is_sent_between_decisions(rig_with):
    rig = rig_with()
    rig.move(0.04, 0, 0)
    rig.run(0.7)
    assert len(rig.commands) == 1


def test_with_an_ensemble_only_a_target_that_expires_moves_the_goal(rig_with):
    rig = rig_with(ensemble_horizon=2, ensemble_decay=0.0)
    before = rig.tip.position
    rig.move(0.06, 0, 0)
    rig.run(0.4)
    rig.move(0.0, 0.06, 0)
    assert len(rig.commands) == 2
    rig.run(0.35)
    assert len(rig.commands) == 2
    # Half-way between (0.06, 0) and (0.06, 0.06): as the first target has been reached.
    assert_allclose(rig.tip.position - before, [0.06, 0.03, 0], atol=1e-3)
    rig.run(0.35)
    assert len(rig.commands) == 3
    assert_allclose(rig.tip.position - before, [0.06, 0.06, 0], atol=1e-3)


def test_a_stop_ends_the_blending(rig_with):
    rig = rig_with(smoothing_time=0.3)
    rig.move(0.09, 0, 0)
    rig.run(0.1)
    rig.apply(rig.arm.stop())
    sent = len(rig.commands)
    rig.run(1.0)
    assert len(rig.commands) == sent
    assert not rig.moving


def test_late_joint_states_do_not_make_the_arm_jump_back(rig_with):
    """At 1 rad/s and 0.25 s without joint states, the newest one is far behind the arm."""
    rig = rig_with(chunk_duration=0.8, max_linear_speed=3.0, max_step_translation=0.5)
    rig.move(0.0, 0.3, 0.0, rotation=(0, 0, 0.3))
    rig.run(0.3)
    measured = rig.q
    rig.run(0.25, joint_states=False)
    assert np.abs(rig.q - measured).max() > 0.1
    command = rig.move(0.0, -0.02, 0.0, stamp_ns=rig.now_ns - 300_000_000)
    assert_allclose(command.chunk.positions[0], rig.q, atol=1e-9)
    assert_allclose(command.chunk.velocities[0], rig.velocity, atol=1e-9)


def test_braking_is_straight_where_there_is_room_and_along_the_way_where_there_is_not(
    rig_with, kinematics, profile
):
    rig = rig_with()
    rig.move(0.0, 0.05, -0.08)
    rig.run(0.3)
    rig.move(0.0, 0.05, -0.08)
    rig.run(0.2)
    free = rig.apply(rig.arm.stop()).chunk
    assert free.duration < 0.15
    assert_allclose(np.diff(free.velocities, n=2, axis=0), 0, atol=1e-9)  # one straight ramp

    rig = rig_with()
    for _ in range(6):
        rig.move(0.0, 0.0, -0.09)
        rig.run(0.1)
    deepest = []
    for time in np.arange(0.0, rig.chunk.duration, 0.02):
        rig.run(0.02)
        brake = rig.arm._execution.chunk.brake(time, profile.limits())
        deepest.append(min(kinematics.forward(row).position[2] for row in brake.samples(20)[1]))
    assert min(deepest) > profile.workspace_min[2] - 0.005
