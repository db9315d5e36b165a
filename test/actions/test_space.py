# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt2_ros.actions import Action, ActionSpace

LOW = (0, -0.1, -0.1, -0.1, -0.25, -0.25, -0.25, 0)
HIGH = (1, 0.1, 0.1, 0.1, 0.25, 0.25, 0.25, 1)


def make(**changes):
    return ActionSpace(**{"name": "t", "low": LOW, "high": HIGH, "frame": "base"} | changes)


def test_action_to_bins_and_back(space):
    action = Action(False, (0.1, -0.1, 0.0), (0.0, 0.25, -0.25), 1.0)
    bins = space.to_bins(action)
    assert bins.dtype == np.uint8
    assert bins.tolist() == [0, 255, 0, 127, 127, 255, 0, 255]
    back = space.from_bins(bins)
    middle = -0.1 + 127 / 255 * 0.2
    np.testing.assert_allclose(back.translation, [0.1, -0.1, middle])
    np.testing.assert_allclose(back.rotation, [-0.25 + 127 / 255 * 0.5, 0.25, -0.25])
    assert (back.terminate, back.gripper) == (False, 1.0)
    np.testing.assert_allclose(action.vector(), [0, 0.1, -0.1, 0.0, 0.0, 0.25, -0.25, 1.0], atol=0)


def test_terminate_is_a_flag_and_never_scaled(space):
    still = ((0, 0, 0), (0, 0, 0), 0)
    assert space.to_bins(Action(True, *still))[0] == 1
    assert space.to_bins(Action(False, *still))[0] == 0
    assert space.from_bins([1, 0, 0, 0, 0, 0, 0, 0]).terminate is True
    for b in (2, 128, 255):
        with pytest.raises(ValueError, match=f"terminate is {b}, expected 0 or 1"):
            space.from_bins([b, 0, 0, 0, 0, 0, 0, 0])


def test_steps_beyond_the_range_are_clipped(space):
    assert space.to_bins(Action(False, (9, -9, 0), (0, 0, 0), 0)).tolist()[1:3] == [255, 0]


@pytest.mark.parametrize("bins", [[0] * 7, [0] * 9, [[0] * 8]])
def test_other_than_eight_bins_are_refused(space, bins):
    with pytest.raises(ValueError, match="bins: shape"):
        space.from_bins(bins)


@given(bins=st.lists(st.integers(0, 255), min_size=7, max_size=7), terminate=st.integers(0, 1))
def test_bins_come_back_as_themselves(space, bins, terminate):
    assert space.to_bins(space.from_bins([terminate, *bins])).tolist() == [terminate, *bins]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("terminate", 1),
        ("translation", (0, 0)),
        ("translation", (0, np.nan, 0)),
        ("rotation", (0, 0, np.inf)),
        ("gripper", 1.1),
        ("gripper", float("nan")),
    ],
)
def test_an_action_names_its_bad_field(field, value):
    good = {"terminate": False, "translation": (0, 0, 0), "rotation": (0, 0, 0), "gripper": 0.5}
    with pytest.raises(ValueError, match=f"Action.{field}: .*expected"):
        Action(**good | {field: value})


def test_an_action_cannot_be_changed():
    action = Action(False, (0, 0, 0), (0, 0, 0), 0.5)
    with pytest.raises(ValueError, match="read-only"):
        action.translation[0] = 1.0
    assert action == Action(False, [0, 0, 0], np.zeros(3), 0.5)
    assert action != Action(True, (0, 0, 0), (0, 0, 0), 0.5)


def test_openvla_has_no_terminate_and_an_inverted_gripper(openvla_space):
    assert openvla_space.written == openvla_space.names[1:]
    assert len(openvla_space.allowed_bins()) == 7
    for closedness, b in ((0.0, 255), (1.0, 127)):  # 1 open, 0 closed, passed through
        bins = openvla_space.to_bins(Action(False, (0, 0, 0), (0, 0, 0), closedness))
        assert bins.tolist() == [0, 127, 127, 127, 127, 127, 127, b]
        back = openvla_space.from_bins(bins)
        assert back.gripper == pytest.approx(closedness, abs=1 / 255)
        np.testing.assert_allclose(back.translation, 0, atol=1e-15)
    assert openvla_space.from_bins([0, 127, 127, 127, 127, 127, 127, 3]).gripper == 1.0


def test_state_bins_are_clipped(space):
    assert space.state_bins([0.5, 0.0, 0.5, 1.0]).tolist() == [127, 127, 255, 255]
    assert space.state_bins([-9, 9, -9, 9]).tolist() == [0, 255, 0, 255]
    with pytest.raises(ValueError, match="state: shape"):
        space.state_bins([0.5, 0.0, 0.5])
    with pytest.raises(ValueError, match="no state_low"):
        make().state_bins([0, 0, 0, 0])


def test_save_and_load(tmp_path, space, openvla_space):
    for s in (space, openvla_space, make()):
        s.save(tmp_path)
        assert ActionSpace.load(tmp_path) == s
        assert ActionSpace.load(tmp_path / "action_space.json") == s
    content = json.loads((tmp_path / "action_space.json").read_text())
    assert "state_names" not in content
    assert content["names"][0] == "terminate"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "ActionSpace.name: ''"),
        ({"frame": 3}, "ActionSpace.frame: 3"),
        ({"scheme": "rt3"}, "ActionSpace.scheme: 'rt3', expected one of rt2, rt1, openvla"),
        ({"names": ("a",) * 8}, "ActionSpace.names: "),
        ({"units": ("mm",) * 8}, "ActionSpace.units: "),
        ({"low": LOW[1:]}, "ActionSpace.low: 7 values, expected 8"),
        ({"low": ("x",) * 8}, "ActionSpace.low: .*expected numbers"),
        ({"high": (*HIGH[:7], float("inf"))}, "ActionSpace.high: .*finite"),
        ({"high": LOW}, "ActionSpace.low: .*expected each below high"),
        ({"low": (-1, *LOW[1:])}, "of terminate: -1.0, 1.0, expected 0, 1"),
        ({"low": (*LOW[:7], 0.2)}, "of gripper: 0.2, 1.0, expected a range that holds 0..1"),
        ({"gripper_positive": "up"}, "ActionSpace.gripper_positive: 'up'"),
        ({"state_low": (0, 0, 0)}, "ActionSpace.state_low: 3 values, expected 4"),
        ({"state_low": (0,) * 4}, "ActionSpace.state_high: 0 values, expected 4"),
    ],
)
def test_a_space_names_its_bad_field(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting"),
        ("[]", "expected a JSON object"),
        ('{"name": "t", "size": 8}', r"unknown fields \['size'\]"),
        ('{"name": "t"}', r"missing fields \['frame', 'high', 'low'\]"),
        ('{"name": "t", "frame": "b", "low": 3, "high": [1]}', "ActionSpace.low: 3"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, message):
    file = tmp_path / "action_space.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"{file}: .*{message}"):
        ActionSpace.load(file)


def test_a_checkpoint_without_its_space_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="action_space.json: no such file; a checkpoint"):
        ActionSpace.load(tmp_path)
