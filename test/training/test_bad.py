# SPDX-License-Identifier: Apache-2.0
"""Runs in which a sample cannot be read or a step has no finite loss."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_runs import SOURCES, Colour, log, losses, tiny_config, tiny_run, tiny_stage

from rt2_ros.actions import answer_text
from rt2_ros.data.faults import BadSample
from rt2_ros.training import engine, parallel
from rt2_ros.training.augment import Augmentation, Augmented
from rt2_ros.training.data import Drawn
from rt2_ros.training.engine import Stopped

pytestmark = pytest.mark.usefixtures("plain")


class Torn(Colour):
    """One sample in four cannot be read."""

    def __call__(self, random):
        if random.random() < 0.25:
            raise BadSample("file-000.mp4", "no picture could be decoded", frame=37)
        return super().__call__(random)


def test_a_bad_sample_is_left_out_or_ends_the_run_as_configured(tmp_path):
    sources = {**SOURCES, "colour": Torn()}
    message = "file-000.mp4, frame 37: no picture could be decoded"
    run = tiny_run(tiny_config(tmp_path / "skip", on_bad_sample="skip"), sources)
    run.run()
    assert len(losses(tmp_path / "skip")) == 6
    assert {"warning": f"left out: {message}"} in log(tmp_path / "skip")
    run = tiny_run(tiny_config(tmp_path / "stop", stages=(tiny_stage(steps=50),)), sources)
    with pytest.raises(
        Stopped, match=f"{message}; .*checkpoint is saved, and on_bad_sample: skip would leave it"
    ):
        run.run()
    again = tiny_run(tiny_config(tmp_path / "stop", stages=(tiny_stage(steps=50),)), SOURCES)
    assert again.place.step == run.place.step  # nothing that was learned is lost


class Placed(Colour):
    """One plan in four tells a place."""

    def __call__(self, random):
        frame = super().__call__(random)
        if random.random() < 0.75:
            return frame
        query = replace(frame.queries[0], answer=answer_text(self.bins(0), "red 3 4"))
        return replace(frame, queries=(query,))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_crop_against_plans_that_tell_places_ends_a_run_that_skips_bad_samples(tmp_path, workers):
    sources = {**SOURCES, "colour": Augmented(Placed(), Augmentation(crop=0.05), "colour")}
    config = tiny_config(
        tmp_path, stages=(tiny_stage(steps=50),), on_bad_sample="skip", workers=workers
    )
    with pytest.raises(
        Stopped, match=r"source colour, colour \d: augment: crop is 0\.05, .* is saved$"
    ):
        tiny_run(config, sources).run()


@pytest.mark.parametrize("on_bad_step", ["skip", "stop"])
def test_a_step_without_a_finite_loss_changes_nothing(tmp_path, monkeypatch, on_bad_step):
    config = tiny_config(tmp_path, on_bad_step=on_bad_step)
    run = tiny_run(config)
    forward, seen = run.recipe.objective.forward, []

    def broken(batch, **settings):
        losses = forward(batch, **settings)
        seen.append([p.detach().clone() for p in run._trained])
        return replace(losses, total=losses.total * math.nan) if len(seen) == 3 else losses

    monkeypatch.setattr(run.recipe.objective, "forward", broken)
    if on_bad_step == "skip":
        run.run()
        assert len(seen) == 6
        assert all(torch.equal(a, b) for a, b in zip(seen[2], seen[3], strict=True))
    else:
        with pytest.raises(Stopped, match="step 2: the loss is nan.*colour [012]"):
            run.run()
        assert len(seen) == 3
        state = torch.load(tmp_path / "checkpoint" / "state.pt", weights_only=True)
        assert all(
            torch.isfinite(v).all() for v in state["weights"].values() if v.is_floating_point()
        )
    assert not any(torch.equal(a, b) for a, b in zip(seen[0][:3], seen[1][:3], strict=True))
    assert any("the loss is nan" in line.get("warning", "") for line in log(tmp_path)) == (
        on_bad_step == "skip"
    )


def test_a_run_of_nothing_but_bad_steps_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "MOST_BAD_STEPS", 3)
    run = tiny_run(tiny_config(tmp_path, stages=(tiny_stage(steps=9, accumulate=2, batch_size=1),)))
    forward, bad = run.recipe.objective.forward, iter([1, 0, 0, 0, 1, 0, 1, 1, 0, 1])

    def broken(batch, **settings):
        losses = forward(batch, **settings)
        return replace(losses, total=losses.total * math.nan) if next(bad) else losses

    monkeypatch.setattr(run.recipe.objective, "forward", broken)
    with pytest.raises(
        Stopped, match="3 steps in a row were left out; the last: step 4: the loss is nan"
    ):
        run.run()
    warned = [line["warning"] for line in log(tmp_path) if "warning" in line]
    # The first batch that is not finite is told of, and its pictures alone.
    assert [w.split(",")[0] for w in warned] == [
        f"step {n}: the loss is nan" for n in (0, 2, 3)
    ]  # fmt: skip
    assert all(w.count("colour") == 1 for w in warned)
    assert (tmp_path / "checkpoint" / "state.pt").exists()


def test_of_several_processes_those_whose_loss_is_bad_are_told_of(tmp_path, monkeypatch):
    run = tiny_run(tiny_config(tmp_path))
    drawn = [Drawn(None, ("colour",), ("colour 0",))]
    for loss in (math.nan, 1.0):
        other = [(loss, ["colour 1"]), (0.5, ["colour 2"])]
        monkeypatch.setattr(parallel, "gathered", lambda _, own, other=other: [own, other])
        run._bad_step(math.nan, [0.5], drawn)
    assert [line["warning"].partition("It was")[2] for line in log(tmp_path)] == [
        " drawn from colour 1",
        " drawn from colour 0, colour 1, colour 2",  # the gradients' sum alone is not finite
    ]


def test_a_bad_step_of_words_alone_says_so(tmp_path, monkeypatch):
    in_words = tiny_stage(steps=1, batch_size=0, state_rows=1)
    run = tiny_run(tiny_config(tmp_path, stages=(in_words,), on_bad_step="stop"))
    forward = run.recipe.objective.forward

    def broken(batch, **settings):
        losses = forward(batch, **settings)
        return replace(losses, total=losses.total * math.nan)

    monkeypatch.setattr(run.recipe.objective, "forward", broken)
    with pytest.raises(Stopped, match="the loss is nan.* drawn from states in words; "):
        run.run()
