# SPDX-License-Identifier: Apache-2.0
"""The node graph, described once; `launch/bringup.launch.py` and `rt2 up` both start this.

    graph = describe(policy="rt2-tiny", sim="mujoco", namespace="left")
    for node in graph.nodes:
        print(node.command())   # python -m rt2_ros.nodes.simulator_node --ros-args ...

Nothing here imports ROS, so that `rt2 --help` and tests are fast.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rt2_ros.paths import config_path, read_yaml
from rt2_ros.policies.registry import policy_config
from rt2_ros.typed import misspelt

PACKAGE = "rt2_ros"
SIMULATORS = ("mujoco", "gazebo", "none")
PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"
RMW, RANGE = "RMW_IMPLEMENTATION", "ROS_AUTOMATIC_DISCOVERY_RANGE"
# Environment of `python -m`, which otherwise takes a package of the current folder before the
# installed one: the source checkout that somebody works in has no built messages. Python 3.11+.
MODULE = {"PYTHONSAFEPATH": "1"}


@dataclass(frozen=True)
class Argument:
    """One argument of bring-up: the same name, default and words in `ros2 launch` and `rt2 up`."""

    name: str
    default: str
    text: str
    choices: tuple[str, ...] = ()


ARGUMENTS = (
    Argument("robot", "panda", "Name in config/robots, or such a file."),
    Argument("policy", "rt2-tiny", "Name in config/policies, such a file, or a checkpoint folder."),
    Argument("sim", "mujoco", "Where the arm is: simulated, or none for a real one.", SIMULATORS),
    Argument(
        "bridge",
        "",
        "joint_trajectory, moveit_servo, moveit, dry_run; default: as params_file or robot says.",
    ),
    Argument("namespace", "", "Namespace of all nodes and topics, for several robots."),
    Argument("params_file", "", "YAML parameters that go over config/bringup.yaml."),
    Argument("use_sim_time", "false", "Follow the simulator's /clock.", ("true", "false")),
)


@dataclass(frozen=True)
class NodeSpec:
    """One process of the graph.

    params_files are read in order, later ones win, and `parameters` win over all. environment is
    what this process needs beyond that of its parent.
    """

    executable: str
    name: str
    namespace: str
    params_files: tuple[Path, ...]
    parameters: Mapping[str, object] = field(default_factory=dict)
    remappings: tuple[tuple[str, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("executable", "name"):
            if not re.fullmatch(r"[a-z][a-z0-9_]*", getattr(self, key)):
                raise ValueError(f"NodeSpec.{key} is {getattr(self, key)!r}; expected a ROS name")
        for path in self.params_files:
            if not path.is_file():
                raise ValueError(f"{self.name}: no parameter file {path}")

    @property
    def full_name(self) -> str:
        """The node's name with its namespace: /left/policy_node."""
        return "/" + "/".join(filter(None, (self.namespace.strip("/"), self.name)))

    def ros_args(self) -> list[str]:
        """What follows the executable."""
        args = ["--ros-args", "-r", f"__node:={self.name}"]
        if self.namespace:
            args += ["-r", f"__ns:=/{self.namespace.strip('/')}"]
        for path in self.params_files:
            args += ["--params-file", str(path)]
        for key, value in self.parameters.items():
            args += ["-p", f"{key}:={json.dumps(value)}"]  # JSON is YAML: "7" stays a string
        for old, new in self.remappings:
            args += ["-r", f"{old}:={new}"]
        return args

    def command(self) -> list[str]:
        """The command line that starts this node with the running interpreter, under `MODULE`."""
        return [sys.executable, "-m", f"{PACKAGE}.nodes.{self.executable}", *self.ros_args()]


@dataclass(frozen=True)
class Graph:
    """All nodes: `simulation` stands for the world, `robot` is what runs on a real arm as well.

    Gazebo is no node of ours: launch/gazebo.launch.py describes it, and `simulation` is empty.
    """

    simulation: tuple[NodeSpec, ...]
    robot: tuple[NodeSpec, ...]

    def __post_init__(self) -> None:
        names = [node.full_name for node in self.nodes]
        if len(set(names)) != len(names):
            raise ValueError(f"Graph.nodes are {names}; expected different names")

    @property
    def nodes(self) -> tuple[NodeSpec, ...]:
        """Every node, the world first."""
        return self.simulation + self.robot


def environment(network: bool = False) -> dict[str, str]:
    """The transport of a process of the graph; a person's own profile stays in force.

    network: it also talks to other machines, as a real arm's graph must; a simulated one's does not
    leave this one. Both find each other on one machine. Only Fast DDS reads our profiles: where
    another middleware is chosen, ROS 2's own words for the same are left.
    """
    chosen = os.environ.get(RMW, "")
    if chosen and not chosen.startswith("rmw_fastrtps"):
        return {} if network or RANGE in os.environ else {RANGE: "LOCALHOST"}
    name = "fastdds-network.xml" if network else "fastdds.xml"
    return {} if PROFILES in os.environ else {PROFILES: str(config_path(name))}


