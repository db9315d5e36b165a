# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose

from rt2_ros.control.history import JointHistory
from rt2_ros.control.kinematics import Unreachable
from rt2_ros.control.safety import Delta, SafetyFilter, Situation

NOW = 10_000_000_000
STAMP = NOW - 200_000_000


@pytest.fixture
def judge(profile, start):
    """Return what makes of a filter a function that judges a delta for an arm that rests at q, and
    was `seen` there in the picture, or at other joints.

    The current instruction is 3, the last step 7.
    """

    def judge(safety):
        def check(q=start, closed=0.0, seen=None, **changes):
            history = JointHistory(profile.arm_joints)
            for stamp in range(NOW - 1_000_000_000, NOW + 1, 10_000_000):
                history.add(stamp, profile.arm_joints, q if seen is None else seen)
            fields = {
                "stamp_ns": STAMP,
                "frame_id": "panda_link0",
                "instruction_id": 3,
                "step": 8,
                "translation": (0.0, 0.0, 0.0),
                "rotation": (0.0, 0.0, 0.0),
                "gripper": 0.0,
            }
            situation = Situation(NOW, 3, 7, STAMP - 1, np.asarray(q), np.zeros(7), closed)
            return safety.check(Delta(**{**fields, **changes}), situation, history)

        return check

    return judge


@pytest.fixture
def check(judge, profile, kinematics, collisions):
    """Return a function that judges a delta as the Panda's profile says."""
    return judge(SafetyFilter(profile, kinematics, collisions))


def test_a_good_delta_passes_unchanged(check, kinematics, start):
    verdict = check(translation=(0.03, -0.02, 0.01), rotation=(0.0, 0.0, 0.1))
    assert (verdict.accepted, verdict.code, verdict.changes) == (True, "accepted", ())
    translation, rotation = kinematics.forward(start).delta_to(verdict.target)
    assert_allclose(translation, [0.03, -0.02, 0.01], atol=1e-9)
    assert_allclose(rotation, [0.0, 0.0, 0.1], atol=1e-9)
    end = kinematics.forward(verdict.chunk.positions[-1])
    assert_allclose(end.position, verdict.target.position, atol=1e-5)
    assert verdict.gripper is None


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"translation": (np.nan, 0, 0)}, "not finite", "finite"),
        ({"rotation": (0, -np.inf, 0)}, "not finite", "finite"),
        ({"gripper": np.nan}, "not finite", "finite"),
        ({"translation": (0.1, 0)}, "not finite", "three"),
        ({"translation": None}, "not finite", "three"),
        ({"terminate": True, "rotation": (0, np.nan, 0)}, "not finite", "finite"),
        ({"frame_id": "camera"}, "frame", "frame 'camera', expected panda_link0"),
        ({"frame_id": ""}, "frame", "frame '', expected panda_link0"),
        ({"instruction_id": 2}, "instruction", "for instruction 2, current is 3"),
        ({"instruction_id": 4}, "instruction", "for instruction 4, current is 3"),
        ({"step": 7}, "step", "step 7 is not after step 7"),
        ({"step": 9, "stamp_ns": STAMP - 2}, "step", "is not after"),
        ({"stamp_ns": NOW + 1}, "stamp", "in the future"),
    ],
)
def test_refused_with_the_reason(check, changes, code, reason):
    verdict = check(**changes)
    assert (verdict.accepted, verdict.code) == (False, code)
    assert reason in verdict.reason
    assert (verdict.target, verdict.chunk, verdict.gripper) == (None, None, None)


@pytest.mark.parametrize(
    ("stamp", "code"),
    [
        (0, "stamp"),
        (-5, "stamp"),
        (NOW - 800_000_001, "stale"),
        (NOW - 5_000_000_000, "stale"),
    ],
)
def test_age_is_counted_from_the_image(profile, kinematics, start, stamp, code):
    history = JointHistory(profile.arm_joints)
    delta = Delta(stamp, "panda_link0", 3, 8, (0, 0, 0), (0, 0, 0), 0.0)
    situation = Situation(NOW, 3, 7, -10, start, np.zeros(7), 0.0)
    assert SafetyFilter(profile, kinematics, None).check(delta, situation, history).code == code


