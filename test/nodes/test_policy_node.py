# SPDX-License-Identifier: Apache-2.0
"""The policy node over real DDS; test/policies/test_runner.py has the rules of its loop."""

import gc
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from rt2_ros.msg import Observation, PolicyStatus  # noqa: E402
from rt2_ros.nodes import policy_node, topics  # noqa: E402
from rt2_ros.nodes.base import FAILURE, SUCCESS  # noqa: E402
from rt2_ros.nodes.policy_node import PolicyNode, to_observation  # noqa: E402
from rt2_ros.policies import load_policy  # noqa: E402
from rt2_ros.policies.runner import PolicyRunner, Step  # noqa: E402

WAIT = 30.0  # s


def observation(stamp, size=8, gripper=1.0):
    msg = Observation(camera_names=["scene"], has_end_effector=True, gripper_closedness=gripper)
    msg.images = [Image(encoding="rgb8", height=size, width=size, step=3 * size)]
    msg.images[0].data.frombytes(bytes(size * size * 3))
    msg.header.stamp = stamp
    return msg


class Person:
    """The other side of every topic, in an executor's thread together with the node."""

    def __init__(self, **parameters):
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = PolicyNode(parameter_overrides=overrides)
        self.me = rclpy.create_node("person")
        self.changed = threading.Condition()
        self.got = {"delta": [], "status": [], "answer": []}
        for name, topic in (
            ("delta", topics.END_EFFECTOR_DELTA),
            ("status", topics.POLICY_STATUS),
            ("answer", topics.ANSWER),
        ):
            self.me.create_subscription(*topic.to(lambda msg, name=name: self.note(name, msg)))
        self.look_out = self.me.create_publisher(*topics.OBSERVATION)
        self.say_out = self.me.create_publisher(*topics.INSTRUCTION)
        self.ask_out = self.me.create_publisher(*topics.QUESTION)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.me)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()

    def note(self, name, msg):
        with self.changed:
            self.got[name].append(msg)
            self.changed.notify_all()

    def start(self):
        assert self.node.trigger_configure() == SUCCESS
        assert self.node.trigger_activate() == SUCCESS
        publishers = (self.look_out, self.say_out, self.ask_out)
        self.until(lambda: all(p.get_subscription_count() for p in publishers))

    def until(self, condition, look=False):
        end = time.monotonic() + WAIT
        while not condition():
            assert time.monotonic() < end, self.got
            if look:
                self.look_out.publish(observation(self.me.get_clock().now().to_msg()))
            with self.changed:
                self.changed.wait(0.02)

    @property
    def status(self):
        """The newest status; an empty one until the first has come."""
        return self.got["status"][-1] if self.got["status"] else PolicyStatus()

    def close(self):
        self.executor.shutdown()
        self.thread.join(WAIT)
        self.node.destroy_node()
        self.me.destroy_node()
        self.__dict__.clear()  # a lifecycle node is seen by others until nothing refers to it
        gc.collect()


@pytest.fixture
def person(request):
    rclpy.init()
    person = Person(**getattr(request, "param", {"policy": "hold"}))
    yield person
    person.close()
    rclpy.shutdown()


def test_instruction_and_observation_become_a_stamped_delta(person):
    person.start()
    person.until(lambda: person.status.state == PolicyStatus.IDLE)
    assert person.status.policy == "hold"

    person.say_out.publish(String(data="pick up the apple"))
    person.until(lambda: len(person.got["delta"]) >= 2, look=True)

    first, second = person.got["delta"][:2]
    assert [first.step, second.step] == [0, 1]
    assert (first.instruction_id, first.header.frame_id) == (1, "panda_link0")
    assert first.bins.tolist() == [0, 127, 127, 127, 127, 127, 127, 255]
    assert (first.translation.x, first.gripper_closedness, first.terminate) == (0.0, 1.0, False)
    assert first.header.stamp.sec > 0
    assert 0.0 < first.inference < first.latency < WAIT
    person.until(lambda: person.status.state == PolicyStatus.RUNNING)
    assert person.status.instruction == "pick up the apple"

    person.say_out.publish(String(data=""))
    person.until(lambda: person.status.state == PolicyStatus.IDLE)
    count = len(person.got["delta"])
    person.ask_out.publish(String(data="what is this?"))  # answered by the worker: it came round
    person.until(lambda: person.got["answer"], look=True)
    assert len(person.got["delta"]) == count


def test_of_two_that_publish_observations_neither_is_believed(person):
    """The other's may be of another robot, and the deltas would be this policy's."""
    person.start()
    person.say_out.publish(String(data="pick up the apple"))
    person.until(lambda: person.got["delta"], look=True)
    second = person.me.create_publisher(*topics.OBSERVATION)
    person.until(lambda: person.node.count_publishers(topics.OBSERVATION.name) == 2)
    person.until(lambda: person.status.state == PolicyStatus.HOLDING, look=True)
    person.until(lambda: "/observation has 2 publishers: end" in person.status.reason, look=True)
    person.me.destroy_publisher(second)
    person.until(lambda: person.status.state == PolicyStatus.RUNNING, look=True)


def test_an_inactive_policy_says_that_it_takes_no_instruction(person, monkeypatch):
    person.start()
    said = []
    monkeypatch.setattr(person.node, "complain", said.append)
    assert person.node.trigger_deactivate() == SUCCESS
    person.say_out.publish(String(data="pick up the apple"))
    person.until(lambda: said)
    assert said == ["instruction not taken, as the node is inactive: 'pick up the apple'"]
    person.ask_out.publish(String(data="what is it?"))
    person.until(lambda: person.got["answer"])
    assert person.got["answer"][0].data == "no answer: the policy node is inactive"


