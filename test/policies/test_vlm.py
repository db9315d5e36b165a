# SPDX-License-Identifier: Apache-2.0
"""RT-2 on Hugging Face models of several kinds, of random weights: always one valid action."""

import json
import re
import shutil
import warnings
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from rt2_ros.actions import PlanForm
from rt2_ros.bench.policy import episode
from rt2_ros.data.images import square
from rt2_ros.data.robot import SPACE
from rt2_ros.models import bfloat16
from rt2_ros.models.constrain import Step
from rt2_ros.models.tiny import build_model, build_processor
from rt2_ros.policies import Observation, load_policy, settings
from rt2_ros.policies.settings import chosen_dtype

from ..models.saved import save_llava

IMAGE = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
SEEN = Observation({"scene": IMAGE}, "pick up the apple", np.array([0.5, 0.0, 0.2, 0.0]))


def save_tiny(folder):
    processor = build_processor()
    build_model(processor, hidden=96, vision_layers=1, text_layers=1).save_pretrained(folder)
    processor.save_pretrained(folder)
    SPACE.save(folder / "action_space.json")
    return folder


@pytest.mark.parametrize("save", [save_tiny, save_llava])
@pytest.mark.parametrize("plan", ["none", "required"])
def test_any_model_gives_one_valid_action_and_answers_in_words(tmp_path, save, plan):
    policy = load_policy(str(save(tmp_path)), plan=plan, max_plan_tokens=6)
    decision = policy.infer(SEEN)
    assert decision.action is not None, decision.reason
    assert decision.action == policy.action_space.from_bins(decision.bins)
    assert 0 < decision.confidence <= 1
    assert decision.text.endswith(" ".join(map(str, decision.bins.tolist())))
    assert (decision.plan != "") == (plan == "required")
    assert isinstance(policy.answer(IMAGE, "what is at 12 34?"), str)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


def test_a_batch_decides_as_one_by_one():
    policy = load_policy("rt2-tiny")
    rng = np.random.default_rng(0)
    seen = [
        Observation(
            {"scene": rng.integers(0, 256, (192, 192, 3), dtype=np.uint8)},
            f"pick up the {name}",
            np.array([0.5, 0.1, 0.2, 1.0]),
        )
        for name in ("apple", "red apple", "animal that lives in the water", "banana")
    ]
    seen[2:2] = [Observation({"scene": IMAGE}, " ", np.zeros(4)), Observation({"scene": IMAGE}, "")]

    other = load_policy("rt2-tiny")  # the first one remembers now
    together, alone = policy.infer_batch(seen), [other.infer(each) for each in seen]

    assert [d.action is None for d in together] == [False, False, True, True, False, False]
    assert [d.reason for d in together] == [d.reason for d in alone]
    assert [d.text for d in together] == [d.text for d in alone]
    assert len({len(d.plan.split()) for d in alone}) > 2  # they end at different steps
    np.testing.assert_allclose(
        [d.confidence for d in together], [d.confidence for d in alone], atol=1e-4
    )
    assert policy.infer_batch([]) == []


def test_what_a_checkpoint_learned_with_no_policy_may_choose(tmp_path):
    folder = save_tiny(tmp_path)
    record = {"policy": {"type": "vlm", "pictures": 2, "prefix_attention": "causal"}}
    (folder / "training.json").write_text(json.dumps(record))
    path = tmp_path / "mine.yaml"
    path.write_text(f"type: vlm\ncheckpoint: {folder}\nprefix_attention: causal\n")
    with pytest.raises(ValueError, match="policy mine: pictures is 1; expected 2, as the checkpoi"):
        load_policy(str(path))
    assert load_policy(str(path), pictures=2).pictures == 2
    with pytest.raises(ValueError, match="prefix_attention is 'full'; expected 'causal'"):
        load_policy(str(path), pictures=2, prefix_attention="full")
    with pytest.raises(ValueError, match="policy rt2-tiny: pictures is 2; expected 1"):
        load_policy("rt2-tiny", pictures=2)


