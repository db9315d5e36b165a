# SPDX-License-Identifier: Apache-2.0
"""`autostart: false`: a node that waits for a lifecycle manager, or a person."""

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState


def test_a_node_that_is_not_to_start_by_itself_waits_to_be_told(start, probe):
    start("camera_node", autostart=False)

    def label():
        return probe.call(GetState, "camera_node/get_state", GetState.Request()).current_state.label

    assert label() == "unconfigured"
    for number, then in (
        (Transition.TRANSITION_CONFIGURE, "inactive"), (Transition.TRANSITION_ACTIVATE, "active")
    ):  # fmt: skip
        request = ChangeState.Request(transition=Transition(id=number))
        assert probe.call(ChangeState, "camera_node/change_state", request).success
        assert label() == then
