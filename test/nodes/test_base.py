# SPDX-License-Identifier: Apache-2.0
"""Every way into and out of a node, on a real lifecycle node."""

import subprocess
import sys

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.context import Context
from rclpy.parameter import Parameter as RosParameter
from std_msgs.msg import String

from rt2_ros.nodes.base import ERROR, FAILURE, SUCCESS, BaseNode, Health
from rt2_ros.nodes.parameters import Parameter, words
from rt2_ros.nodes.topics import COMMAND, Topic


class Talker(BaseNode):
    """Does what its parameter says, and writes down what happened."""

    PARAMETERS = (
        Parameter(
            "do",
            "work",
            "What to do.",
            choices=("work", "refuse", "break", "fail to start", "stick"),
        ),
        Parameter("rate", 5.0, "How often.", unit="Hz", low=1.0, high=10.0),
        Parameter("names", [""], "Names."),
        Parameter("live", 1, "May change.", low=0, high=9, live=True),
        Parameter("fixed", 1, "Cannot change.", low=0, high=9, read_only=True),
    )

    def __init__(self, **kwargs):
        self.events = []
        super().__init__("talker", **kwargs)

    def _setup(self):
        self.at_teardown(self.events.append, "undone first step")
        self.out = self.publish(Topic(String, "talk", COMMAND))
        self.made = "well"
        self.at_teardown(self.events.append, "undone second step")
        if self.value("do") == "refuse":
            raise ValueError("do: refuse;\nset it to work")
        if self.value("do") == "break":
            raise TypeError("a bug")

    def _start(self):
        if self.value("do") == "fail to start":
            raise OSError("the device is busy")
        self.events.append("started")

    def diagnose(self):
        return Health(message=self.made)

    def _stop(self):
        self.events.append(f"stopped, publishing {self.out.is_activated}")
        if self.value("do") == "stick":
            raise RuntimeError("stuck")


UNDONE = ["undone second step", "undone first step"]


@pytest.fixture
def context():
    context = Context()
    rclpy.init(context=context, args=[])
    yield context
    context.try_shutdown()


@pytest.fixture
def make(context):
    made = []

    def make(**parameters):
        overrides = [RosParameter(name, value=value) for name, value in parameters.items()]
        made.append(Talker(context=context, parameter_overrides=overrides))
        return made[-1]

    yield make
    for node in made:
        node.destroy_node()


def state(node):
    return node._state_machine.current_state[1]


def test_a_whole_life(make):
    node = make()
    assert node.trigger_configure() == SUCCESS and state(node) == "inactive"
    assert not node.out.is_activated and not node.active
    assert node.trigger_activate() == SUCCESS and node.active and node.out.is_activated
    assert node.trigger_deactivate() == SUCCESS and not node.active and not node.out.is_activated
    assert node.trigger_cleanup() == SUCCESS and state(node) == "unconfigured"
    assert node.events == ["started", "stopped, publishing True", *UNDONE]
    assert node.trigger_configure() == SUCCESS  # and again


@pytest.mark.parametrize("way_out", ["trigger_shutdown", "destroy_node"])
def test_an_active_node_is_stopped_and_undone_on_every_way_out(make, way_out):
    node = make()
    node.trigger_configure()
    node.trigger_activate()
    getattr(node, way_out)()
    assert node.events == ["started", "stopped, publishing True", *UNDONE]
    node.destroy_node()
    assert len(node.events) == 4


@pytest.mark.parametrize("way_out", ["trigger_shutdown", "destroy_node"])
def test_what_a_node_made_is_undone_also_where_it_fails_to_stop(make, way_out):
    node = make(do="stick")
    node.trigger_configure()
    node.trigger_activate()
    getattr(node, way_out)()
    assert node.events == ["started", "stopped, publishing True", *UNDONE]
    assert node._failure == "shutdown: stuck" and not node._configured


def test_a_node_is_no_longer_configured_where_something_fails_to_be_undone(make):
    node = make()
    node.trigger_configure()
    node.at_teardown([].pop)
    assert node.trigger_cleanup() == ERROR
    assert node.events == UNDONE and not node._configured and state(node) == "unconfigured"
    assert node.trigger_configure() == SUCCESS


@pytest.mark.parametrize(
    ("do", "result", "message"),
    [
        ("refuse", FAILURE, "configure: do: refuse; set it to work"),
        ("break", ERROR, "configure: unexpected TypeError: a bug"),
    ],
)
def test_a_failed_setup_is_undone_and_can_be_tried_again(make, do, result, message):
    node = make(do=do)
    assert node.trigger_configure() == result
    assert state(node) == "unconfigured" and node.events == UNDONE
    assert node._failure == message
    node.set_parameters([RosParameter("do", value="work")])
    assert node.trigger_configure() == SUCCESS