def test_what_a_policy_does_not_say_is_as_the_checkpoint_learned_it(tmp_path):
    folder = save_tiny(tmp_path)
    told = {"type": "vlm", "vocabulary": "digits", "image_size": 96, "plan": "required"}
    record = {"policy": {**told, "max_plan_tokens": 5, "vocabulary_ids": None}}
    (folder / "training.json").write_text(json.dumps(record))
    path = tmp_path / "mine.yaml"
    path.write_text(f"type: vlm\ncheckpoint: {folder}\n")
    policy = load_policy(str(path))
    assert policy._words.scheme == "digits" and policy.image_size == 96
    assert (policy._grammar.plan, policy._grammar.max_plan_tokens) == ("required", 5)
    others = load_policy(str(path), plan="none", max_plan_tokens=7, vocabulary="digits")
    assert (others._grammar.plan, others._grammar.max_plan_tokens) == ("none", 7)
    for key, value in (("vocabulary", "integers"), ("image_size", 192), ("vocabulary_ids", [5])):
        if key == "vocabulary_ids":
            record["policy"] |= {"vocabulary": "least_used", key: list(range(500, 756))}
            (folder / "training.json").write_text(json.dumps(record))
            assert load_policy(str(path))._words.token_ids == tuple(range(500, 756))
        with pytest.raises(ValueError, match=f"policy mine: {key} is .*; expected .* as the "):
            load_policy(str(path), **{key: value})
    record["policy"]["image_size"] = "96"
    (folder / "training.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="policy mine: image_size is '96'; expected a whole num"):
        load_policy(str(path))
    PlanForm("take it", {}).save(folder)  # which says how long a plan may be
    record["policy"]["image_size"] = 96
    (folder / "training.json").write_text(json.dumps(record))
    assert load_policy(str(path))._grammar.plan == "required"


def test_pictures_of_any_size_are_cut_and_scaled_as_training_did(tiny):
    policy = load_policy(str(tiny), image_size=192)
    wide = np.random.default_rng(5).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    state = np.array([0.5, 0.0, 0.2, 0.0])
    given = policy.inputs(Observation({"scene": wide}, "hold", state))
    same = policy.inputs(Observation({"scene": square(wide, 192)}, "hold", state))
    assert torch.equal(given["pixel_values"], same["pixel_values"])
    assert policy.answer(wide, "what is it?") == policy.answer(square(wide, 192), "what is it?")


def test_a_model_that_needs_the_state_holds_without_it(tiny):
    decision = load_policy(str(tiny)).infer(Observation({"scene": IMAGE}, "pick up the apple"))
    assert decision.action is None and "state is not known" in decision.reason


def test_an_empty_instruction_is_an_invalid_decision(tiny):
    seen = Observation({"scene": IMAGE}, " ", np.zeros(4))
    assert "instruction" in load_policy(str(tiny)).infer(seen).reason


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("plan", ["none", "required"])
def test_scores_that_are_no_numbers_never_become_an_action(tiny, plan, value):
    policy = load_policy(str(tiny), plan=plan)
    with torch.no_grad():  # of one integer, which may come in every choice of a step
        policy.model.get_output_embeddings().weight[policy._words.spellings[7][0]] = value
    decisions = [policy.infer(SEEN), *policy.infer_batch([SEEN, SEEN])]
    assert {each.reason for each in decisions} == {"the model's scores are no numbers"}
    assert all(each.action is None for each in decisions)
    with pytest.raises(ValueError, match="scores are no numbers"):
        policy.answer(IMAGE, "what is this?")


def test_one_spoilt_picture_costs_its_own_decision_alone(tiny, monkeypatch):
    """Neither its neighbours' in a batch, nor the next of its attempt."""
    policy, fresh = (load_policy(str(tiny), plan="required") for _ in range(2))
    spoilt, inputs = replace(SEEN, episode="b"), policy.inputs

    def spoil(observation, remind=True):
        found = inputs(observation, remind)
        if observation is spoilt:
            found["pixel_values"] = found["pixel_values"] * float("nan")
        return found

    monkeypatch.setattr(policy, "inputs", spoil)
    good, bad = policy.infer_batch([SEEN, spoilt])
    assert bad.action is None and good.text == fresh.infer(SEEN).text
    again, after = policy.infer_batch([SEEN, replace(SEEN, episode="b")])
    assert after.text == good.text and after.confidence == pytest.approx(good.confidence, abs=1e-4)
    assert again.text == fresh.infer(SEEN).text


def test_names_of_the_state_that_no_robot_tells_are_refused(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    replace(SPACE, state_names=("gripper", "x", "y", "z")).save(folder / "action_space.json")
    with pytest.raises(ValueError, match="state_names are .*'gripper', 'x'.*expected .*'x', 'y'"):
        load_policy(str(folder))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"plann": "none"}, "unknown key 'plann'"),
        ({"plan": "sometimes"}, "plan: 'sometimes'"),
        ({"dtype": "float31"}, "dtype is 'float31'; expected float32, bfloat16, float16"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"weights": "int4"}, "weights is 'int4'; expected full, int8"),
        ({"device": "tpu"}, "device is 'tpu'; expected cpu, cuda or cuda:N"),
        ({"device": "cuda:x"}, "device is 'cuda:x'; expected cpu, cuda or cuda:N"),
        ({"device": "cuda:99"}, "device is 'cuda:99'; this machine has"),
        ({"prefix_attention": "none"}, "prefix_attention is 'none'"),
        ({"threads": "two"}, "policy .*: threads is 'two'; expected a whole number, 1 or more"),
        ({"threads": -1}, "threads is -1; expected a whole number, 1 or more"),
        ({"threads": True}, "threads is True"),
        ({"smoothing": "6"}, "smoothing is '6'; expected a number, 0 or more"),
        ({"smoothing": float("nan")}, "smoothing is nan"),
        ({"image_size": "192"}, "image_size is '192'; expected a whole number, 1 or more"),
        ({"plan_every": "3"}, "plan_every is '3'; expected a whole number, 1 or more"),
        ({"look_every": 2.5}, "look_every is 2.5; expected a whole number, 1 or more"),
        ({"checkpoint": 3}, "checkpoint is 3; expected a folder or a hub id"),
        ({"device": 0}, "device is 0; expected text"),
        ({"plan": False}, "plan is False; expected text"),
        ({"vocabulary_ids": 7}, "vocabulary_ids is 7; expected a list"),
        ({"vocabulary": "words"}, "'words'"),
    ],
)
def test_bad_settings_are_refused_by_name(tiny, settings, message):
    with pytest.raises(ValueError, match=message):
        load_policy(str(tiny), **settings)


