# SPDX-License-Identifier: Apache-2.0
"""Any Hugging Face model: rows are what a policy reads and may write; plan and action are learned;
adapters, frozen towers, three vocabularies.
"""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_runs import (
    SOURCES,
    Colour,
    losses,
    talk,
    tiny_config,
    tiny_run,
    vlm_checkpoint,
    vlm_config,
    vlm_run,
    vlm_stage,
)
from transformers import AutoModelForImageTextToText

from rt2_ros.actions import Grammar, action_prompt, answer_text
from rt2_ros.data.robot import SPACE
from rt2_ros.data.samples import Frame, Query
from rt2_ros.models.prepare import by_processor
from rt2_ros.models.tiny import build_model, build_processor
from rt2_ros.policies import Observation, load_policy
from rt2_ros.training.augment import Augmentation, Augmented
from rt2_ros.training.data import Mixture, keep_plans
from rt2_ros.training.packing import IGNORED
from rt2_ros.training.rows import Rower, _joined
from rt2_ros.training.vlm import VlmObjective, merged, vision_of

from ..models.architectures import filled, idefics3, smolvlm, with_two_pictures
from ..models.saved import save_llava

IMAGE = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
BINS = [0, 1, 2, 3, 127, 127, 127, 255]
ACT = Query("Q: what action should the robot take to hold? A:", answer_text(BINS, "key"), "robot")
SHORT = Query("Q: where is it? A:", "131", "web")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return vlm_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def processor():
    return build_processor()


@pytest.mark.parametrize("scheme", ["integers", "digits", "least_used"])
def test_rows_are_the_prompt_of_a_policy_and_an_answer_that_its_grammar_allows(processor, scheme):
    rower = Rower(processor, SPACE, vocabulary=scheme)
    rows = rower([Frame(IMAGE, (ACT, SHORT), ())])
    prompt = by_processor(processor, [IMAGE], ACT.prompt)
    length = prompt["input_ids"].shape[1]
    assert torch.equal(rows.inputs["input_ids"][0, :length], prompt["input_ids"][0])
    assert torch.equal(rows.inputs["pixel_values"][0], prompt["pixel_values"][0])
    asked = rows.labels[0] != IGNORED
    answer = rows.labels[0][asked]
    # What is read after the prompt is the answer but for its end, each token one place later.
    assert asked.nonzero()[0, 0] == length - 1
    assert torch.equal(rows.inputs["input_ids"][0, length:], answer[:-1])
    grammar = Grammar(rower.vocabulary, SPACE, plan="required")
    assert grammar.accepts(answer.tolist())
    parsed = grammar.read(answer.tolist())
    assert parsed.bins.tolist() == BINS and parsed.plan == "key"
    # Padding is neither seen nor asked for.
    end = int(rows.inputs["attention_mask"][1].sum())
    assert end < rows.labels.shape[1] and not rows.inputs["attention_mask"][1, end:].any()
    assert (rows.labels[1, end:] == IGNORED).all()
    # The prompt is read both ways, the answer from left to right (PaliGemma's types).
    assert rows.inputs["token_type_ids"][0].tolist() == [0] * length + [1] * (len(answer) - 1)
    assert rows.robot.tolist() == [True, False]


def test_rows_of_several_pictures_and_of_one_make_a_batch(processor):
    rower = Rower(processor, SPACE)
    model = build_model(processor, hidden=96, vision_layers=1, text_layers=1)
    objective = VlmObjective(model).eval()
    other = 255 - IMAGE
    frames = [Frame(IMAGE, (ACT,), (), others=(other,)), Frame(IMAGE, (SHORT,), ())]
    rows = rower(frames)
    assert len(rows.inputs["pixel_values"]) == 3
    with torch.no_grad():
        together = objective(rows).figures
        apart = [objective(rower([frame])).figures["answer"] for frame in frames]
        swapped = dataclasses.replace(frames[0], image=other, others=(IMAGE,))
        assert objective(rower([swapped])).figures["answer"] != pytest.approx(apart[0], rel=1e-5)
    assert [together["robot"], together["web"]] == pytest.approx(apart, rel=1e-4)


