# SPDX-License-Identifier: Apache-2.0
"""What a person at a terminal may do, and when, on a graph of one stub."""

import threading
import time
from dataclasses import replace

import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402

from rt2_ros import cli, say  # noqa: E402
from rt2_ros.bringup import Graph, NodeSpec  # noqa: E402
from rt2_ros.msg import (  # noqa: E402
    ControllerStatus,
    PolicyStatus,
    SceneObject,
    SceneState,
)
from rt2_ros.nodes import operator, topics  # noqa: E402
from rt2_ros.nodes.operator import Operator  # noqa: E402

NAMESPACE = "test_operator"


@pytest.fixture
def stub():
    """A simulator's parameters and publishers, spun in a thread; services are for the test."""
    context = Context()
    context.init(args=[])
    node = Node("simulator_node", namespace=NAMESPACE, context=context)
    for name, value in (("seed", 0), ("scenario", ""), ("objects", [""])):
        node.declare_parameter(name, value)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    ending = threading.Event()

    def spin():
        while not ending.is_set():
            executor.spin_once(0.05)

    thread = threading.Thread(target=spin)
    thread.start()
    yield node
    ending.set()
    thread.join()
    nodes = executor.get_nodes()
    executor.shutdown()
    for each in nodes:
        each.destroy_node()
    context.try_shutdown()


def test_who_is_busy_with_one_topic_hears_the_others_as_well(stub):
    """A picture takes long to film; what the simulator says comes last, and twice."""
    scene, picture = (
        stub.create_publisher(*topic) for topic in (topics.SCENE_STATE, topics.POLICY_STATUS)
    )
    stub.create_timer(0.02, lambda: picture.publish(PolicyStatus()))
    stub.create_timer(0.1, lambda: scene.publish(SceneState(seed=7)))
    heard = []
    with Operator(NAMESPACE) as person:
        person.on(topics.POLICY_STATUS, lambda msg: time.sleep(0.15))
        person.on(topics.SCENE_STATE, lambda msg: heard.append(person.scene is msg))
        person.until(lambda: heard, 20.0, "the simulator")
        heard.clear()
        person.spin(3.0)
    assert len(heard) > 5 and all(heard)


@pytest.mark.parametrize("name", ["left arm", "1left", "左"])
def test_a_name_that_ros_does_not_take_is_a_clear_line(name):
    with pytest.raises(ValueError, match=f"namespace is '{name}'; expected letters, digits"):
        Operator(name)


def test_a_policy_that_says_nothing_is_not_taken_for_one_that_loads(stub, monkeypatch):
    graph = Graph((), (NodeSpec("policy_node", "simulator_node", NAMESPACE, ()),))
    monkeypatch.setattr(operator, "READY_S", 6.0)
    with (
        Operator(NAMESPACE) as person,
        pytest.raises(TimeoutError, match="waited 6 s for the policy to start"),
    ):
        person.until_ready(graph, lambda: None)


def test_a_policy_may_take_long_to_load(stub, monkeypatch):
    graph = Graph((), (NodeSpec("policy_node", "simulator_node", NAMESPACE, ()),))
    policy, controller = (
        stub.create_publisher(*topic) for topic in (topics.POLICY_STATUS, topics.CONTROLLER_STATUS)
    )
    started, state = time.monotonic(), PolicyStatus.UNCONFIGURED

    def say():
        loaded = time.monotonic() - started > 6.0
        policy.publish(PolicyStatus(state=PolicyStatus.IDLE if loaded else state))
        controller.publish(ControllerStatus())

    stub.create_timer(0.1, say)
    monkeypatch.setattr(operator, "READY_S", 4.0)
    with Operator(NAMESPACE) as person:
        person.until(
            lambda: person.alone.running()[f"/{NAMESPACE}/simulator_node"], 10.0, "the stub"
        )
        person.until_ready(graph, lambda: None)
        assert time.monotonic() - started > 3.0
        state, started = PolicyStatus.UNCONFIGURED, time.monotonic()
        monkeypatch.setattr(operator, "LOAD_S", 0.5)
        person.until(lambda: person.policy.state == state, 10.0, "another policy")
        with pytest.raises(TimeoutError, match="waited 0.5 s for the policy to be loaded"):
            person.until_ready(graph, lambda: None)