def test_first_digits_of_integers_are_not_near_each_other(tmp_path):
    """In digits "1" begins 1, 12 and 127, and "2" is no neighbour of it."""
    folder = save_llava(tmp_path)
    with pytest.raises(ValueError, match=r"smoothing is 6; expected 0, .* \(vocabulary digits\)$"):
        load_policy(str(folder), smoothing=6)
    policy = load_policy(str(folder), smoothing=0)
    digits = sorted(ids[0] for ids in policy._words.spellings[:10])
    step = Step(digits[3], torch.tensor(digits), torch.full((10,), 0.1))
    assert policy._sure(step).probabilities.item() == pytest.approx(0.1)


def test_a_length_for_plans_that_have_a_form_is_refused():
    with pytest.raises(ValueError, match="max_plan_tokens is 6; expected none, .* have a form"):
        load_policy("rt2-tiny", max_plan_tokens=6)


def test_settings_that_are_left_empty_are_as_if_they_were_not_there(tiny):
    empty = dict.fromkeys(("device", "dtype", "smoothing", "threads", "plan_every", "image_size"))
    assert load_policy(str(tiny), **empty).infer(SEEN).action is not None


@pytest.mark.parametrize("has", [True, False])
def test_a_cpu_without_bfloat16_is_told_once_and_so_is_what_a_small_model_loses(
    tiny, monkeypatch, has
):
    monkeypatch.setattr(bfloat16, "cpu_has_bfloat16", lambda: has)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        policy = load_policy(str(tiny), dtype="bfloat16")
        policy.infer(SEEN)
        policy.infer(SEEN)
    said = [str(each.message) for each in caught if each.category is UserWarning]
    slow = [text for text in said if "this CPU has no bfloat16; decisions take several" in text]
    assert len(slow) == (not has)
    lost = "no lean forward for this PaliGemma, .*: dtype is torch.bfloat16, expected torch.float32"
    assert re.fullmatch(lost, said[-1]) and len(said) == len(slow) + 1
    assert policy.model.dtype == torch.bfloat16


def test_a_cpu_without_float16_is_told(monkeypatch):
    monkeypatch.setattr(settings, "has_float16", lambda device: False)
    with pytest.warns(UserWarning, match="policy mine: this CPU has no float16; decisions take"):
        assert chosen_dtype("mine", "float16", "cpu") == "float16"


