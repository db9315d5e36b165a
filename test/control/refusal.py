# SPDX-License-Identifier: Apache-2.0
"""What tests of the controller say alike."""


def held(rig, code):
    """Fail unless the last delta was refused with `code` and nothing but a brake sent for it."""
    assert (rig.arm.verdict.accepted, rig.arm.verdict.code) == (False, code)
    assert rig.answer is None or rig.answer.brake
    return True
