# SPDX-License-Identifier: Apache-2.0
"""Co-fine-tuning on robot demonstrations and web questions, as in RT-2."""

import os

# A thread that waits for another gives its core away. One that spins, which is the default, takes
# it from those that it waits for where other programs run as well. Read once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