def test_a_second_simulated_clock_is_refused(stub):
    """Whatever its namespace is: /clock is one for all, and to either's nodes time would jump."""
    node = NodeSpec("simulator_node", "other", "elsewhere", (), {"publish_clock": True})
    real = Graph((replace(node, parameters={}),), ())
    simulated = Graph((node,), ())
    with Operator(NAMESPACE) as person:
        person.alone.refuse_more_than(0, simulated)
        stub.create_publisher(*topics.CLOCK)
        person.until(lambda: person.node.count_publishers("/clock"), 10.0, "the clock")
        with pytest.raises(RuntimeError, match="busy: /clock is published already, and is one for"):
            person.alone.refuse_more_than(0, simulated)
        person.alone.refuse_more_than(1, simulated)
        person.alone.refuse_more_than(0, real)


def test_a_table_is_laid_anew_only_when_nothing_moves_the_arm_any_more(stub):
    """A controller that has not heard of the end would pull the arm back to where it was."""
    status, scene = (
        stub.create_publisher(*topic) for topic in (topics.CONTROLLER_STATUS, topics.SCENE_STATE)
    )
    told = []

    def say(state, instruction_id):
        told.append((state, instruction_id))
        status.publish(ControllerStatus(state=state, instruction_id=instruction_id))

    at_reset = []

    def reset(request, response):
        at_reset.append(told[-1])
        state.laid += 1
        response.success = True
        return response

    stub.create_service(Trigger, topics.RESET_SERVICE, reset)
    state = SceneState(seed=7, objects=[SceneObject(name="banana")])
    stub.create_timer(0.05, lambda: scene.publish(state))
    says = iter(((ControllerStatus.HOLDING, 3), (ControllerStatus.MOVING, 0)))
    with Operator(NAMESPACE) as person:
        say(ControllerStatus.MOVING, 3)
        person.until(lambda: person.controller.instruction_id == 3, 10.0, "the stub")
        stub.create_timer(0.2, lambda: say(*next(says, (ControllerStatus.ARMED, 0))))
        person.until(lambda: person.scene.objects, 10.0, "a table just like it")
        assert person.reset_table(7, ["banana"]).laid == 1 and not person.relaid()
        state.laid += 1
        person.until(person.relaid, 10.0, "the table that nobody asked for")
        assert "laid anew" in person.relaid()
    assert at_reset == [(ControllerStatus.ARMED, 0)]


def say_to_two(stub, statuses, before=lambda person: None):
    """Instruct and ask where two policies listen, of which so many have been heard of."""
    heard = []
    for topic in (topics.INSTRUCTION, topics.QUESTION):
        for _ in range(2):
            stub.create_subscription(*topic.to(heard.append))
    for _ in range(statuses):
        stub.create_publisher(*topics.POLICY_STATUS).publish(PolicyStatus(instruction_id=3))
    with Operator(NAMESPACE) as person:
        node = person.node

        def met():
            listening = [person._instruction, person._question]
            return (
                node.count_publishers(topics.POLICY_STATUS.name) == statuses
                and [publisher.get_subscription_count() for publisher in listening] == [2, 2]
                and [len(person._readers(publisher)) for publisher in listening] == [2, 2]
            )

        person.until(met, 10.0, "both")
        for say_it, name in ((person.instruct, "instruction"), (person.ask, "question")):
            before(person)
            words = f"2 policies listen to /test_operator/{name}"
            with pytest.raises(RuntimeError, match=words):
                say_it("pick up the apple")
        time.sleep(0.5)  # on its way to another thread
    assert heard == []


@pytest.mark.parametrize("statuses", [2, 1])
def test_an_instruction_or_question_goes_to_one_policy_only(stub, statuses):
    """Two may be on two machines; the arm of the other one might move as well.

    Who listens may be met before what it tells is.
    """
    say_to_two(stub, statuses)


