# SPDX-License-Identifier: Apache-2.0
"""Tests of training share `tiny_runs`, as do the processes that they start."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def plain(monkeypatch):
    """Models as they are: compiling one takes longer than a short run."""
    monkeypatch.setattr(torch, "compile", lambda module: module)
