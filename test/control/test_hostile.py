# SPDX-License-Identifier: Apache-2.0
"""Whatever a policy sends, and whatever else happens, what leaves the controller keeps every limit.

The cases and their judge are those of `rt2 bench control`; here it is also tried that the judge
sees what it should see.
"""

import dataclasses

import numpy as np
import pytest

from rt2_ros.bench import hostile
from rt2_ros.bench.chunk_judge import ChunkJudge
from rt2_ros.control.trajectory import Chunk, plan_chunk, stop_chunk

CASES = 100_000


@pytest.mark.timeout(1800)  # two minutes on two idle cores
def test_no_hostile_delta_gets_the_arm_beyond_a_limit(record_property):
    report = hostile.run(CASES, seed=0)
    record_property("cases", report.cases)
    print(f"{report.cases} cases, {report.trajectories} trajectories")
    assert report.violations == []
    assert report.cases == CASES
    # They were cases: half of the deltas passed, and moved the arm.
    assert report.accepted > 0.45 * report.cases
    assert report.trajectories > 0.45 * report.cases
    assert 0.02 < report.rest < 0.4


def test_the_same_seed_gives_the_same_cases():
    profile, urdf = hostile.load()
    first, second, other = (hostile.judge_states(profile, urdf, 40, seed) for seed in (5, 5, 6))
    assert dataclasses.asdict(first) == dataclasses.asdict(second)
    assert dataclasses.asdict(first) != dataclasses.asdict(other)


@pytest.fixture(scope="module")
def judge():
    profile, urdf = hostile.load()
    return ChunkJudge(profile, urdf, np.random.default_rng(0))


@pytest.fixture(scope="module")
def go(judge, start):
    """Return a function that makes a trajectory: the tip moved by (3,) m and (3,) rad."""

    def go(translation, rotation=(0, 0, 0), duration=1.0, q=start):
        goal = judge.kinematics.forward(q).compose_delta(translation, rotation)
        end = judge.kinematics.inverse(goal, q)
        chunk = plan_chunk(q, np.zeros(7), end, 10.0, judge.profile.limits())
        return Chunk(chunk.times * duration / 10, chunk.positions, chunk.velocities * 10 / duration)

    return go


def test_the_judge_finds_nothing_wrong_with_a_calm_motion(judge, go, start):
    assert judge.faults(go([0.05, 0.02, 0.0]), start, np.zeros(7)) == []


@pytest.mark.parametrize(
    ("way", "duration", "fault"),
    [
        (([0.0, 0.3, 0.0],), 0.8, "tip speed"),
        (([0.0, 0.05, 0.0],), 0.12, "tip acceleration"),
        (([0.0, 0.05, 0.0],), 0.08, "joint acceleration"),
        (([0.0, 0.0, -0.25],), 3.0, "outside the workspace"),
        (([0.0, 0.19, -0.15],), 3.0, "inside a keep-out box"),
        (([0.25, 0.05, 0.11],), 5.0, "condition number"),
        (([0.0, 0.0, -0.23], [1.0, 0.0, 0.0]), 5.0, "and table touch"),
    ],
)
def test_the_judge_sees_a_limit_broken(judge, go, start, way, duration, fault):
    faults = judge.faults(go(*way, duration=duration), start, np.zeros(7))
    assert any(fault in found for found in faults), faults


def test_the_judge_sees_a_jump_and_a_joint_beyond_its_limit(judge, go, start):
    chunk = go([0.02, 0.0, 0.0])
    assert "off the arm's motion" in judge.faults(chunk, start + 0.01, np.zeros(7))[0]
    assert "off the arm's motion" in judge.faults(chunk, start, np.full(7, 0.01))[0]
    edge = np.array(judge.profile.joint_upper) - 0.01
    beyond = stop_chunk(edge, np.full(7, 1.0), judge.profile.limits())
    assert any("beyond its limit" in f for f in judge.faults(beyond, edge, np.full(7, 1.0)))