def test_nothing_is_said_while_it_is_not_known_who_listens(stub, monkeypatch):
    """Whose a reader is comes last of what is discovered."""

    def hide(person):
        looks = iter(range(5))

        def readers(publisher):
            first, second = Operator._readers(person, publisher)
            known = "policy" in person._heard and next(looks, None) is None
            return [first, second if known else operator.UNNAMED]

        monkeypatch.setattr(person, "_readers", readers)

    say_to_two(stub, 1, hide)


@pytest.mark.parametrize(
    ("state", "reason", "code", "words"),
    [
        (ControllerStatus.ARMED, "armed", 0, "accepted"),
        (ControllerStatus.STOPPED, "stopped by service; call ~/arm to go on", 1,
         "not obeyed: stopped by service; call ~/arm to go on; arm the arm (rt2 arm), then say it "
         "again"),
        (None, "", 1, "not obeyed: no controller was met"),
    ],
)  # fmt: skip
def test_what_is_said_to_an_arm_that_is_not_armed_is_not_called_accepted(
    stub, capsys, monkeypatch, state, reason, code, words
):
    """It is not obeyed later either, when the arm is armed."""
    status = stub.create_publisher(*topics.POLICY_STATUS)
    status.publish(PolicyStatus())
    monkeypatch.setattr(operator, "REPLY_S", 4.0)
    if state is not None:
        controller = stub.create_publisher(*topics.CONTROLLER_STATUS)
        controller.publish(ControllerStatus(state=state, reason=reason))
    stub.create_subscription(
        *topics.INSTRUCTION.to(
            lambda msg: status.publish(PolicyStatus(instruction=msg.data, instruction_id=5))
        )
    )
    assert say.main(["pick up the apple", "--namespace", NAMESPACE]) == code
    assert capsys.readouterr().out.splitlines()[-1] == f"instruction 5: {words}"


