# SPDX-License-Identifier: Apache-2.0
"""Control: from end-effector deltas to joint trajectories, safely. Plain Python, no ROS.

Every command takes one road: `ArmController` (states, watchdog) -> `SafetyFilter` (caps and limits)
-> `Kinematics.inverse` -> `plan_chunk` (a short trajectory that ends at rest).
"""
