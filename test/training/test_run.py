# SPDX-License-Identifier: Apache-2.0
"""Runs: schedules, what a short one writes, early stopping."""

import gc
import json
import math
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_runs import (
    NAMES,
    SOURCES,
    Colour,
    break_off,
    log,
    tiny_config,
    tiny_run,
    tiny_stage,
    vlm_checkpoint,
    vlm_config,
    vlm_run,
    vlm_stage,
)
from transformers import AutoModelForImageTextToText

from rt2_ros.data import digests, split
from rt2_ros.data.robot import SPACE
from rt2_ros.policies import load_policy
from rt2_ros.training import tiny
from rt2_ros.training.augment import Augmentation, Augmented
from rt2_ros.training.config import TinySizes, Validation
from rt2_ros.training.data import Drawn
from rt2_ros.training.engine import Run
from rt2_ros.training.objective import Losses, mean_figures
from rt2_ros.training.schedule import schedule, soften
from rt2_ros.training.sources import WebSource

pytestmark = pytest.mark.usefixtures("plain")


def test_schedule_warms_up_and_falls_to_its_floor():
    stage = tiny_stage(warmup=0.1, floor=0.05)
    assert schedule(stage, 0.0) == pytest.approx(0.02 * 2e-3)
    assert schedule(stage, 0.1) == pytest.approx(2e-3)
    assert schedule(stage, 1.0) == pytest.approx(0.05 * 2e-3)
    assert soften(replace(stage, sigma=(4.0, 1.0)), 0.5) == pytest.approx(2.0)


def test_a_short_run_writes_a_policy_with_its_record_and_takes_another_stage(tmp_path):
    run = tiny_run(tiny_config(tmp_path, stages=(tiny_stage(minutes=0.02, steps=0),)))
    checkpoint = run.run()
    assert checkpoint == tmp_path / "checkpoint"
    assert {"loss.png", "tensorboard", "log.jsonl"} <= {p.name for p in tmp_path.iterdir()}
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    first = log(tmp_path)[0]
    assert (first["share/colour"], first["expected/colour"]) == (1.0, 1.0)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    for name, tensor in run.recipe.objective.model.state_dict().items():
        assert torch.equal(model.state_dict()[name].cpu(), tensor.cpu()), name
    record = json.loads((checkpoint / "training.json").read_text())
    assert record["steps"] == run.place.step and record["split"] and record["revision"]
    assert record["seed"] == 0 and record["mixture"] == {"act": {"colour": 1.0}}
    assert record["statistics"] == {"colour": {"frames": 3}}
    policy = {k: v for k, v in record["policy"].items() if k != "type"}
    assert load_policy(str(checkpoint), **policy).action_space.frame == "panda_link0"
    # Started again with one more stage it keeps its weights and goes on.
    stages = (*run.config.stages, tiny_stage(name="more", steps=2))
    again = tiny_run(tiny_config(tmp_path, stages=stages))
    assert (again.place.step, again.place.stage) == (run.place.step, 1)
    again.run()
    assert again.place.step == run.place.step + 2 and again.place.stage == 2
    record = json.loads((checkpoint / "training.json").read_text())
    (sitting,) = record["sittings"]
    assert sitting["steps"] == run.place.step and len(sitting["config"]["stages"]) == 1
    assert sitting["held_out"] == record["held_out"] == digests.held_out()
    assert sitting["split"] == record["split"] == split.digest()
    # Broken off and gone on with, it is the same sitting.
    assert tiny_run(tiny_config(tmp_path, stages=stages)).record()["sittings"] == [sitting]


def test_a_run_whose_bins_would_mean_something_else_is_not_gone_on_with(tmp_path):
    """As where ranges are a dataset's quantiles, and episodes were added to it."""
    tiny_run(tiny_config(tmp_path)).run()
    wider, other = Colour(), Colour()
    wider.space = replace(SPACE, high=(*SPACE.high[:3], 0.3, *SPACE.high[4:]))
    recipe = tiny.TinyRecipe(tiny_config(tmp_path), SOURCES)
    message = r"action_space.json: high was \(1.* and is .* 0\.3, .*set the source's `space` to"
    with pytest.raises(ValueError, match=message):
        Run(tiny_config(tmp_path), recipe, SOURCES, wider.space)
    # Of another robot in the mixture it is as wrong as of the one that the checkpoint speaks.
    with pytest.raises(ValueError, match="action_spaces, colour: high was"):
        Run(tiny_config(tmp_path), recipe, {**SOURCES, "colour": wider}, SPACE)
    ranges = [tuple(value * (1 + 1e-12) for value in SPACE.low[1:7])]  # of another machine
    other.space = replace(SPACE, name="moved", low=(0.0, *ranges[0], 0.0))
    record = tmp_path / "checkpoint" / "action_space.json"  # of before a state's names were ours
    told = json.loads(record.read_text()) | {"state_names": ["state0", "x", "y", "q"]}
    record.write_text(json.dumps(told))
    sources = {**SOURCES, "colour": other, "new": wider}
    again = Run(tiny_config(tmp_path), recipe, sources, other.space)
    assert again.place.step == 6


