# SPDX-License-Identifier: Apache-2.0
"""The package as others get it: what it declares, what its wheel holds, what it says broken."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from rt2_ros import paths

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MANIFEST = ET.parse(ROOT / "package.xml").getroot()
MESSAGES = sorted((ROOT / "msg").glob("*.msg"))
NODES = ("camera_node", "policy_node", "controller_node", "simulator_node")


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_every_field_of_a_message_is_explained(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# "), "a message opens with what it is for"
    for above, line in zip(["", *lines], lines, strict=False):
        is_field = line.strip() and not line.startswith("#")
        if is_field:
            assert above.startswith("# ") or "#" in line, f"{path.name}: no comment on {line!r}"


def test_cmake_builds_every_message():
    listed = re.findall(r'"msg/(\w+)\.msg"', (ROOT / "CMakeLists.txt").read_text())
    assert listed == [path.stem for path in MESSAGES]


def test_versions_and_nodes_agree():
    assert distribution("rt2_ros").version == MANIFEST.findtext("version")
    commands = {entry.name: entry.value for entry in distribution("rt2_ros").entry_points}
    assert commands == {name: f"rt2_ros.nodes.{name}:main" for name in NODES} | {
        "rt2": "rt2_ros.cli:main"
    }
    assert f"foreach(_node {' '.join(NODES)})" in (ROOT / "CMakeLists.txt").read_text()


@pytest.mark.parametrize("name", ["__main__", "__mp_main__"])
def test_a_command_that_colcon_installs_runs_once(tmp_path, monkeypatch, capsys, name):
    """Where a data loader's workers are not forked they import it: they would train again."""
    made = tmp_path / "rt2"
    made.write_text((ROOT / "scripts/node.in").read_text().replace("@module@", "rt2_ros.cli"))
    monkeypatch.setattr(sys, "argv", ["rt2"])
    if name == "__main__":
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(made), run_name=name)
        assert ended.value.code == 2 and "commands:" in capsys.readouterr().out
    else:
        runpy.run_path(str(made), run_name=name)
        assert capsys.readouterr().out == ""


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in (ROOT / "rt2_ros").rglob("*.py")}
    without = {str(folder) for folder in folders if not (folder / "__init__.py").is_file()}
    assert not without, "pip and colcon would leave these out"


def test_base_requirements_leave_ros_to_the_machine():
    assert not [name for name in PYPROJECT["project"]["dependencies"] if name.startswith("ros-")]


def test_constraints_pin_every_direct_requirement():
    project = PYPROJECT["project"]
    groups = [project["dependencies"], PYPROJECT["build-system"]["requires"]]
    groups += project["optional-dependencies"].values()
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    for wanted in (Requirement(text) for group in groups for text in group):
        found = pins.get(canonicalize_name(wanted.name), [])
        for python in ("3.10", "3.11", "3.12", "3.13"):
            environment = {"python_version": python}
            holding = [p for p in found if not p.marker or p.marker.evaluate(environment)]
            assert len(holding) == 1, f"{wanted.name} on Python {python}: {holding}"
            (version,) = holding[0].specifier
            assert version.operator == "=="
            assert wanted.specifier.contains(version.version), f"{wanted} against {holding[0]}"


def test_no_transformers_is_taken_that_is_older_than_those_tested():
    """Its inner parts move from release to release."""
    (wanted,) = [text for text in PYPROJECT["project"]["dependencies"] if "transformers" in text]
    tested = re.findall(r"^transformers==([\d.]+)", (ROOT / "constraints.txt").read_text(), re.M)
    oldest = min(Version(version) for version in tested)
    assert wanted == f"transformers>={oldest}"


def test_build_group_is_what_an_isolated_build_takes():
    assert PYPROJECT["dependency-groups"]["build"] == PYPROJECT["build-system"]["requires"]


def test_shared_files_are_found_in_a_prefix_and_missed_clearly(tmp_path, monkeypatch):
    module = tmp_path / "site" / "rt2_ros" / "paths.py"
    monkeypatch.setattr(paths, "__file__", str(module))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "install"))
    with pytest.raises(FileNotFoundError, match=r"venv/share/rt2_ros.*pip install"):
        paths.share_dir()

    for prefix in ("venv", "install"):  # each hides the one before
        share = tmp_path / prefix / "share" / "rt2_ros"
        (share / "config").mkdir(parents=True)
        (share / "package.xml").touch()
        assert paths.config_path("fastdds.xml") == share / "config" / "fastdds.xml"


def test_shared_files_are_found_where_pip_put_the_package(tmp_path, monkeypatch):
    """With --user or --prefix, or as root on Debian, that is not Python's own prefix."""
    site = "lib/python3.12/site-packages"
    share = tmp_path / "share" / "rt2_ros"
    (share / "config").mkdir(parents=True)
    (share / "package.xml").touch()
    monkeypatch.setattr(paths, "__file__", str(tmp_path / site / "rt2_ros" / "paths.py"))
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    assert paths.share_dir() == share


@pytest.mark.timeout(900)  # half a minute on an idle machine; it compiles
def test_wheel_brings_messages_nodes_and_shared_files(tmp_path):
    """Build the wheel as pip does, install it apart from the checkout, and import from it."""
    source = tmp_path / "source"  # a copy: pip leaves build/ among the sources
    left_out = shutil.ignore_patterns(".*", "build", "install", "log", "out", "*.so", "__pycache__")
    shutil.copytree(ROOT, source, ignore=left_out)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-build-isolation", "--no-deps", "-w", str(tmp_path), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    tracked = {
        str(path.relative_to(ROOT))
        for folder in ("config", "launch", "models", "msg")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    share = {name.partition("/share/rt2_ros/")[2] for name in names}
    assert tracked <= share
    data = [path for kind in ("tsv", "j2", "css") for path in (ROOT / "rt2_ros").rglob(f"*.{kind}")]
    assert {str(path.relative_to(ROOT)) for path in data} <= set(names)
    programs = {name.partition("/data/lib/rt2_ros/")[2] for name in names}
    assert set(NODES) <= programs

    prefix = tmp_path / "prefix"
    install = [*pip, "install", "--no-deps", "--ignore-installed", "--no-compile"]
    subprocess.run([*install, "--prefix", str(prefix), str(wheel)], check=True)
    (site,) = prefix.glob("lib/python*/site-packages")
    code = (
        "import rt2_ros; from rt2_ros.msg import Observation, SceneState; "
        "from rclpy.serialization import serialize_message; "
        "print(rt2_ros.__file__, len(serialize_message(Observation(camera_names=['scene'])))); "
        "from rt2_ros.paths import config_path; print(config_path('bringup.yaml'))"
    )
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    where, size, config = done.stdout.split()
    assert Path(where).is_relative_to(site)
    assert int(size) > 100
    assert Path(config).is_relative_to(prefix) and Path(config).is_file()
