# SPDX-License-Identifier: Apache-2.0
"""What is recorded of what is held out: each part changes its own hash, and no other."""

import shutil

import pytest
import yaml

from rt2_ros.data import digests, robot, web
from rt2_ros.paths import config_path


@pytest.fixture
def suites(tmp_path, monkeypatch):
    """A copy of the suites, which may be changed."""
    folder = tmp_path / "evaluation"
    shutil.copytree(config_path("evaluation"), folder)
    monkeypatch.setattr(digests, "config_path", lambda *parts: tmp_path.joinpath(*parts))
    return folder


def edit(path, change):
    suite = yaml.safe_load(path.read_text())
    change(suite["cells"])
    path.write_text(yaml.safe_dump(suite, allow_unicode=True))


def changed(before, after):
    one, other = ({**told, **told["suites"], "suites": None} for told in (before, after))
    return {key for key in {*one, *other} if one.get(key) != other.get(key)}


def test_a_change_of_one_part_changes_its_hash_alone(monkeypatch, suites):
    before = digests.held_out()
    assert {"seen", "gripper", "robustness/noise", "emergent/symbols"} <= set(before["suites"])
    assert all(len(hash) == 16 for hash in (before["web"], before["looks"]))
    for name, value in (("WHERE", web.WHERE[1:]), ("LOOK_ZH", ()), ("NEAR_WHAT", "what else?")):
        with monkeypatch.context() as patched:
            patched.setattr(web, name, value)
            assert changed(before, digests.held_out()) == {"web"}
    with monkeypatch.context() as patched:
        patched.setattr(robot, "STRENGTHS", (0.0, 0.3, 0.6, 1.0, 1.0))
        assert changed(before, digests.held_out()) == {"looks"}
    with monkeypatch.context() as patched:
        patched.setattr("rt2_ros.sim.scene.DISTANCE", 1.3)
        assert changed(before, digests.held_out()) == {"looks"}
    edit(suites / "robustness.yaml", lambda cells: cells[0]["disturb"].update(noise=26))
    assert changed(before, digests.held_out()) == {"robustness/noise"}


def test_a_new_cell_and_a_comment_leave_the_other_hashes_as_they_are(suites):
    before = digests.held_out()
    path = suites / "seen.yaml"
    path.write_text("# As nobody else does.\n" + path.read_text())
    edit(suites / "robustness.yaml", lambda cells: cells.insert(0, {**cells[0], "name": "more"}))
    assert changed(before, digests.held_out()) == {"robustness/more"}


@pytest.mark.parametrize("text", ["cells: [noise]", "description: none", "- a", ""])
def test_a_suite_without_cells_is_refused_by_name(suites, text):
    (suites / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match="mine.yaml: expected a list `cells` of mappings"):
        digests.held_out()
