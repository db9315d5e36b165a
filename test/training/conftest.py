# SPDX-License-Identifier: Apache-2.0
"""Tests of training share `tiny_runs`, as do the processes that they start."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
