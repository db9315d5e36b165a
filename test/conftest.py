# SPDX-License-Identifier: Apache-2.0
"""What every test runs under: a ROS domain of its own, no model downloads, logs out of the way."""

import os
import tempfile

from hypothesis import settings

from rt2_ros.paths import config_path

# Set before any test imports rclpy, and inherited by the nodes that a test starts. Never the
# shell's own domain: a robot may be listening there. 101 is the last one below the ephemeral ports.
os.environ["ROS_DOMAIN_ID"] = str(40 + os.getpid() % 62)
os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(config_path("fastdds.xml"))
_logs = tempfile.TemporaryDirectory(prefix="rt2_ros_test_log_", ignore_cleanup_errors=True)
os.environ["ROS_LOG_DIR"] = _logs.name  # goes when the interpreter does
os.environ["HF_HUB_OFFLINE"] = "1"

# Machines that run tests are busy: an example that takes long has not failed.
# Nor has a change that has nothing to do with it: examples are always the same.
settings.register_profile("patient", deadline=None, derandomize=True)
settings.load_profile("patient")
