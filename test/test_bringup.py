# SPDX-License-Identifier: Apache-2.0
import argparse
import importlib
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from rt2_ros import up
from rt2_ros.bringup import ARGUMENTS, PROFILES, RANGE, RMW, Graph, NodeSpec, describe, environment
from rt2_ros.paths import config_path

NETWORK = "fastdds-network.xml"
LAUNCH = Path(__file__).parents[1] / "launch"


def by_name(graph):
    return {node.name: node for node in graph.nodes}


def test_the_default_graph_is_world_camera_policy_controller():
    graph = describe(policy="hold")
    assert list(by_name(graph)) == [
        "simulator_node",
        "camera_node",
        "policy_node",
        "controller_node",
    ]
    assert by_name(graph)["policy_node"].parameters["policy"] == "hold"
    assert by_name(graph)["controller_node"].parameters["start_armed"] is True


def test_a_real_arm_has_no_simulator_and_starts_disarmed():
    graph = describe(policy="hold", sim="none")
    assert graph.simulation == ()
    assert by_name(graph)["controller_node"].parameters["start_armed"] is False


def test_sim_time_is_the_simulators_and_all_others_follow():
    nodes = by_name(describe(policy="hold", use_sim_time="true"))
    assert nodes.pop("simulator_node").parameters["publish_clock"] is True
    assert all(node.parameters["use_sim_time"] is True for node in nodes.values())


def test_arguments_become_ros_arguments(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("{}")
    graph = describe(policy="hold", namespace="left/arm", params_file=str(mine))
    node = by_name(graph)["policy_node"]
    assert node.full_name == "/left/arm/policy_node"
    assert node.ros_args() == [
        *("--ros-args", "-r", "__node:=policy_node", "-r", "__ns:=/left/arm"),
        *("--params-file", str(config_path("bringup.yaml")), "--params-file", str(mine)),
        *("-p", 'policy:="hold"', "-p", "use_sim_time:=false"),
    ]


def test_a_bridge_of_a_params_file_stays_where_no_argument_is_given(tmp_path):
    """An empty argument, given after the file, once made a dry run move a real arm."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("/**/controller_node:\n  ros__parameters:\n    bridge: dry_run\n")
    given = {"policy": "hold", "sim": "none", "params_file": str(mine)}
    node = by_name(describe(**given))["controller_node"]
    assert not [word for word in node.ros_args() if word.startswith("bridge:=")]
    node = by_name(describe(**given, bridge="dry_run"))["controller_node"]
    assert 'bridge:="dry_run"' in node.ros_args()


@pytest.mark.parametrize("name", ["controller_node", "/left/controller_node", "/**"])
def test_a_bridge_of_a_params_file_is_refused_where_the_argument_is_another(tmp_path, name):
    """Under the node's own name, after a section `/**`, the file's went over the argument's."""
    mine = tmp_path / "mine.yaml"
    other = "" if name == "/**" else "/**:\n  ros__parameters:\n    use_sim_time: false\n"
    mine.write_text(f"{other}{name}:\n  ros__parameters:\n    bridge: joint_trajectory\n")
    namespace = "left" if "left" in name else ""
    with pytest.raises(ValueError, match="bridge of .*/controller_node is 'joint_trajectory'"):
        describe(
            policy="hold", sim="none", params_file=str(mine), bridge="dry_run", namespace=namespace
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/**/camera_node: {ros__parameters: {robot: fr3}}", "robot of /left/camera_node is 'fr3'"),
        ("/**: {ros__parameters: {use_sim_time: true}}", "use_sim_time of /left/camera_node is T"),
        ("left: {policy_node: {ros__parameters: {policy: sweep}}}", "policy of /left/policy_node"),
        (
            "/*/controller_node: {ros__parameters: {start_armed: true}}",
            "start_armed of .* False",
        ),
        ("controler_node: {ros__parameters: {bridge: dry_run}}", "no node 'controler_node'; exp"),
        (
            "controller_node: {ros__parameters: {bridge: dry_run}}",
            "section '/controller_node' is for no node of this graph, whose is "
            r"/left/controller_node: write /\*\*/controller_node",
        ),
        (
            "/**/controller_node: {ros__parameters: {moveit_params: a.yaml}}\n"
            "controller_node: {ros__parameters: {bridge: dry_run}}",
            "section '/controller_node' is for no node",
        ),
        (
            "lefft: {controller_node: {ros__parameters: {bridge: dry_run}}}",
            "section '/lefft/controller_node' is for no node",
        ),
        ("a: [1", "not YAML"),
    ],
)
def test_a_params_file_that_would_be_overridden_is_refused(tmp_path, text, message):
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    given = {"policy": "hold", "sim": "none", "params_file": str(mine)}
    with pytest.raises(ValueError, match=f"mine.yaml: {message}"):
        describe(**given, namespace="left")


