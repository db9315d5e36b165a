# SPDX-License-Identifier: Apache-2.0
"""Where figures say that they come from."""

import subprocess

from rt2_ros.provenance import git_revision


def git(folder, *words):
    name = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(["git", *name, *words], cwd=folder, capture_output=True, check=True)
    return done.stdout.decode().strip()


def test_a_revision_is_dirty_where_code_differs_and_not_where_figures_do(tmp_path):
    assert git_revision(tmp_path) == "unknown"
    for folder in ("docs", "code"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("old")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert git_revision(tmp_path / "code") == clean
    (tmp_path / "docs" / "file").write_text("new")
    (tmp_path / "beside").write_text("not tracked")
    assert git_revision(tmp_path / "code") == clean
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "file").write_text("not of this repository")
    assert git_revision(tmp_path / "installed") == "unknown"
    (tmp_path / "code" / "file").write_text("new")
    assert git_revision(tmp_path / "code") == f"{clean}-dirty"
    git(tmp_path, "add", ".")
    assert git_revision(tmp_path / "code") == f"{clean}-dirty"