def test_a_failed_start_leaves_the_node_inactive_and_silent(make):
    node = make(do="fail to start")
    node.trigger_configure()
    assert node.trigger_activate() == FAILURE
    assert state(node) == "inactive" and not node.active and not node.out.is_activated


def diagnostics(node):
    """Return what a node says of itself now."""
    heard = []
    publish = node._diagnostics.publish
    node._diagnostics.publish = lambda msg: (heard.append(msg.status[0]), publish(msg))
    node.publish_diagnostics()
    node._diagnostics.publish = publish
    return heard[0]


def test_diagnostics_tell_the_failure_in_one_line(make):
    node = make(do="refuse")
    node.trigger_configure()
    told = diagnostics(node)
    assert told.level == DiagnosticStatus.ERROR
    assert told.message == "configure: do: refuse; set it to work"
    assert told.name == "talker"
    assert [(v.key, v.value) for v in told.values] == [("lifecycle", "unconfigured")]


def test_only_a_configured_node_is_asked_how_it_is(make):
    node = make()
    assert diagnostics(node).message == "unconfigured"
    node.trigger_configure()
    told = diagnostics(node)  # well, but nothing comes of what it is told
    assert (told.level, told.message) == (DiagnosticStatus.WARN, "inactive")
    node.trigger_activate()
    assert diagnostics(node).message == "well"
    never = make()
    never.trigger_shutdown()
    told = diagnostics(never)
    assert (told.level, told.message) == (DiagnosticStatus.WARN, "finalized")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rate": 20.0}, "parameter rate: got 20.0, expected float from 1 to 10 Hz"),
        ({"rate": 2}, "parameter rate: got 2, expected float from 1 to 10 Hz; write 2.0"),
        ({"do": "sing"}, "parameter do: got 'sing', expected one of work, refuse, break"),
        ({"names": 3}, "parameter names: got 3, expected list of str"),
        ({"fixed": 10}, "parameter fixed: got 10, expected int from 0 to 9"),
    ],
)
def test_a_bad_parameter_is_refused_at_start(make, parameters, message):
    with pytest.raises(ValueError, match=message):
        make(**parameters)


@pytest.mark.parametrize(("name", "value"), [("rate", 0.5), ("do", "sing"), ("fixed", 2)])
def test_a_bad_parameter_is_refused_later(make, name, value):
    node = make()
    before = node.value(name)
    (result,) = node.set_parameters([RosParameter(name, value=value)])
    assert not result.successful and node.value(name) == before


def test_only_live_parameters_change_while_a_node_is_configured(make):
    node = make()
    node.trigger_configure()
    for name, value in (("rate", 2.0), ("live", 2)):
        (result,) = node.set_parameters([RosParameter(name, value=value)])
        assert result.successful is (name == "live")
    assert node.value("rate") == 5.0
    node.trigger_cleanup()
    assert node.set_parameters([RosParameter("rate", value=2.0)])[0].successful


def test_a_parameter_that_is_nearly_called_as_one_is_refused_and_others_are_passed_over(make):
    with pytest.raises(ValueError, match=r"parameter rat: there is none; expected rate\?"):
        make(rat=2.0)
    make(robot="panda", use_sim_time=True)


def test_parameters_describe_themselves(make):
    descriptor = make().describe_parameter("rate")
    assert descriptor.description == "How often. [Hz]"
    assert descriptor.floating_point_range[0].to_value == 10.0
    assert make().describe_parameter("fixed").read_only


def test_a_list_of_one_blank_is_empty():
    assert words([""]) == () and words([" banana ", ""]) == ("banana",)


def test_a_complaint_is_logged_once_whatever_its_numbers(make, monkeypatch):
    node, said = make(), []
    monkeypatch.setattr(
        node.get_logger().__class__, "warning", lambda self, text: said.append(text)
    )
    for text in ("510 ms old", "620 ms old", "broken"):
        node.complain(text)
    assert said == ["510 ms old", "broken"]


def test_health_is_ok_by_default():
    assert Health() == Health(DiagnosticStatus.OK, "running", {})
    assert Health.warn("slow", rate=2).values == {"rate": 2}


MANY = """
import gc, os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
from rt2_ros.nodes.base import BaseNode, Health, run

class Busy(BaseNode):
    def __init__(self):
        super().__init__("busy")
        self.counts = []

    def _setup(self):
        self.every(0.001, self.turn)

    def turn(self):
        self.counts.append(None)
        if len(self.counts) in (200, 700):
            gc.collect()
            print(len(gc.get_objects()), flush=True)
        if len(self.counts) == 700:
            os.kill(os.getpid(), signal.{number})

    def diagnose(self):
        return Health()

sys.exit(run(Busy))
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_a_node_ends_at_a_signal_and_keeps_nothing_of_what_it_did_before(number):
    script = MANY.replace("{number}", number)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert after - before < 100  # of 500 callbacks