@pytest.mark.parametrize("build", [idefics3, smolvlm])
def test_where_rows_have_pictures_beside_each_other_none_is_all_zeros(build):
    torch.manual_seed(0)
    one = filled(build())
    two = with_two_pictures(one)
    given = [two.inputs(0, [20, 21]), one.inputs(1, [20, 21, 22, 23, 24, 25])]
    assert given[0]["input_ids"].shape == given[1]["input_ids"].shape
    joined = {name: _joined([each[name] for each in given]) for name in given[0]}
    assert joined["pixel_values"].shape[:2] == (2, 2)
    with torch.no_grad():
        together = one.model(**joined).logits
        apart = torch.cat([one.model(**each).logits for each in given])
    torch.testing.assert_close(together, apart, rtol=1e-3, atol=1e-4)


class Second(Colour):
    """The same, of which the second of two pictures tells it; the first is noise."""

    pictures = 2

    def __call__(self, random):
        frame = super().__call__(random)
        noise = random.integers(0, 256, frame.image.shape, dtype=np.uint8)
        return dataclasses.replace(frame, image=noise, others=(frame.image,))


def test_a_model_learns_what_its_second_picture_tells_and_its_policy_looks_at_both(
    tmp_path, checkpoint
):
    stage = vlm_stage(steps=150, shares={"colour": 0.8, "talk": 0.2}, learning_rate=2e-3,
                      batch_size=6)  # fmt: skip
    config = vlm_config(tmp_path, checkpoint, stages=(stage,), log_every=20)
    folder = vlm_run(config, {"colour": Second(), "talk": talk}).run()
    record = json.loads((folder / "training.json").read_text())
    assert record["policy"]["pictures"] == 2
    policy = load_policy(str(folder))
    low, high = np.array(SPACE.state_low), np.array(SPACE.state_high)
    state = low + (np.array([1, 2, 3, 4]) + 0.5) / 256 * (high - low)  # as it was asked
    for which, word in enumerate(Colour.words):
        images = {"front": IMAGE, "wrist": Colour.image(which), "side": IMAGE}
        decision = policy.infer(Observation(images, "hold", state))
        assert (decision.plan, decision.bins.tolist()) == (word, Colour.bins(which))
    one = policy.infer(Observation({"front": IMAGE}, "hold", state))
    assert one.action is None
    assert one.reason == "the model looks at 2 pictures, and there is 1: front"


def test_the_default_model_looks_at_one_picture(tmp_path):
    with pytest.raises(ValueError, match="source colour: camera names 2; expected one"):
        tiny_run(tiny_config(tmp_path), {"colour": Second(), "talk": talk})


def test_the_loss_is_that_of_the_model_itself_and_weighs_web_data(processor):
    rower = Rower(processor, SPACE)
    model = build_model(processor, hidden=96, vision_layers=1, text_layers=2)
    objective = VlmObjective(model).eval()
    rows = rower([Frame(IMAGE, (ACT, SHORT), ())])
    with torch.no_grad():
        logits = model(**rows.inputs).logits.log_softmax(-1)
        told = rows.labels.clamp(min=0)[..., None]
        each = -logits.gather(-1, told)[..., 0] * (rows.labels != IGNORED)
        counts = (rows.labels != IGNORED).sum(1)
        act, web = each.sum(1)
        for web_weight in (1.0, 0.25, 0.0):
            expected = (act + web_weight * web) / (counts[0] + web_weight * counts[1])
            losses = objective(rows, web_weight=web_weight)
            assert float(losses.total) == pytest.approx(float(expected), rel=1e-4)
        assert losses.figures["robot"] == pytest.approx(float(act / counts[0]), rel=1e-4)


