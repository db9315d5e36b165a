# SPDX-License-Identifier: Apache-2.0
"""What a policy can do, measured on simulated tables."""