@pytest.mark.parametrize(
    "text",
    [
        "/**: {ros__parameters: {use_sim_time: false}}",
        "/left/camera_node: {ros__parameters: {cameras: [wrist]}}\n"
        "/other/camera_node: {ros__parameters: {robot: fr3}}",  # two arms, one file
        "/**/simulator_node: {ros__parameters: {seed: 7}}",  # is not started
        "/**/camera_node: {ros__parameters: {cameras: [wrist]}}",
        "",
    ],
)
def test_other_params_files_are_taken(tmp_path, text):
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    describe(policy="hold", sim="none", namespace="left", params_file=str(mine))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"robot": "ur5"}, "no robot 'ur5'; there are: fr3, gen3, iiwa14, panda"),
        ({"policy": "rt3"}, "no policy 'rt3': not one of .*hold"),
        ({"sim": "isaac"}, "sim is 'isaac'; expected one of mujoco, gazebo, none"),
        ({"namespace": "my robot"}, "namespace is 'my robot'; expected letters"),
        ({"namespace": "a" * 60 + "-1"}, "namespace is 'a*-1'; expected letters"),
        ({"params_file": "none.yaml"}, "params_file: no file none.yaml"),
        ({"use_sim_time": "maybe"}, "use_sim_time is 'maybe'; expected true or false"),
    ],
)
def test_a_bad_argument_is_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message):
        describe(**{"policy": "hold", **arguments})


def test_only_a_real_arms_graph_reaches_over_the_network(monkeypatch):
    """Its driver may run on another machine, and a person at one must be able to stop it."""
    monkeypatch.delenv(PROFILES, raising=False)
    for node in describe(policy="hold", sim="none").nodes:
        assert node.environment == {PROFILES: str(config_path(NETWORK))}
    parser = argparse.ArgumentParser()
    up.add_graph_arguments(parser)
    for sim, name in (("none", NETWORK), ("mujoco", "fastdds.xml")):
        monkeypatch.delenv(PROFILES, raising=False)
        up.graph_from(parser.parse_args(["--policy", "hold", "--sim", sim]))
        assert os.environ[PROFILES] == str(config_path(name))
    monkeypatch.setenv(PROFILES, "/mine.xml")
    assert describe(policy="hold", sim="none").nodes[0].environment == {}


def test_the_two_transports_share_their_shared_memory_and_one_has_no_whitelist():
    local, network = (ET.parse(config_path(name)).getroot() for name in ("fastdds.xml", NETWORK))
    for of, whitelists in ((local, ["127.0.0.1"]), (network, [])):
        found = [element.text for element in of.iterfind(".//{*}interfaceWhiteList/{*}address")]
        assert found == whitelists
    memory = [
        [(child.tag, child.text) for child in root.find(".//{*}transport_descriptor")]
        for root in (local, network)
    ]
    assert memory[0] == memory[1] and len(memory[0]) == 3


def test_the_transport_profile_is_set_unless_a_person_has_one(monkeypatch):
    for name in (PROFILES, RMW, RANGE):
        monkeypatch.delenv(name, raising=False)
    assert environment() == {PROFILES: str(config_path("fastdds.xml"))}
    assert by_name(describe(policy="hold"))["camera_node"].environment == environment()
    monkeypatch.setenv(PROFILES, "/mine.xml")
    assert environment() == {}


def test_a_simulated_graph_stays_on_its_machine_by_another_middleware_as_well(monkeypatch):
    for name in (PROFILES, RANGE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(RMW, "rmw_cyclonedds_cpp")
    assert environment() == {RANGE: "LOCALHOST"} and environment(network=True) == {}
    monkeypatch.setenv(RANGE, "SUBNET")
    assert environment() == {}


def test_a_graph_has_each_node_once():
    node = NodeSpec("policy_node", "policy_node", "", ())
    with pytest.raises(ValueError, match="expected different names"):
        Graph((), (node, node))


def test_config_and_description_name_the_parameters_that_the_nodes_declare():
    pytest.importorskip("rclpy")
    written = yaml.safe_load(config_path("bringup.yaml").read_text())
    for name, node in by_name(describe(policy="hold")).items():
        module = importlib.import_module(f"rt2_ros.nodes.{name}")
        kind = getattr(module, "".join(word.capitalize() for word in name.split("_")))
        declared = {parameter.name for parameter in kind.PARAMETERS}
        in_file = set(written.get(f"/**/{name}", {}).get("ros__parameters", {}))
        assert in_file | (set(node.parameters) - {"use_sim_time"}) == declared, name


# launch/ is read by ros2 launch; its modules are not on PyPI.


def description(name):
    sources = pytest.importorskip("launch.launch_description_sources")
    pytest.importorskip("launch_ros")
    return sources.get_launch_description_from_python_launch_file(str(LAUNCH / name))


@pytest.mark.parametrize("name", ["bringup.launch.py", "simulation.launch.py"])
def test_launch_files_have_the_arguments_of_the_description(name):
    declared = description(name).get_launch_arguments()
    found = {a.name: a.default_value[0].text if a.default_value else "" for a in declared}
    assert found == {a.name: a.default for a in ARGUMENTS}


def test_launch_starts_what_the_description_says():
    files = description("bringup.launch.py")
    import launch
    from launch_ros.actions import Node

    context = launch.LaunchContext()
    for key, value in {"policy": "hold", "namespace": "left"}.items():
        context.launch_configurations[key] = value

    def started(entities):
        for entity in entities or []:
            if isinstance(entity, Node):
                yield entity
            else:
                yield from started(entity.visit(context))

    nodes = {node.node_executable: node for node in started(files.entities)}
    expected = by_name(describe(policy="hold", namespace="left"))
    assert set(nodes) == set(expected)
    for name, node in nodes.items():
        given = [launch.utilities.perform_substitutions(context, part) for part in node.cmd[1:-1]]
        assert given[: len(expected[name].ros_args())] == expected[name].ros_args()
