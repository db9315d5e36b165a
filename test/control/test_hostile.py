# SPDX-License-Identifier: Apache-2.0
"""Whatever a policy sends, what leaves the controller keeps every limit."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from rt2_ros.control.arm import State
from rt2_ros.control.path import PATH_TOLERANCE

NASTY = (1e308, -1e308, 5e-324, np.nan, np.inf, -np.inf, 1e9, -3.0)
EVENTS = 30


def hostile_delta(rng):
    """Return fields of a delta: mostly finite and too large, often reversed, sometimes absurd."""
    kind = rng.choice(["calm", "wild", "reversal", "nasty"], p=[0.35, 0.3, 0.3, 0.05])
    scale = {"calm": 0.05, "wild": 1.0, "reversal": 0.2, "nasty": 0.1}[kind]
    values = rng.normal(size=6) * scale
    if kind == "reversal":
        values = np.sign(values) * 0.3 * rng.choice([-1, 1])
    if kind == "nasty":
        values[rng.integers(6)] = rng.choice(NASTY)
    return {
        "translation": tuple(values[:3]),
        "rotation": tuple(values[3:] if rng.random() < 0.5 else np.zeros(3)),
        "gripper": rng.choice([0.0, 1.0, -7.0, np.nan], p=[0.94, 0.03, 0.02, 0.01]),
        "terminate": rng.random() < 0.01,
        "age_ms": rng.choice([0, 50, 200, 300, 900, -100], p=[0.2, 0.2, 0.3, 0.2, 0.05, 0.05]),
    }


def check_chunk(profile, kinematics, chunk, braking):
    """Fail unless a chunk keeps the limits of joints and tip, and the tip in the workspace.

    Braking comes before all else: that it goes straight on may cost 10 mm of workspace.
    """
    limits = profile.limits()
    assert (np.diff(chunk.times) > 0).all()
    assert (chunk.velocities[-1] == 0).all()
    samples = [chunk.sample(t) for t in np.linspace(0, chunk.duration, 16)]
    q, velocity = (np.array(column) for column in zip(*samples, strict=True))
    rounding = 2e-4  # rad, of braking times
    assert (limits.lower - rounding <= q).all()
    assert (q <= limits.upper + rounding).all()
    assert (np.abs(velocity) <= limits.velocity + 1e-6).all()

    span = np.diff(chunk.times)[:, None]
    way = np.diff(chunk.positions, axis=0) / span
    leave, arrive = chunk.velocities[:-1], chunk.velocities[1:]
    for ends in (6 * way - 4 * leave - 2 * arrive, -6 * way + 2 * leave + 4 * arrive):
        assert (np.abs(ends / span) <= limits.acceleration + 1e-4).all()

    tips = [kinematics.motion(*sample) for sample in samples]
    position, twist = (np.array(column) for column in zip(*tips, strict=True))
    below, above = profile.workspace_min - position, position - profile.workspace_max
    outside = np.maximum(below, above).max(axis=1)
    if braking:
        assert outside.max() <= max(PATH_TOLERANCE, outside[0]) + 0.010
    else:  # 0.5 mm for what lies between the samples that the filter looks at
        assert outside.max() <= max(PATH_TOLERANCE, outside[0]) + 5e-4
        assert outside[-1] <= max(1e-4, outside[0])
    assert np.linalg.norm(twist[:, :3], axis=1).max() <= profile.max_linear_speed
    assert np.linalg.norm(twist[:, 3:], axis=1).max() <= profile.max_angular_speed


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_hostile_delta_gets_the_arm_beyond_a_limit(new_rig, profile, kinematics, start, seed):
    rng = np.random.default_rng(seed)
    offset = rng.uniform([-0.15, -0.3, -0.23], [0.15, 0.3, 0.2])
    turn = [0, 0, rng.uniform(-0.5, 0.5)]
    spot = kinematics.forward(start).compose_delta(offset, turn)
    rig = new_rig(q=kinematics.inverse(spot, start))
    number, moves = 0, []
    for _ in range(EVENTS):
        if rig.arm.state in (State.STOPPED, State.ARMED) or rng.random() < 0.03:
            number += 1
            rig.arm.arm()
            rig.instruct(instruction_id=number)
        fields = hostile_delta(rng)
        stamp = rig.now_ns - int(fields.pop("age_ms")) * 1_000_000
        sent = len(rig.commands)
        rig.move(*fields.pop("translation"), stamp_ns=stamp, **fields)
        verdict = rig.arm.verdict
        assert verdict.accepted or len(rig.commands) == sent
        moves.append(verdict.chunk)
        rig.run(rng.choice([0.01, 0.05, 0.1, 0.2, 0.3, 0.7], p=[0.1, 0.2, 0.25, 0.3, 0.1, 0.05]))
        if rng.random() < 0.03:
            rig.apply(rig.arm.stop() if rng.random() < 0.5 else rig.arm.on_instruction(""))
    for _, q, velocity, command in rig.commands:
        assert command.gripper is None or 0.0 <= command.gripper <= 0.04
        if command.chunk is None:
            continue
        assert_allclose(command.chunk.positions[0], q, atol=1e-6)
        assert_allclose(command.chunk.velocities[0], velocity, atol=1e-6)
        braking = not any(command.chunk is move for move in moves)
        check_chunk(profile, kinematics, command.chunk, braking)