def test_what_cannot_be_trained_on_is_refused(processor):
    rower = Rower(processor, SPACE)
    broken = dataclasses.replace(ACT, answer="0 1 2 3")
    with pytest.raises(ValueError, match="'0 1 2 3': .*4 integers"):
        rower([Frame(IMAGE, (broken,), ())])
    with pytest.raises(ValueError, match="no picture"):
        rower([Frame(None, (ACT,), ())])
    with pytest.raises(ValueError, match="given in part"):
        rower([Frame(IMAGE, (dataclasses.replace(ACT, given="Plan: key"),), ())])
    marked = dataclasses.replace(SHORT, answer="the <image> tag")
    with pytest.raises(ValueError, match="answer 'the <image> tag' spells <image>"):
        rower([Frame(IMAGE, (marked,), ())])
    long = dataclasses.replace(SHORT, answer=600 * "red ")
    with pytest.raises(ValueError, match="has 6.. tokens with its answer; expected at most 512"):
        rower([Frame(IMAGE, (SHORT, long), ())])
    assert len(Rower(processor, SPACE, tokens=700)([Frame(IMAGE, (long,), ())]).labels) == 1


def test_a_sample_that_cannot_be_packed_is_bad_and_no_other(processor):
    class Flawed(Colour):
        def __call__(self, random):
            frame = super().__call__(random)
            if frame.origin != "colour 1":
                return frame
            answer = f"Plan: {200 * 'red '}. Action: 0 20 31 42 53 64 75 255"
            query = dataclasses.replace(frame.queries[0], answer=answer)
            return dataclasses.replace(frame, queries=(query,))

    sources = {"colour": Augmented(Flawed(), Augmentation(crop=0.1), "colour"), "talk": talk}
    values = {"shares": {"colour": 3, "talk": 1}, "pack": Rower(processor, SPACE), "seed": 0}
    whole = Mixture({"colour": Colour(), "talk": talk}, **values, batch_size=8).draw(0)
    assert "colour 1" in whole.origins
    drawn = Mixture(sources, **values, batch_size=8, skip=True).draw(0)
    assert drawn.left_out
    assert all("at most 128 tokens" in bad and "colour 1: " in bad for bad in drawn.left_out)
    assert len(drawn.batch.labels) == 8 and drawn.sources == whole.sources
    assert set(drawn.origins) == {"colour 0", "colour 2", ""}
    stopped = Mixture(sources, **values, batch_size=8).draw(0)
    assert stopped.batch is None and stopped.stopped == drawn.left_out[0]


def test_plan_and_action_are_both_learned(tmp_path, checkpoint):
    """With plans on half of the answers the model acts rightly with a plan and without."""
    stage = vlm_stage(
        steps=480, shares={"colour": 1.0}, plan_share=0.5, learning_rate=2e-3, batch_size=6
    )
    config = vlm_config(tmp_path, checkpoint, stages=(stage,), log_every=20, precision="bf16")
    folder = vlm_run(config).run()
    record = json.loads((folder / "training.json").read_text())
    assert record["policy"] == {
        "type": "vlm", "vocabulary": "integers", "prefix_attention": "full", "image_size": 192,
        "plan": "required", "max_plan_tokens": 128,
    }  # fmt: skip
    planning = load_policy(str(folder), plan="required")
    acting = load_policy(str(folder), plan="none")
    low, high = np.array(SPACE.state_low), np.array(SPACE.state_high)
    state = low + (np.array([1, 2, 3, 4]) + 0.5) / 256 * (high - low)  # as it was asked
    for which, word in enumerate(Colour.words):
        observation = Observation({"scene": Colour.image(which)}, "hold", state)
        decision = planning.infer(observation)
        assert decision.plan == word
        assert decision.bins.tolist() == Colour.bins(which)
        assert acting.infer(observation).bins.tolist() == Colour.bins(which)