def test_an_image_from_before_the_joint_states_is_refused(profile, kinematics, start):
    history = JointHistory(profile.arm_joints)
    history.add(STAMP + 1, profile.arm_joints, start)
    delta = Delta(STAMP, "panda_link0", 3, 8, (0, 0, 0), (0, 0, 0), 0.0)
    situation = Situation(NOW, 3, 7, 0, start, np.zeros(7), 0.0)
    verdict = SafetyFilter(profile, kinematics, None).check(delta, situation, history)
    assert verdict.code == "history"
    assert "no joint state as old as that" in verdict.reason


def test_large_steps_are_scaled_with_their_direction_kept(check, kinematics, start):
    verdict = check(translation=(0.3, 0.4, 0.0), rotation=(0.0, 0.0, -3.0))
    translation, rotation = kinematics.forward(start).delta_to(verdict.target)
    assert_allclose(translation, [0.06, 0.08, 0.0], atol=1e-9)
    assert_allclose(rotation, [0.0, 0.0, -0.3], atol=1e-9)
    assert verdict.changes == (
        ("translation", "translation 0.5 m cut to 0.1 m"),
        ("rotation", "rotation 3 rad cut to 0.3 rad"),
    )


def test_rounding_is_cut_without_a_word(check, kinematics, start):
    verdict = check(translation=(0.0, 0.10001, 0.0))
    assert verdict.changes == ()
    assert_allclose(kinematics.forward(start).delta_to(verdict.target)[0], [0, 0.1, 0], atol=1e-9)


def test_enormous_steps_do_not_overflow(check, kinematics, start):
    verdict = check(translation=(1e308, 1e308, 0.0))
    translation, _ = kinematics.forward(start).delta_to(verdict.target)
    assert_allclose(translation, [0.1 * np.sqrt(0.5), 0.1 * np.sqrt(0.5), 0], atol=1e-9)


def test_the_tip_stays_above_the_table(check, profile, kinematics, start):
    low = kinematics.inverse(kinematics.forward(start).compose_delta([0, 0, -0.2], [0] * 3), start)
    verdict = check(q=low, translation=(0.02, 0.0, -0.09))
    assert_allclose(verdict.target.position, [0.52, 0.0, profile.workspace_min[2]], atol=1e-5)
    assert verdict.changes == (("workspace", "workspace: z -0.040 m raised to 0.012 m"),)


@pytest.fixture
def up(kinematics, profile, start):
    """Joints of an arm above the workspace."""
    up = kinematics.inverse(kinematics.forward(start).compose_delta([0, 0, 0.4], [0] * 3), start)
    assert kinematics.forward(up).position[2] > profile.workspace_max[2] + 0.04
    return up


@pytest.mark.parametrize("asked", [(0.0, 0.0, 0.0), (4e-4, -4e-4, 4e-4)])
def test_an_arm_outside_the_workspace_stays_when_it_is_asked_to(check, kinematics, up, asked):
    before, verdict = kinematics.forward(up).position, check(q=up, translation=asked)
    assert verdict.accepted
    assert_allclose(verdict.target.position, before, atol=1e-3)
    assert verdict.target.position[2] <= before[2] + 1e-9


def test_with_any_other_step_it_comes_in(check, kinematics, profile, up):
    random = np.random.default_rng(0)
    for _ in range(40):
        place = [*random.uniform([0.35, -0.3], [0.55, 0.3]), random.uniform(0.56, 0.7)]
        pose = dataclasses.replace(kinematics.forward(up), position=np.array(place))
        try:
            q = kinematics.inverse(pose, up)
        except Unreachable:
            continue
        verdict = check(q=q, translation=random.uniform(-0.06, 0.06, 3))
        assert verdict.accepted, (place, verdict.reason)
        assert verdict.target.position[2] < place[2]


def test_from_where_it_has_come_in_to_it_does_not_go_out_again(check, kinematics, up, start):
    """The picture is of an arm further out."""
    for share in (0.5, 1.0):
        q = up + share * (start - up)
        place = kinematics.forward(q).position
        for asked in ((0.0, 0.0, 0.0), (0.03, 0.0, -0.05), (0.02, 0.01, 0.0)):
            verdict = check(q=q, seen=up, translation=asked)
            assert verdict.accepted, (share, asked, verdict.reason)
            assert verdict.target.position[2] < max(place[2], 0.55) + 0.005  # by a step at most


