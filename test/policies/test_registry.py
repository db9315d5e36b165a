# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from rt2_ros.actions import Action
from rt2_ros.policies import Decision, Observation, Policy, load_policy, policy_names
from rt2_ros.policies.registry import policy_identity

IMAGE = np.zeros((4, 6, 3), np.uint8)


def test_hold_asks_the_arm_to_stay_and_keeps_the_gripper():
    policy = load_policy("hold")
    assert isinstance(policy, Policy)

    decision = policy.infer(Observation({"scene": IMAGE}, "pick up", np.array([0.4, 0, 0.2, 1.0])))

    assert decision.action == Action(False, np.zeros(3), np.zeros(3), 1.0)
    np.testing.assert_array_equal(decision.bins, [0, 127, 127, 127, 127, 127, 127, 255])


def test_an_unknown_policy_is_refused_with_the_names_that_exist():
    assert "hold" in policy_names()
    with pytest.raises(ValueError, match="no policy 'rt3'.*hold"):
        load_policy("rt3")


def test_an_unknown_type_or_key_is_named(tmp_path):
    (tmp_path / "odd.yaml").write_text("type: magic\n")
    with pytest.raises(ValueError, match="odd.yaml: type is 'magic'; expected one of hold, .*vlm"):
        load_policy(str(tmp_path / "odd.yaml"))
    with pytest.raises(ValueError, match="policy hold: unknown keys speed"):
        load_policy("hold", speed=3)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "odd.yaml").write_text("type: [hold\n")
    with pytest.raises(ValueError, match=r"odd.yaml: not YAML: .*line 2"):
        load_policy(str(tmp_path / "odd.yaml"))
    for name in ("config.json", "training.json"):
        (tmp_path / name).write_text('{"model_type": ')
        with pytest.raises(ValueError, match=f"{name}: not JSON"):
            load_policy(str(tmp_path))
    (tmp_path / "training.json").write_text('{"policy": {"type": "magic"}}')
    with pytest.raises(ValueError, match=r"training.json: type is 'magic'; expected one of hold"):
        load_policy(str(tmp_path))


def test_other_weights_are_another_policy(tmp_path):
    def digest():
        return policy_identity(str(tmp_path))[1]["digest"]

    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = digest()
    (tmp_path / "README.md").write_text("a page about it")
    (tmp_path / "training.json").write_text('{"steps": 9}')
    (tmp_path / "state.pt").write_bytes(b"the optimizer's")
    assert digest() == first
    (tmp_path / "model.safetensors").write_bytes(b"weightz")
    assert digest() != first
    assert "digest" not in policy_identity("hold")[1]


@pytest.mark.parametrize(
    ("images", "state", "message"),
    [
        ({}, None, "images is empty"),
        ({"scene": IMAGE.astype(float)}, None, r"images\['scene'\] is float64 \(4, 6, 3\)"),
        ({"scene": IMAGE[..., 0]}, None, r"uint8 \(4, 6\); expected uint8 \(H, W, 3\)"),
        ({"scene": IMAGE}, np.array([0, 0, np.nan, 0]), "expected 4 finite numbers"),
    ],
)
def test_a_broken_observation_is_refused(images, state, message):
    with pytest.raises(ValueError, match=message):
        Observation(images, "pick up", state)


def test_a_decision_is_an_action_with_bins_or_a_reason():
    with pytest.raises(ValueError, match="reason is empty"):
        Decision(None)
    with pytest.raises(ValueError, match="bins is None"):
        Decision(Action(False, np.zeros(3), np.zeros(3), 0.0))
    with pytest.raises(ValueError, match=r"8 integers in 0\.\.255"):
        Decision.invalid("out of range", bins=[0, 256, 0, 0, 0, 0, 0, 0])
    assert Decision.invalid("7 integers").action is None


def test_what_a_checkpoint_records_of_itself_is_part_of_the_policy(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("type: vlm\ncheckpoint: models/rt2-tiny\nprefix_attention: causal\n")
    assert policy_identity(str(file))[1]["plan"] == "required"
    file.write_text(file.read_text() + "plan: none\n")
    assert policy_identity(str(file))[1]["plan"] == "none"