def test_a_prompt_that_attends_both_ways_is_not_trained_on_as_if_it_did_not(tmp_path, checkpoint):
    folder = tmp_path / "published"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    del config["text_config"]["use_bidirectional_attention"]  # as PaliGemma's own
    (folder / "config.json").write_text(json.dumps(config))
    causal = {"prefix_attention": "causal"}
    with pytest.raises(ValueError, match="^prefix_attention is 'causal'; expected 'full', for the"):
        vlm_run(vlm_config(tmp_path / "run", folder, model=causal))
    vlm_run(vlm_config(tmp_path / "run", folder))
    vlm_run(vlm_config(tmp_path / "causal", checkpoint, model=causal))
    SPACE.save(folder / "action_space.json")
    with pytest.raises(ValueError, match="policy published: prefix_attention is 'causal'; expect"):
        load_policy(str(folder), prefix_attention="causal")
    assert (
        load_policy(str(folder))
        .infer(Observation({"scene": IMAGE}, "hold", np.array([0.5, 0.0, 0.2, 0.0])))
        .action
    )


def test_plans_are_kept_on_the_share_that_is_asked_for():
    random = np.random.default_rng(0)
    frame = Frame(IMAGE, (ACT, SHORT) * 500, ())
    kept = keep_plans(random, frame, 0.25)
    plans = [query.answer.startswith("Plan: key. Action:") for query in kept.queries[::2]]
    assert np.mean(plans) == pytest.approx(0.25, abs=0.05)
    bare = {query.answer for query, plan in zip(kept.queries[::2], plans, strict=True) if not plan}
    assert bare == {answer_text(BINS)}
    assert all(query is SHORT for query in kept.queries[1::2])


def test_an_answer_without_a_plan_is_asked_for_without_a_word_of_the_one_before():
    reminded = action_prompt("take the key", [1, 2, 3, 4], "key 38 109 at 1 2")
    bare = action_prompt("take the key", [1, 2, 3, 4])
    asked = [Query(reminded, answer_text(BINS, "key. up"), "robot"), Query(bare, "key 38", "robot")]
    random = np.random.default_rng(0)
    acting, beginning = keep_plans(random, Frame(IMAGE, tuple(asked), ()), 0.0).queries
    assert (acting.prompt, acting.answer) == (bare, answer_text(BINS))
    assert beginning is asked[1]


@pytest.mark.parametrize("freeze_vision", [False, True])
def test_adapters_alone_are_trained_and_merged_in_what_is_written(
    tmp_path, checkpoint, freeze_vision
):
    model = {"lora": {"rank": 2, "alpha": 8}, "freeze_vision": freeze_vision}
    config = vlm_config(tmp_path, checkpoint, model=model, stages=(vlm_stage(steps=3),))
    run = vlm_run(config)
    trained = {n for n, p in run.recipe.objective.named_parameters() if p.requires_grad}
    assert trained and all(".lora_" in name for name in trained)
    assert any("vision" in name for name in trained) != freeze_vision
    folder = run.run()
    before = AutoModelForImageTextToText.from_pretrained(checkpoint).state_dict()
    after = AutoModelForImageTextToText.from_pretrained(folder)
    assert set(after.state_dict()) == set(before)
    changed = {n for n, v in after.state_dict().items() if not torch.equal(v, before[n])}
    assert changed and all(n.endswith("_proj.weight") for n in changed)
    assert any("vision" in name for name in changed) != freeze_vision
    # Its answers are those of the model with its adapters beside it.
    rows = run.recipe.pack([SOURCES["colour"](np.random.default_rng(0))])
    with torch.no_grad():
        run.recipe.objective.eval()
        torch.testing.assert_close(
            after.eval()(**rows.inputs).logits,
            run.recipe.objective.model(**rows.inputs).logits, atol=1e-4, rtol=1e-4,
        )  # fmt: skip


def test_merging_is_what_peft_does(processor):
    torch.manual_seed(0)
    model = build_model(processor, hidden=96, vision_layers=1, text_layers=1)
    adapted = get_peft_model(model, LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj"]))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    ours = merged({n: v.clone() for n, v in adapted.state_dict().items()}, 3.0)
    theirs = adapted.merge_and_unload().state_dict()
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)


