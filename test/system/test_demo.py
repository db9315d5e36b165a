# SPDX-License-Identifier: Apache-2.0
"""`rt2 demo` on the real graph: processes, DDS, physics, controller, judge and film."""

import cv2
import pytest

pytest.importorskip("rclpy")
av = pytest.importorskip("av")

from rt2_ros import cli, demo  # noqa: E402
from rt2_ros.sim.tasks import Task  # noqa: E402


def test_the_arm_does_what_it_is_told_and_the_simulator_says_so(expert_graph, tmp_path):
    said = [
        ("pick up the banana", Task("pick", "banana")),
        ("grab the apple", Task("pick", "red apple")),
    ]
    attempts = demo.run(expert_graph, said, seed=7, limit_s=25.0, out=tmp_path)

    assert [(a.success, a.reason) for a in attempts] == [(True, "")] * 2
    assert all(a.height > 0.10 and a.decisions > 5 for a in attempts)
    with av.open(str(tmp_path / "demo.mp4")) as film:
        pictures = sum(1 for _ in film.decode(video=0))
        assert film.streams.video[0].codec_context.name == "h264"
    assert pictures > 20
    sheet = cv2.imread(str(tmp_path / "contact_sheet.png"))
    assert sheet.shape == (2 * (240 + 6) + 6, 6 * (320 + 6) + 6, 3)


def test_an_arm_that_did_nothing_is_a_failure_whatever_the_policy_says(tmp_path, capsys):
    arguments = ["--policy", "hold", "--limit", "2", "--instruction", "pick up the banana"]
    assert cli.main(["demo", *arguments, "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "never moved" in shown
    assert "0 of 1 done" in shown


def test_verdicts_are_told_without_a_picture_and_without_time(tmp_path, capsys):
    wrist = tmp_path / "wrist.yaml"
    cameras = "{ros__parameters: {cameras: [wrist]}}"
    wrist.write_text(f"/**/simulator_node: {cameras}\n/**/camera_node: {cameras}\n")
    arguments = ["--policy", "hold", "--params-file", str(wrist), "--limit", "1e-6"]
    arguments += ["--instruction", "pick up the banana", "--out", str(tmp_path)]
    (tmp_path / "contact_sheet.png").touch()  # of an earlier run
    assert cli.main(["demo", *arguments]) == 1
    shown = capsys.readouterr().out
    assert "verdicts of the simulator" in shown
    assert "0 of 1 done" in shown and "there was no picture of camera scene" in shown
    assert not (tmp_path / "contact_sheet.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--instruction", "make me happy"], "instruction 'make me happy': expected one like"),
        (["--instruction", "pick up the flurb"], "no pictograph is named 'flurb'"),
        (["--policy", "rt3"], "no policy 'rt3'"),
        (["--seed", "-1"], "--seed is -1; expected 0 or more"),
    ],
)
def test_bad_input_ends_in_one_line_before_anything_starts(arguments, message, capsys):
    assert cli.main(["demo", *arguments]) == 1
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert "starting" not in shown.out
