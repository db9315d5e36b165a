# SPDX-License-Identifier: Apache-2.0
"""What nodes and benchmarks call: `load_policy(name).infer(Observation) -> Decision`."""

from rt2_ros.policies.base import Decision, Observation, Policy, infer_batch
from rt2_ros.policies.registry import load_policy, policy_names

__all__ = ["Decision", "Observation", "Policy", "infer_batch", "load_policy", "policy_names"]
