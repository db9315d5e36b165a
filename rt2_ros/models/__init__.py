# SPDX-License-Identifier: Apache-2.0
"""Models that speak the action language."""