@pytest.mark.parametrize(
    ("command", "kind", "given", "asked"),
    [
        ("arm", SetBool, [], True), ("arm", SetBool, ["--off"], False),
        ("stop", Trigger, [], None), ("home", Trigger, [], None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("done", [True, False])
def test_the_controllers_services_are_commands(stub, capsys, command, kind, given, asked, done):
    """Who has ROS from wheels has no `ros2` to call them."""
    heard = []

    def serve(request, response):
        heard.append(getattr(request, "data", None))
        response.success, response.message = done, "what came of it"
        return response

    stub.create_service(kind, f"controller_node/{command}", serve)
    assert cli.main([command, "--namespace", NAMESPACE, *given]) == (not done)
    assert heard == [asked] and capsys.readouterr().out == "what came of it\n"


@pytest.mark.parametrize(
    ("command", "kind", "given", "stops"),
    [
        ("arm", SetBool, [], False), ("arm", SetBool, ["--off"], True),
        ("stop", Trigger, [], True), ("home", Trigger, [], False),
    ],
)  # fmt: skip
def test_of_two_controllers_none_is_taken_for_both(stub, capsys, command, kind, given, stops):
    """A simulated arm here and a real one in the same domain: whose is the first reply."""
    heard = set()

    def server(which):
        def serve(request, response):
            heard.add(which)
            response.success, response.message = True, "done"
            return response

        return serve

    for which in range(2):
        stub.create_service(kind, f"controller_node/{command}", server(which))
    assert cli.main([command, "--namespace", NAMESPACE, *given]) == 1
    assert heard == ({0, 1} if stops else set())
    out, err = capsys.readouterr()
    assert "2 controllers were met" in out + err and "done" not in out


def test_who_is_not_met_may_be_elsewhere(stub, monkeypatch):
    monkeypatch.setattr(operator, "REPLY_S", 6.0)
    stub.create_subscription(*topics.INSTRUCTION.to(lambda msg: None))
    with (
        Operator("elsewhere") as person,
        pytest.raises(TimeoutError, match=f"is it another --namespace: .*/{NAMESPACE}"),
    ):
        person.instruct("pick up the apple")
    stub.create_publisher(*topics.POLICY_STATUS).publish(PolicyStatus())  # before it listens
    with Operator(NAMESPACE) as person:
        person.until(lambda: "policy" in person._heard, 10.0, "the policy")
        assert person._where() == "the policy is still being loaded"


def test_of_several_controllers_it_is_not_known_which_has_stopped(stub, monkeypatch, capsys):
    """Two computers' nodes have the same names; one arm may move while the other one rests."""
    monkeypatch.setattr(operator, "REPLY_S", 5.0)
    confirms_at_once(stub)
    for _ in range(2):
        stub.create_publisher(*topics.CONTROLLER_STATUS).publish(ControllerStatus())
    assert say.main(STOP) == 1
    assert "2 controllers were met, and which stopped is not told" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["stop", "Stop!", "停下"])
def test_the_word_is_a_stop_as_well(stub, capsys, word):
    confirms_at_once(stub)
    stub.create_subscription(*topics.INSTRUCTION.to(lambda msg: heard.append(msg.data)))
    stub.create_publisher(*topics.CONTROLLER_STATUS).publish(ControllerStatus())
    heard = []
    assert say.main([word, "--namespace", NAMESPACE]) == 0
    assert set(heard) == {""} and capsys.readouterr().out.endswith("instruction 4: stopped\n")


def test_an_arm_that_still_moves_has_not_stopped(stub, monkeypatch, capsys):
    """Its status is that of what was commanded; where MoveIt moves it, the arm is later."""
    monkeypatch.setattr(operator, "REPLY_S", 5.0)
    confirms_at_once(stub)
    status, msg = stub.create_publisher(*topics.CONTROLLER_STATUS), ControllerStatus()

    def move():
        msg.end_effector_pose.position.x += 0.01
        status.publish(msg)

    stub.create_timer(0.2, move)
    assert say.main(STOP) == 1
    assert "the controller has not confirmed the stop" in capsys.readouterr().out


def test_of_an_arm_that_nobody_measures_it_is_not_known_that_it_rests(stub, monkeypatch, capsys):
    monkeypatch.setattr(operator, "REPLY_S", 5.0)
    confirms_at_once(stub)
    blind = ControllerStatus(reason="done; no joint states for more than 0.3 s")
    stub.create_publisher(*topics.CONTROLLER_STATUS).publish(blind)
    assert say.main(STOP) == 1
    assert "nobody tells where the arm is" in capsys.readouterr().out


STOP = ["", "--namespace", NAMESPACE]


def test_a_stop_reaches_the_controller_though_no_policy_answers(stub, monkeypatch, capsys):
    """On its way home, or on a plan of MoveIt, an arm needs no policy; nor may its stop."""
    monkeypatch.setattr(operator, "REPLY_S", 6.0)
    status = stub.create_publisher(*topics.CONTROLLER_STATUS)
    status.publish(ControllerStatus(state=ControllerStatus.MOVING, reason="moving home"))
    heard = []

    def take(msg):
        heard.append((msg.data, time.monotonic()))
        status.publish(ControllerStatus(state=ControllerStatus.ARMED, reason="empty instruction"))

    stub.create_subscription(*topics.INSTRUCTION.to(take))
    assert say.main(STOP) == 1
    ended = time.monotonic()
    assert [text for text, _ in heard] == [""]
    assert ended - heard[0][1] > 2.0  # at once, not when the wait for a policy was over
    assert capsys.readouterr().out.splitlines() == [
        f"stop: sent, 1 listen to /{NAMESPACE}/instruction",
        "no policy has confirmed the stop; the controller says that the arm does not move: "
        "empty instruction",
    ]


def test_a_stop_is_told_again_to_who_is_met_later_and_the_policy_confirms_it(stub, capsys):
    heard = []
    stub.create_subscription(*topics.INSTRUCTION.to(lambda msg: heard.append(msg.data)))
    status = stub.create_publisher(*topics.POLICY_STATUS)
    status.publish(PolicyStatus(instruction="pick up the apple", instruction_id=3))
    stub.create_publisher(*topics.CONTROLLER_STATUS).publish(ControllerStatus())

    def appear():
        timer.cancel()
        stub.create_subscription(
            *topics.INSTRUCTION.to(lambda msg: status.publish(PolicyStatus(instruction_id=4)))
        )

    timer = stub.create_timer(2.0, appear)
    assert say.main(STOP) == 0
    assert set(heard) == {""}
    assert capsys.readouterr().out.splitlines()[-1] == "instruction 4: stopped"


def confirms_at_once(stub, then=lambda: None):
    """Be a policy that is idle; `then` is called at the first stop."""
    status = stub.create_publisher(*topics.POLICY_STATUS)
    status.publish(PolicyStatus(instruction_id=3))
    stops = []

    def take(msg):
        stops.append(msg)
        status.publish(PolicyStatus(instruction_id=4))
        if len(stops) == 1:
            then()

    stub.create_subscription(*topics.INSTRUCTION.to(take))


@pytest.mark.parametrize("seen", [False, True])  # whether it is, before it listens
def test_a_stop_is_not_accepted_before_the_controller_has_got_it(stub, capsys, seen):
    """An idle policy confirms at once; meanwhile the arm may be on its way home."""
    controller = Node("controller_node", namespace=NAMESPACE, context=stub.context)
    stub.executor.add_node(controller)
    heard, statuses = [], []

    def be_seen(state):
        statuses.append(controller.create_publisher(*topics.CONTROLLER_STATUS))
        statuses[0].publish(ControllerStatus(state=state))

    def take(msg):
        heard.append(msg.data)
        statuses[0].publish(ControllerStatus(state=ControllerStatus.ARMED))

    def listen():
        later.cancel()
        if not seen:
            be_seen(ControllerStatus.MOVING)
        controller.create_subscription(*topics.INSTRUCTION.to(take))

    if seen:
        be_seen(ControllerStatus.ARMED)
    later = stub.create_timer(1.5, listen)
    later.cancel()
    confirms_at_once(stub, later.reset)
    assert say.main(STOP) == 0
    time.sleep(0.5)  # it has arrived; on its way to another thread
    assert heard and set(heard) == {""}
    assert capsys.readouterr().out.splitlines()[-1] == "instruction 4: stopped"


def test_a_stop_without_a_controller_is_not_accepted(stub, monkeypatch, capsys):
    monkeypatch.setattr(operator, "REPLY_S", 6.0)
    confirms_at_once(stub)
    assert say.main(STOP) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "no controller was met"


def test_a_stop_that_nobody_hears_says_so(monkeypatch):
    monkeypatch.setattr(operator, "REPLY_S", 0.5)
    with pytest.raises(TimeoutError, match="somebody who listens to /nobody/instruction"):
        say.main(["", "--namespace", "nobody"])


def test_every_wait_ends_when_its_check_raises(stub):
    """A node that has died is told at once, as is ctrl-C; neither is waited for as a reply is."""

    class Died(Exception):
        pass

    def check():
        raise Died

    with Operator(NAMESPACE) as person:
        began = time.monotonic()
        for wait in (
            lambda: person.instruct("pick up the apple", check),
            lambda: person.instruct("", check),
            lambda: person.stop(check=check),
            lambda: person.reset_table(7, check=check),
        ):
            with pytest.raises(Died):
                wait()
        assert time.monotonic() - began < operator.REPLY_S / 2


def test_a_check_is_made_while_a_reply_is_awaited(stub):
    """The policy listens but takes nothing; the simulator lays no table."""
    stub.create_subscription(*topics.INSTRUCTION.to(lambda msg: None))
    stub.create_publisher(*topics.POLICY_STATUS).publish(PolicyStatus(instruction_id=3))

    def reset(request, response):
        response.success = True
        return response

    stub.create_service(Trigger, topics.RESET_SERVICE, reset)
    with Operator(NAMESPACE) as person:
        for wait in (
            lambda check: person.instruct("pick up the apple", check),
            lambda check: person.reset_table(7, check=check),
        ):
            end = time.monotonic() + 3.0

            def check(end=end):
                if time.monotonic() > end:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                wait(check)