def test_the_status_is_latched_for_latecomers(person):
    person.start()
    person.say_out.publish(String(data="x" * 10_240))
    person.until(lambda: "refused" in person.status.reason)

    late = []
    person.me.create_subscription(*topics.POLICY_STATUS.to(late.append))
    person.until(lambda: late)
    assert late[0].reason == "instruction refused: 10240 characters, at most 1000"
    assert (late[0].state, late[0].instruction) == (PolicyStatus.IDLE, "")


@pytest.mark.parametrize("person", [{"policy": "rt3"}], indirect=True)
def test_an_unknown_policy_is_a_fault_that_names_what_exists(person):
    assert person.node.trigger_configure() == FAILURE
    person.until(lambda: person.status.state == PolicyStatus.FAULT)
    assert person.status.reason.startswith("no policy 'rt3': not one of ")
    assert "hold" in person.status.reason


def test_an_unknown_policy_ends_the_process_in_one_line():
    command = [sys.executable, "-m", "rt2_ros.nodes.policy_node"]
    result = subprocess.run(
        [*command, "--ros-args", "-p", "policy:=rt3"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert "no policy 'rt3'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoding": "bgr8"}, "'scene' is bgr8 8x8"),
        ({"step": 32}, "step 32"),
        ({"height": 9}, "8x9, step 24, 192 bytes"),
        ({"sec": -1}, "stamp_ns is -999999995; expected >= 0"),
    ],
)
def test_a_broken_observation_is_named(change, message):
    msg = observation(rclpy.time.Time(nanoseconds=5).to_msg())
    assert to_observation(msg).stamp_ns == 5
    np.testing.assert_allclose(to_observation(msg).state, [0, 0, 0, 1])
    for name, value in change.items():
        setattr(msg.images[0] if hasattr(msg.images[0], name) else msg.header.stamp, name, value)
    with pytest.raises(ValueError, match=message):
        to_observation(msg)


def test_cleanup_lets_the_policy_go_so_that_two_are_never_held(person, monkeypatch):
    loaded = []

    def load(name):
        assert not any(policy() for policy in loaded)
        policy = load_policy(name)
        policy.itself = policy  # as recordings of a model refer to it
        loaded.append(weakref.ref(policy))
        return policy

    monkeypatch.setattr(policy_node, "load_policy", load)
    for _ in range(2):
        assert person.node.trigger_configure() == SUCCESS
        assert loaded[-1]() is not None
        assert person.node.trigger_cleanup() == SUCCESS
        assert loaded[-1]() is None
    assert len(loaded) == 2


def test_a_policy_that_computes_on_is_told_and_let_go_when_it_is_done(person, monkeypatch):
    begun, go_on, loaded, said = threading.Event(), threading.Event(), [], []
    monkeypatch.setattr(PolicyRunner.stop, "__defaults__", (0.05,))

    def load(name):
        policy = load_policy(name)
        loaded.append(weakref.ref(policy))
        policy.answer = lambda *_: begun.set() or str(go_on.wait(WAIT))
        return policy

    monkeypatch.setattr(policy_node, "load_policy", load)
    monkeypatch.setattr(person.node.get_logger(), "warning", said.append)
    person.start()
    person.ask_out.publish(String(data="what is this?"))
    person.until(begun.is_set, look=True)
    assert person.node.trigger_deactivate() == person.node.trigger_cleanup() == SUCCESS
    assert said == ["policy hold still computes; its model stays in memory until then"]
    assert loaded[0]() is not None
    go_on.set()
    person.until(lambda: loaded[0]() is None)


def test_cameras_that_no_policy_looks_at_are_told_once(person, monkeypatch):
    said = []
    monkeypatch.setattr(person.node.get_logger(), "warning", said.append)
    assert person.node.trigger_configure() == SUCCESS
    msg = observation(Time(sec=1))
    person.node._observe(msg)
    assert said == []
    msg.camera_names, msg.images = ["scene", "wrist", "side"], [msg.images[0]] * 3
    for _ in range(3):
        person.node._observe(msg)
    assert said == ["the policy looks at 'scene': 'wrist', 'side' will not be looked at"]
    person.node._pictures, person.node._cameras = 2, []
    person.node._observe(msg)
    assert said[1:] == ["the policy looks at 'scene', 'wrist': 'side' will not be looked at"]


def test_the_status_tells_where_the_time_of_a_decision_goes(person):
    person.start()
    first = person.status
    assert [first.prepare, first.inference, first.publish, first.age] == [0.0] * 4
    person.say_out.publish(String(data="pick up the apple"))
    person.until(lambda: person.status.publish > 0, look=True)
    now = person.status
    assert 0 < now.inference < now.age < WAIT
    assert now.inference + now.publish < now.age

    still = load_policy("hold").infer(to_observation(observation(Time())))
    timed = replace(still, latency={"prepare": 0.25, "decode": 0.5})
    stamp = person.node.now_ns() - 2_000_000_000
    person.node._publish_step(Step(timed, stamp, 1, 0, 1.0))
    person.until(lambda: person.status.prepare > 0)  # the next one, within a second
    assert (person.status.prepare, person.status.inference) == (0.25, 0.75)
    assert 2.0 <= person.status.age < WAIT


def test_diagnostics_tell_where_the_time_of_a_decision_goes(person):
    person.start()
    assert "prefill" not in person.node.diagnose().values
    still = load_policy("hold").infer(to_observation(observation(Time())))
    timed = replace(still, latency={"prepare": 0.0004, "prefill": 0.01234})
    person.node._publish_step(Step(timed, 5, 1, 0, 0.02))
    values = person.node.diagnose().values
    assert (values["prepare"], values["prefill"]) == ("0.4 ms", "12.3 ms")