def test_a_frozen_vision_tower_stays(tmp_path, checkpoint):
    stages = (vlm_stage(steps=2),)
    config = vlm_config(tmp_path, checkpoint, model={"freeze_vision": True}, stages=stages)
    folder = vlm_run(config).run()
    before = AutoModelForImageTextToText.from_pretrained(checkpoint).state_dict()
    after = AutoModelForImageTextToText.from_pretrained(folder).state_dict()
    for name, value in before.items():
        assert torch.equal(value, after[name]) == ("vision_tower" in name), name


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 8}])
def test_nothing_goes_back_through_what_is_frozen(tmp_path, checkpoint, lora):
    """Checkpointing by Transformers asks each tower's first layer for a gradient of its input."""
    model = {"freeze_vision": True, "gradient_checkpointing": True, "lora": lora}
    recipe = vlm_run(vlm_config(tmp_path, checkpoint, model=model)).recipe
    wanted = []
    vision = vision_of(recipe._model)
    vision.register_forward_hook(lambda _, given, out: wanted.append(out[0].requires_grad))
    recipe.objective.train()
    batch = recipe.pack([SOURCES["colour"](np.random.default_rng(0))])
    recipe.objective(batch, web_weight=1.0).total.backward()
    assert wanted == [False]
    trained = [p for p in recipe.objective.parameters() if p.requires_grad]
    assert trained and all(p.grad is not None for p in trained)


def test_a_model_with_a_chat_template_and_numbers_in_digits_learns(tmp_path):
    """LLaVA, its vision tower frozen."""
    checkpoint = save_llava(tmp_path / "llava")
    stages = (vlm_stage(steps=30, shares={"colour": 1.0}, learning_rate=5e-3),)
    model = {"freeze_vision": True}
    folder = vlm_run(vlm_config(tmp_path / "run", checkpoint, model=model, stages=stages)).run()
    told = losses(tmp_path / "run")
    assert told[30][0] < 0.5 * told[1][0]
    policy = load_policy(str(folder))
    assert policy.image_size == 192
    observation = Observation({"scene": Colour.image(0)}, "hold", np.array(SPACE.state_low))
    decision = policy.infer(observation)
    assert decision.action is not None and decision.plan, decision.reason
    before, after = (
        AutoModelForImageTextToText.from_pretrained(of).state_dict() for of in (checkpoint, folder)
    )
    for name, value in before.items():
        assert torch.equal(value, after[name]) == ("vision_tower" in name), name


def test_rare_tokens_that_got_a_meaning_are_written_down(tmp_path, checkpoint):
    model = {"vocabulary": "least_used", "lora": {"rank": 2}, "embeddings": True}
    config = vlm_config(tmp_path, checkpoint, model=model, stages=(vlm_stage(steps=1),))
    folder = vlm_run(config).run()
    policy = json.loads((folder / "training.json").read_text())["policy"]
    assert len(policy["vocabulary_ids"]) == 256
    del policy["type"]
    decision = load_policy(str(folder), **policy).infer(
        Observation({"scene": IMAGE}, "hold", np.array([0.5, 0.0, 0.2, 0.0]))
    )
    assert decision.action is not None
    after = AutoModelForImageTextToText.from_pretrained(folder).state_dict()
    before = AutoModelForImageTextToText.from_pretrained(checkpoint).state_dict()
    name = "model.language_model.embed_tokens.weight"
    assert not torch.equal(after[name], before[name])


def test_rare_tokens_are_learned_in_an_output_matrix_of_its_own(tmp_path):
    """LLaVA's is not tied to its embeddings."""
    checkpoint = save_llava(tmp_path / "llava")
    model = {"lora": {"rank": 2}, "embeddings": True}
    stages = (vlm_stage(steps=1, shares={"colour": 1.0}),)
    folder = vlm_run(vlm_config(tmp_path / "run", checkpoint, model=model, stages=stages)).run()
    before, after = (
        AutoModelForImageTextToText.from_pretrained(of).state_dict() for of in (checkpoint, folder)
    )
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        assert not torch.equal(after[name], before[name]), name


def test_adapters_for_layers_that_are_not_there_are_refused(tmp_path, checkpoint):
    with pytest.raises(ValueError, match="no linear layer is called query_key_value"):
        model = {"lora": {"targets": ["query_key_value"]}}
        vlm_run(vlm_config(tmp_path, checkpoint, model=model), {"colour": Colour()})