def test_an_arm_that_is_hardly_outside_the_workspace_is_brought_back(
    check, kinematics, profile, start
):
    """By sag, or by how far a way may bulge: what is in is meant."""
    down = profile.workspace_min[2] - 0.004 - kinematics.forward(start).position[2]
    low = kinematics.inverse(kinematics.forward(start).compose_delta([0, 0, down], [0] * 3), start)
    verdict = check(q=low, translation=(0.02, 0.0, -0.01))
    assert verdict.accepted
    assert_allclose(verdict.target.position[2], profile.workspace_min[2], atol=1e-9)


def pull_outwards(check, q):
    """Return the last verdict of 30 steps outwards and up, and the codes of all changes."""
    codes = []
    for _ in range(30):
        verdict = check(q=q, translation=(0.03, -0.03, 0.03))
        if not verdict.accepted:
            break
        codes.extend(change.code for change in verdict.changes)
        q = verdict.chunk.positions[-1]
    return verdict, codes


def test_pulled_outwards_the_arm_slows_and_stops_before_the_singularity(
    check, kinematics, profile, start
):
    speeds = []

    def watched(q, **changes):
        verdict = check(q=q, **changes)
        if verdict.accepted:
            speeds.append(0.05 / verdict.chunk.duration)
        assert kinematics.conditions(np.atleast_2d(q))[0] <= profile.singularity_stop
        return verdict

    verdict, codes = pull_outwards(watched, start)
    assert verdict.code == "singularity"
    assert "a singularity is in the way: condition number" in verdict.reason
    assert "singularity" in codes
    assert speeds[-1] < 0.5 * speeds[0]


def test_pulled_out_of_reach_the_arm_goes_part_of_the_way_and_then_no_further(
    profile, kinematics, judge, start
):
    careless = dataclasses.replace(profile, singularity_slow=1e6, singularity_stop=1e9)
    check = judge(SafetyFilter(careless, kinematics, None))
    verdict, codes = pull_outwards(check, start)
    assert verdict.code == "unreachable"
    assert "target not reachable" in verdict.reason
    assert "way" in codes


def test_the_target_refers_to_the_pose_in_the_image(profile, kinematics, start):
    """The arm has gone on for 0.2 s: what it did since the image is not done twice."""
    seen = kinematics.forward(start)
    now_q = kinematics.inverse(seen.compose_delta([0.03, 0, 0], [0] * 3), start)
    history = JointHistory(profile.arm_joints)
    for i in range(21):
        q = start + (now_q - start) * i / 20
        history.add(STAMP + i * 10_000_000, profile.arm_joints, q)
    delta = Delta(STAMP, "panda_link0", 3, 8, (0.05, 0, 0), (0, 0, 0), 0.0)
    situation = Situation(NOW, 3, 7, 0, now_q, np.zeros(7), 0.0)
    verdict = SafetyFilter(profile, kinematics, None).check(delta, situation, history)
    assert_allclose(verdict.target.position - seen.position, [0.05, 0, 0], atol=1e-6)
    assert_allclose(verdict.chunk.positions[0], now_q)


def test_terminate_comes_without_motion(check):
    verdict = check(terminate=True, translation=(0.1, 0, 0), gripper=1.0)
    assert (verdict.accepted, verdict.chunk, verdict.gripper) == (True, None, None)


@pytest.mark.parametrize(
    ("closed", "wanted", "sent"),
    [(0.0, 1.0, 1.0), (1.0, -3.0, 0.0), (0.0, 7.0, 1.0), (None, 0.0, 0.0)],
)
def test_a_gripper_that_changes_comes_before_any_motion(check, closed, wanted, sent):
    verdict = check(closed=closed, gripper=wanted, translation=(0.1, 0, 0))
    assert (verdict.accepted, verdict.chunk, verdict.gripper) == (True, None, sent)
    assert ("motion", "motion left out while the gripper moves") in verdict.changes


def test_a_gripper_that_hardly_changes_is_left_alone(check):
    verdict = check(closed=1.0, gripper=0.95, translation=(0.05, 0, 0))
    assert verdict.gripper is None
    assert verdict.chunk is not None
