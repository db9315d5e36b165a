# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
import types
from importlib.util import find_spec

import cv2
import numpy as np
import pytest

from rt2_ros import cli


def test_help_names_every_command_and_imports_nothing_heavy():
    code = (
        "import sys; from rt2_ros.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'rclpy', 'mujoco', 'cv2', 'numpy', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for command in cli.COMMANDS:
        assert f"\n  {command} " in result.stdout


@pytest.mark.parametrize("module", ["rt2_ros.training.cli", "rt2_ros.evaluation.ablation"])
def test_training_says_how_its_threads_wait_before_torch_is_loaded(module):
    watched = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, *others):\n"
        "        if name == 'torch': print(os.environ['OMP_WAIT_POLICY'])\n"
        "sys.meta_path.insert(0, Watch())\n"
        f"import {module}\n"
    )
    for given, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        rest = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
        found = subprocess.run(
            [sys.executable, "-c", watched], env={**rest, **given}, capture_output=True, text=True
        )
        assert found.stdout.split() == [expected], found.stderr


def test_without_a_command_the_help_is_shown(capsys):
    assert cli.main([]) == 2
    assert "rt2 COMMAND --help tells more" in capsys.readouterr().out


def test_an_unknown_command_is_named(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["fly"])
    assert end.value.code == 2
    assert "invalid choice: 'fly'" in capsys.readouterr().err


@pytest.fixture
def command(monkeypatch):
    """A command of the tests; `does` is what its main does."""
    module = types.ModuleType("rt2_test_command")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(cli.COMMANDS, "test", (module.__name__, "for tests"))
    return module


def test_a_command_gets_the_rest_of_the_line_and_gives_the_exit_status(command):
    got = []
    command.main = lambda argv: got.append(argv) or 7
    assert cli.main(["test", "--help", "-x", "1"]) == 7
    assert got == [["--help", "-x", "1"]]
    command.main = lambda argv: None
    assert cli.main(["test"]) == 0


def test_bad_input_is_one_line_and_a_bug_is_a_traceback(command, capsys):
    def refuse(argv):
        raise ValueError("--seed is -1;\n expected 0 or more")

    command.main = refuse
    assert cli.main(["test"]) == 1
    assert capsys.readouterr().err == "rt2: --seed is -1; expected 0 or more\n"

    command.main = lambda argv: {}["bug"]
    with pytest.raises(KeyError):
        cli.main(["test"])


def test_bench_lists_its_benchmarks(capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "--help"])
    assert "\n  loop " in capsys.readouterr().out


def test_ask_about_a_picture_file(tmp_path, capsys):
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), np.zeros((8, 8, 3), np.uint8))
    assert cli.main(["ask", "what is it?", "--image", str(picture), "--policy", "hold"]) == 0
    assert capsys.readouterr().out == "this policy holds the arm still and knows nothing\n"

    assert cli.main(["ask", "what is it?", "--image", "none.png", "--policy", "hold"]) == 1
    assert "--image: none.png is not a picture that can be read" in capsys.readouterr().err


@pytest.mark.skipif(
    sys.prefix == sys.base_prefix or find_spec("ros_wheels_bootstrapper") is None,
    reason="this Python has no ROS of its own",
)
def test_a_sourced_ros_is_refused_before_its_modules_are_taken(tmp_path, monkeypatch, capsys):
    """With Humble's in a shell's profile `make` would work, and what it tells to type would not."""
    cli.refuse_another_ros()
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    assert cli.main(["up"]) == 1
    assert "RMW_IMPLEMENTATION is rmw_cyclonedds_cpp; expected rmw_fastrtps_cpp" in (
        capsys.readouterr().err
    )
    (tmp_path / "rclpy").mkdir()
    (tmp_path / "rclpy" / "__init__.py").write_text("raise SystemExit('imported')")
    done = subprocess.run(
        [sys.executable, "-m", "rt2_ros.cli", "up"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"},
    )  # fmt: skip
    assert done.returncode == 1
    assert f"rclpy would be {tmp_path}/rclpy/__init__.py: use a terminal" in done.stderr
