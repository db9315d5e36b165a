# SPDX-License-Identifier: Apache-2.0
"""The simulated world: a table with an arm, blocks and cards under a camera, in MuJoCo."""