def test_a_run_that_has_ended_says_so_and_what_would_be_trained_otherwise(tmp_path, capsys):
    def told(**changes):
        capsys.readouterr()
        run = tiny_run(tiny_config(tmp_path, **changes))
        assert run.run() == tmp_path / "checkpoint"  # which is exported as ever
        return run.place.step, " ".join(capsys.readouterr().out.split())

    assert told()[0] == 6
    done = "all 1 stages are done: to train more add a stage, or choose another --out"
    step, said = told()
    assert step == 6 and done in said and "warning" not in said
    more = tiny_stage(steps=9)
    step, said = told(stages=(more,), sources={**NAMES, "talk": {"type": "other"}})
    assert step == 6 and done in said
    assert "trained with other stages, sources than are configured now" in said
    step, said = told(stages=(tiny_stage(), more))
    assert step == 15 and "done" not in said and "other" not in said
    run = tiny_run(tiny_config(tmp_path / "broken", save_steps=3))
    break_off(run).run()
    capsys.readouterr()
    tiny_run(tiny_config(tmp_path / "broken", stages=(more,)))  # it goes on as is said now
    assert "warning" not in capsys.readouterr().out


def test_a_stage_that_is_kept_leaves_a_policy_and_another_run_starts_from_it(tmp_path):
    stages = (tiny_stage(name="read", steps=2, keep=True), tiny_stage(steps=2))
    first = tiny_run(tiny_config(tmp_path / "first", stages=stages))
    first.run()
    kept = tmp_path / "first" / "read"
    record = json.loads((kept / "training.json").read_text())
    assert record["steps"] == 2 and not (kept / "state.pt").exists()
    assert not (tmp_path / "first" / "act").exists()
    assert load_policy(str(kept)).name == "first-read"
    weights = AutoModelForImageTextToText.from_pretrained(kept).state_dict()
    again = tiny_run(tiny_config(tmp_path / "again", init=str(kept), seed=3))
    own = again.recipe.objective.model.state_dict()
    ended = first.recipe.objective.model.state_dict()
    for name, tensor in weights.items():
        assert torch.equal(own[name].cpu(), tensor), name
    assert not all(torch.equal(weights[name], ended[name].cpu()) for name in weights)
    assert again.place.step == 0 and not any(o.state for o in again.optimizers)
    (sitting,) = again.record()["sittings"]
    assert (sitting["steps"], sitting["config"]["out"]) == (2, str(tmp_path / "first"))


def test_a_run_killed_before_a_stage_was_kept_keeps_it_when_it_goes_on(tmp_path, monkeypatch):
    stages = (tiny_stage(name="read", steps=2, keep=True), tiny_stage(steps=2))
    run = tiny_run(tiny_config(tmp_path, stages=stages))
    export = run._export

    def killed(folder, *others):
        if folder.name == "read":
            raise KeyboardInterrupt
        export(folder, *others)

    monkeypatch.setattr(run, "_export", killed)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    again = tiny_run(tiny_config(tmp_path, stages=stages))
    again.run()
    assert json.loads((tmp_path / "read" / "training.json").read_text())["steps"] == 2
    assert again.place.step == 4