def checked_namespace(namespace: str) -> str:
    """Return it; ValueError if it cannot be one."""
    if not re.fullmatch(r"(/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*)?", namespace, re.ASCII):
        raise ValueError(f"namespace is {namespace!r}; expected letters, digits, _ and /")
    return namespace


def describe(
    robot: str = "panda",
    policy: str = "rt2-tiny",
    sim: str = "mujoco",
    bridge: str = "",
    namespace: str = "",
    params_file: str = "",
    use_sim_time: str | bool = "false",
) -> Graph:
    """Return the graph for these arguments; ValueError names a bad one and what exists."""
    robots = sorted(path.stem for path in config_path("robots").glob("*.yaml"))
    robots.remove("template")  # to be copied, not driven
    if robot not in robots and not (robot.endswith(".yaml") and Path(robot).is_file()):
        raise ValueError(f"no robot {robot!r}; there are: {', '.join(robots)}")
    policy_config(policy)
    if sim not in SIMULATORS:
        raise ValueError(f"sim is {sim!r}; expected one of {', '.join(SIMULATORS)}")
    if sim == "gazebo" and robot != "panda":
        raise ValueError(f"sim 'gazebo' has only robot 'panda', not {robot!r}")
    checked_namespace(namespace)
    if params_file and not Path(params_file).is_file():
        raise ValueError(f"params_file: no file {params_file}")
    if str(use_sim_time).lower() not in ("true", "false"):
        raise ValueError(f"use_sim_time is {use_sim_time!r}; expected true or false")
    # Gazebo stamps with simulated time, whatever was asked for.
    sim_time = str(use_sim_time).lower() == "true" or sim == "gazebo"

    files = (config_path("bringup.yaml"), *([Path(params_file).absolute()] if params_file else ()))
    # Left out where nothing is asked for: an empty one would win over a params_file's.
    asked = {"bridge": bridge} if bridge else {}

    def node(executable: str, **parameters: object) -> NodeSpec:
        return NodeSpec(
            executable=executable,
            name=executable,
            namespace=namespace,
            params_files=files,
            parameters=parameters,
            environment=environment(network=sim == "none"),
        )

    graph = Graph(
        simulation=(node("simulator_node", robot=robot, publish_clock=sim_time),)
        if sim == "mujoco"
        else (),
        robot=(
            node("camera_node", robot=robot, use_sim_time=sim_time),
            node("policy_node", policy=policy, use_sim_time=sim_time),
            # A simulated arm hurts nobody; a real one waits for a person to call ~/arm.
            node(
                "controller_node",
                robot=robot,
                start_armed=sim != "none",
                use_sim_time=sim_time,
                **asked,
            ),
        ),
    )
    if params_file:
        _refuse_overridden(graph, Path(params_file))
    return graph


def _refuse_overridden(graph: Graph, params_file: Path) -> None:
    """ValueError if a person's file sets what the arguments decide, or is for other nodes than it
    seems to be: one would be lost unsaid, and a dry run that was asked for would move the arm.

    Mostly the file's. But where the file has a section `/**`, the argument goes in there, and wins
    over no later section that names the node. A name without a namespace is that of a node which
    has none.
    """
    names = [node.name for node in graph.nodes]
    astray, reached = [], set()
    for section, given in _sections(read_yaml(params_file)):
        last = section.rpartition("/")[2]
        if last not in names and (meant := misspelt(last, names)):
            raise ValueError(f"{params_file}: no node {last!r}; expected {meant}?")
        pattern = section.replace("/**", r"(/\w+)*").replace("/*", r"/\w+")
        found = [node for node in graph.nodes if re.fullmatch(pattern, node.full_name)]
        if not found and last in names:
            astray.append((section, last))
        if found:
            reached.add(last)
        for node in found:
            for key in sorted(given.keys() & node.parameters.keys()):
                if given[key] != node.parameters[key]:
                    raise ValueError(
                        f"{params_file}: {key} of {node.full_name} is {given[key]!r}, but the "
                        f"arguments decide it, {node.parameters[key]!r}: give it as an argument"
                    )
    for section, last in astray:
        if section == f"/{last}" or last not in reached:  # else of another robot, in the same file
            name = next(node.full_name for node in graph.nodes if node.name == last)
            raise ValueError(
                f"{params_file}: section {section!r} is for no node of this graph, whose is "
                f"{name}: write /**/{last}"
            )


def _sections(tree: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each `ros__parameters` of a parameter file, with the full name that it is for: /left/node,
    where /** stands for any namespace and /* for one part of it.
    """
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if key == "ros__parameters" and isinstance(value, dict):
            yield path, value
        else:
            yield from _sections(value, f"{path}/{str(key).strip('/')}")