def test_a_model_that_finds_no_room_is_named(tiny, monkeypatch):
    def to(model, place):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 5 GiB.\nmore")

    monkeypatch.setattr(PreTrainedModel, "to", to)
    message = rf"checkpoint {tiny} does not fit on device 'cpu' as float32: .*Tried to allocate"
    with pytest.raises(OSError, match=f"{message} 5 GiB.$"):
        load_policy(str(tiny))


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_without_bfloat16_of_its_own_takes_float16(monkeypatch, has):
    asked = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: asked.append(device) or nullcontext())
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or has
    )
    with nullcontext() if has else pytest.warns(UserWarning, match="no bfloat16; float16 instead"):
        assert chosen_dtype("mine", None, "cuda:1") == ("bfloat16" if has else "float16")
    assert asked == [torch.device("cuda", 1)]  # that one, and not the current one


@pytest.mark.skipif(not find_spec("torchao"), reason="no torchao")
def test_matrices_in_int8_are_decoded_as_generate_does_and_act_much_the_same():
    full, small = load_policy("rt2-tiny"), load_policy("rt2-tiny", weights="int8")
    seen = episode(full, 8, 0)
    same = 0
    for before in seen:
        decision = small.infer(before)
        by_generate = small.infer_by_generate(replace(before, episode=f"{before.episode} generate"))
        assert decision.text == by_generate.text and decision.action is not None
        same += int(np.abs(decision.bins - full.infer(before).bins).max() <= 12)
    assert same >= 6
    matrices = {
        name: module.weight
        for name, module in small.model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    assert len(matrices) > 30
    assert {weight.qdata.dtype for weight in matrices.values()} == {torch.int8}


def test_weights_in_int8_without_torchao_name_what_is_missing(tiny, monkeypatch):
    monkeypatch.setattr("rt2_ros.policies.checkpoint.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"torchao is not installed; expected pip install"):
        load_policy(str(tiny), weights="int8")


def test_a_policys_model_embeds_patches_by_a_product_where_it_can(tiny, monkeypatch):
    told = []
    monkeypatch.setattr("rt2_ros.policies.checkpoint.plain_patches", told.append)
    assert load_policy(str(tiny)).model is told[0]


def test_a_checkpoint_without_its_action_space_is_refused(tiny, tmp_path):
    for path in tiny.iterdir():
        if path.name != "action_space.json":
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(OSError, match=r"has no action_space\.json"):
        load_policy(str(tmp_path))


def test_a_checkpoint_that_is_nowhere_is_named():
    with pytest.raises(OSError, match="nobody/nothing-7b"):
        load_policy("rt2-tiny", checkpoint="nobody/nothing-7b")


def without(weights, name):
    del weights[name]


def with_another(weights, name):
    weights[f"{name}s"] = weights[name].clone()


def shorter(weights, name):
    weights[name] = weights[name][:, 1:].clone()


LAYER = "language_model.model.layers.0"
NORM, GATE = f"{LAYER}.input_layernorm.weight", f"{LAYER}.mlp.gate_proj.weight"
SHAPES = r"\(in the file \(288, 95\), expected \(288, 96\)\)"


@pytest.mark.parametrize(
    ("spoil", "name", "message"),
    [
        (None, "", "no file named model.safetensors"),
        (without, NORM, r"1 missing weights, the first is \S*\.0\.input_layernorm\.weight$"),
        (with_another, NORM, r"1 unexpected weights, the first is \S*\.input_layernorm\.weights$"),
        (shorter, GATE, rf"1 mismatched weights, the first is \S*\.gate_proj\.weight {SHAPES}$"),
    ],
    ids=["no file", "missing", "unexpected", "mismatched"],
)
def test_a_broken_checkpoint_is_one_clear_line(tiny, tmp_path, spoil, name, message):
    for path in tiny.iterdir():
        if path.name != "model.safetensors":
            (tmp_path / path.name).symlink_to(path)
    if spoil:
        weights = load_file(tiny / "model.safetensors")
        spoil(weights, name)
        save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(OSError, match=f"does not load: .*{message}") as caught:
        load_policy(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_adapters_that_are_not_merged_are_refused(tiny, tmp_path):
    """Without peft they would be left out, and with it what the base lacks would be made up."""
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(OSError, match=r"has adapters \(adapter_config.json\).*expected merged"):
        load_policy(str(folder))


def test_a_checkpoint_that_is_cut_off_is_refused(tiny, tmp_path):
    for path in tiny.iterdir():
        content = path.read_bytes()
        cut = len(content) // 2 if path.name == "model.safetensors" else len(content)
        (tmp_path / path.name).write_bytes(content[:cut])
    with pytest.raises(OSError, match="does not load: "):
        load_policy(str(tmp_path))
