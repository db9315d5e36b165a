# SPDX-License-Identifier: Apache-2.0
"""docs/training.md from end to end, by its commands: recorded episodes and questions, the guide's
configuration, a checkpoint that plays.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from tiny_runs import vlm_checkpoint

from rt2_ros.actions import ActionSpace
from rt2_ros.cli import main
from rt2_ros.data.lerobot import Episodes
from rt2_ros.data.robot import SPACE
from rt2_ros.paths import config_path
from rt2_ros.policies import Observation, load_policy

STEPS = 100
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0)}
FEW = {"workers": 0, "parallel": "ddp", "precision": "fp32", "save_minutes": 60, "log_every": 10}


def picture(colour):
    return np.full((192, 192, 3), COLOURS[colour], np.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What the guide leads to, with little of everything, and the folder of all of it."""
    home = tmp_path_factory.mktemp("guide")
    demos = ["--episodes", "3", "--validation", "1", "--tasks", "pick", "--processes", "2"]
    assert main(["demos", "--out", str(home / "mine"), *demos]) == 0
    with (home / "vqa.jsonl").open("w") as rows:
        for colour in COLOURS:
            cv2.imwrite(str(home / f"{colour}.png"), picture(colour)[..., ::-1])
            asked = {"question": "what colour is it?", "answer": colour}
            row = {"image": f"{colour}.png", "qa": 4 * [asked]}
            rows.write(10 * (json.dumps(row) + "\n"))
    config = yaml.safe_load(Path(config_path("training", "my-robot.yaml")).read_text())
    config.update(FEW, out=str(home / "out"))
    config["model"] = {"checkpoint": str(vlm_checkpoint(home / "start"))}
    config["sources"]["mine"] |= {"path": str(home / "mine"), "size": 192}
    config["sources"]["vqa"] |= {"path": str(home / "vqa.jsonl"), "size": 192}
    config["augment"]["mine"].pop("crop")  # refused: the plans of demos tell places in pictures
    config["validation"] = {"every": STEPS // 2, "batches": 2}
    config["stages"][0] |= {
        "steps": STEPS, "batch_size": 6, "accumulate": 1, "learning_rate": 2e-3, "plan_share": 1.0,
    }  # fmt: skip
    (home / "my-robot.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", "--config", str(home / "my-robot.yaml")]) == 0
    return home


def test_both_kinds_of_data_are_learned_in_their_shares(trained):
    lines = [json.loads(line) for line in (trained / "out" / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "answer" in line]
    assert steps[-1]["step"] == STEPS and steps[-1]["answer"] < 0.6 * steps[0]["answer"]
    assert steps[-1]["expected/mine"] == 0.5
    assert np.mean([line["share/mine"] for line in steps]) == pytest.approx(0.5, abs=0.12)
    # Of rows as of pictures, however many questions a picture has.
    assert np.mean([line["robot_rows"] for line in steps]) == pytest.approx(0.5, abs=0.12)
    assert any("validation" in key for line in lines for key in line)
    # The last one: of two episodes the best is early, and knows less of the colours.
    policy = load_policy(str(trained / "out" / "checkpoint"))
    for colour in COLOURS:
        assert policy.answer(picture(colour), "what colour is it?") == colour


def test_the_checkpoint_acts_on_what_was_recorded_in_the_action_space_of_the_recording(trained):
    best = trained / "out" / "best"
    assert ActionSpace.load(best) == ActionSpace.load(trained / "mine") == SPACE
    record = json.loads((best / "training.json").read_text())
    assert record["statistics"]["mine"] and record["seed"] == 0
    assert record["policy"]["plan"] == "required"
    policy, found = load_policy(str(best)), Episodes(trained / "mine")
    (camera,) = found.info.cameras
    step = found.read(1, 0, (camera,))  # episode 0 is kept for validation
    seen = Observation(
        {"scene": step.images[camera]}, step.task, np.array(step.values["observation.state"])
    )
    decision = policy.infer(seen)
    assert decision.action is not None, decision.reason
    assert len(decision.bins) == 8 and decision.plan


def test_the_checkpoint_plays_a_suite(trained):
    arguments = ["--policy", str(trained / "out" / "best"), "--suite", "seen", "--episodes", "1"]
    assert main(["eval", *arguments, "--out", str(trained / "eval"), "--name", "mine"]) == 0
    (line,) = next((trained / "eval").rglob("episodes.jsonl")).read_text().splitlines()
    assert json.loads(line)["failure"] != "crashed"
