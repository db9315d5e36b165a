# SPDX-License-Identifier: Apache-2.0
"""Where a figure comes from: the code's revision and the machine that it was measured on.

>>> machine()
'AMD EPYC, 2 cores'
"""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def git_revision(folder: Path = Path(__file__).parent) -> str:
    """The revision that the code in a folder came from, with "-dirty" where tracked files differ
    from it; "unknown" outside a checkout, also below somebody else's (an environment in a
    project). Of `docs`, where figures are written to, none counts.
    """
    try:
        if not _git(folder, "ls-files", "."):
            return "unknown"
        found = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "diff", "--name-only", "HEAD", "--", ":/", ":(top,exclude)docs")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{found}-dirty" if changed else found


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def machine() -> str:
    """The processor's name and how many of its cores this process may use."""
    return f"{_processor()}, {len(os.sched_getaffinity(0))} cores"


def _processor() -> str:
    """As Linux names it; the architecture where it does not (some ARM boards)."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == "model name" and value.strip():
            return value.strip()
    return platform.machine()