def test_patches_are_fitted_to_pictures_of_training(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(tiny, "_fit_patches", lambda model, sources, random: drawn.append(random))
    tiny.TinyRecipe(tiny_config(tmp_path, seed=3), SOURCES)
    expected = np.random.default_rng(split.TRAIN_SEEDS.start + 3)
    assert drawn[0].bit_generator.state == expected.bit_generator.state
    monkeypatch.undo()
    monkeypatch.setattr(tiny, "SAMPLE", 2)
    monkeypatch.setattr(tiny, "whiten_patches", lambda model, pixels: drawn.append(len(pixels)))
    varied = Augmented(WebSource(), Augmentation(blur=1.0))
    tiny._fit_patches(None, {"web": varied}, np.random.default_rng(0))
    assert drawn[1:] == [2]


def test_a_start_of_another_vocabulary_or_size_is_refused(tmp_path):
    kept = vlm_checkpoint(tmp_path / "start")
    sizes = TinySizes(hidden=96, vision_layers=2, text_layers=2)
    with pytest.raises(ValueError, match="init: model.vision_tower.*shape None; the configured"):
        tiny_run(tiny_config(tmp_path / "run", init=str(kept), model=sizes))
    words = json.loads((kept / "tokenizer.json").read_text())
    vocabulary = words["model"]["vocab"]
    size = len(vocabulary)
    number = vocabulary.pop("banana")
    vocabulary["zzyzx"] = number
    (kept / "tokenizer.json").write_text(json.dumps(words))
    message = f"init: .*start has a vocabulary of {size}.*this code one of {size}.*'banana'"
    with pytest.raises(ValueError, match=message.replace(str(size), r"\d+")):
        tiny_run(tiny_config(tmp_path / "run", init=str(kept)))
    with pytest.raises(ValueError, match="init: 'nowhere' is no checkpoint"):
        tiny_run(tiny_config(tmp_path / "run", init="nowhere"))


def test_a_stage_ends_when_validation_no_longer_falls_and_its_best_is_kept(tmp_path, monkeypatch):
    told = iter([3.0, 2.0, 2.5, 2.25, 1.0])
    config = tiny_config(
        tmp_path, stages=(tiny_stage(steps=40),),
        validation=Validation(every=2, batches=1, patience=2),
    )  # fmt: skip
    run = tiny_run(config, held_out=SOURCES)
    real, steps = run._summed, []

    def summed(*values):
        if len(values) == 2:  # a validation's loss and weight
            assert math.isfinite(values[0]) and values[1] == 1.0
            steps.append(run.place.step)
            return [next(told), 1.0]
        return real(*values)

    monkeypatch.setattr(run, "_summed", summed)
    best = run.run()
    assert steps == [2, 4, 6, 8] and run.place.step == 8
    assert best == tmp_path / "best"
    assert json.loads((best / "training.json").read_text())["steps"] == 4
    assert not (best / "state.pt").exists()
    assert [line["validation"] for line in log(tmp_path) if "validation" in line] == [
        3.0, 2.0, 2.5, 2.25,
    ]  # fmt: skip


def test_every_stage_that_ends_early_says_so(tmp_path, monkeypatch):
    config = tiny_config(
        tmp_path, stages=(tiny_stage(name="read"), tiny_stage()),
        validation=Validation(every=1, batches=1, patience=1),
    )  # fmt: skip
    run = tiny_run(config, held_out=SOURCES)

    def rising(stage, held_out):
        run.place.waiting += 1

    monkeypatch.setattr(run, "_validate", rising)
    run.run()
    warned = [line["warning"].partition(":")[0] for line in log(tmp_path) if "warning" in line]
    assert warned == ["step 1", "step 2"]


WATCHED = {"validation": Validation(every=2, batches=1, patience=2)}


def test_an_earlier_stages_best_is_not_handed_out(tmp_path):
    stages = (tiny_stage(name="read", steps=2), tiny_stage(steps=1))  # the second without a look
    config = tiny_config(tmp_path / "at once", stages=stages, **WATCHED)
    assert tiny_run(config, held_out=SOURCES).run() == tmp_path / "at once" / "checkpoint"
    assert not (tmp_path / "at once" / "best").exists()
    for there in (stages[:1], stages):  # the second was added to a run that had ended
        config = tiny_config(tmp_path / "added", stages=there, **WATCHED)
        result = tiny_run(config, held_out=SOURCES).run()
        assert result.name == ("best" if there == stages[:1] else "checkpoint")
    assert json.loads((result / "training.json").read_text())["steps"] == 3


def test_another_runs_best_is_not_handed_out(tmp_path):
    config = tiny_config(tmp_path, stages=(tiny_stage(steps=2),), **WATCHED)
    assert tiny_run(config, held_out=SOURCES).run() == tmp_path / "best"
    assert tiny_run(config, held_out=SOURCES).run() == tmp_path / "best"  # it has ended: the same
    shutil.rmtree(tmp_path / "checkpoint")
    config = tiny_config(tmp_path, stages=(tiny_stage(steps=1),), **WATCHED)
    assert tiny_run(config, held_out=SOURCES).run() == tmp_path / "checkpoint"


def test_a_run_that_goes_on_in_a_stage_keeps_its_best(tmp_path):
    config = tiny_config(
        tmp_path, stages=(tiny_stage(steps=5),), save_steps=3,
        validation=Validation(every=3, batches=1, patience=2),
    )  # fmt: skip
    break_off(tiny_run(config, held_out=SOURCES)).run()
    os.replace(tmp_path / "best", tmp_path / "best.old")  # killed as it took an older one's place
    again = tiny_run(config, held_out=SOURCES)
    assert again.place.stage_step == 3 and again.run() == tmp_path / "best"
    assert json.loads((tmp_path / "best" / "training.json").read_text())["steps"] == 3


def test_a_stage_of_words_alone_leaves_the_tower_as_it_was(tmp_path):
    in_words = tiny_stage(name="reckon", steps=3, batch_size=0, state_rows=2)
    run = tiny_run(tiny_config(tmp_path, stages=(tiny_stage(steps=2), in_words)))
    run._run_stage(run.config.stages[0])
    before = {n: p.detach().clone() for n, p in run.recipe.objective.model.named_parameters()}
    run._begin(1)
    run._run_stage(in_words)
    changed = {
        "vision_tower" in name
        for name, weights in run.recipe.objective.model.named_parameters()
        if not torch.equal(weights, before[name])
    }
    assert changed == {False}  # not the tower, and something else
    last = log(tmp_path)[-1]
    assert last["stage"] == "reckon" and last["state_error"] > 0 and last["questions_per_second"]
    assert last["pictures"] == 2 * 4


def test_figures_are_means_of_the_batches_that_have_them(tmp_path):
    zero = torch.zeros(())
    losses = [Losses(zero, {"answer": 1.0, "robot": 3.0}), Losses(zero, {"answer": 2.0})]
    assert mean_figures(losses) == {"answer": 1.5, "robot": 3.0}
    run = vlm_run(vlm_config(tmp_path / "run", vlm_checkpoint(tmp_path / "model")))
    random = np.random.default_rng(0)
    parts = [[SOURCES["colour"](random)], [SOURCES["talk"](random)]]
    drawn = [Drawn(run.recipe.pack(part), (), ()) for part in parts]
    with torch.no_grad():
        one = run.recipe.objective(drawn[0].batch).figures
    figures = run._step(vlm_stage(), drawn, 0.0)
    assert figures["robot"] == pytest.approx(one["robot"], rel=1e-5)
    tiny_run(tiny_config(tmp_path / "robot")).run()  # of robot data alone, nothing dense asked
    for line in log(tmp_path / "robot"):
        assert "answer" in line and line["robot_share"] == 1.0
        assert not {"integer_error", "state_error", "dense", "patch_accuracy"} & set(line)


def test_a_run_killed_before_its_first_save_begins_its_log_anew(tmp_path):
    run = tiny_run(tiny_config(tmp_path))
    run.save = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert [line["step"] for line in log(tmp_path)] == [1, 2, 3, 4, 5, 6]
    tiny_run(tiny_config(tmp_path)).run()
    assert [line["step"] for line in log(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_without_a_look_there_is_no_best_and_the_newest_is_used(tmp_path):
    config = tiny_config(
        tmp_path, stages=(tiny_stage(steps=2),),
        validation=Validation(every=40, batches=1, patience=2),
    )  # fmt: skip
    assert tiny_run(config, held_out=SOURCES).run() == tmp_path / "checkpoint"


def test_gathered_batches_make_the_step_of_one_large_batch(tmp_path):
    """Means of two halves of unlike size, weighted by their answer tokens, are the whole's."""
    checkpoint = vlm_checkpoint(tmp_path / "model")
    run = vlm_run(vlm_config(tmp_path / "run", checkpoint))
    stage = vlm_stage(web_weight=0.5)
    random = np.random.default_rng(0)
    frames = [SOURCES[name](random) for name in ("colour", "talk", "colour")]
    gradients = []
    for parts in ([frames], [frames[:1], frames[1:]]):
        for optimizer in run.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 0.0  # the weights stay
        run._step(stage, [Drawn(run.recipe.pack(part), (), ()) for part in parts], 0.0)
        gradients.append([p.grad.clone() for p in run._trained if p.grad is not None])
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients[0])
    for whole, gathered in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, gathered, atol=1e-6, rtol=1e-4)


def test_no_tensor_is_kept_from_step_to_step(tmp_path):
    alive = []

    class Counting(Colour):
        def __call__(self, random):
            if run.place.step in (8, 16, 24) and len(alive) < run.place.step // 8:
                gc.collect()
                alive.append(sum(isinstance(o, torch.Tensor) for o in gc.get_objects()))
            return super().__call__(random)

    run = tiny_run(
        tiny_config(tmp_path, stages=(tiny_stage(steps=26, batch_size=1),), log_every=5),
        {**SOURCES, "colour": Counting()},
    )
    run.run()
    assert len(alive) == 3 and len(set(alive)) == 1, alive
