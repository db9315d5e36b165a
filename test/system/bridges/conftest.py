# SPDX-License-Identifier: Apache-2.0
"""controller_node as a process, and what its bridges talk to as nodes of the test."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.time import Time
from std_srvs.srv import SetBool, Trigger

from rt2_ros.control.profile import RobotProfile
from rt2_ros.msg import Observation
from rt2_ros.nodes import topics
from rt2_ros.paths import config_path

BUILD = Path(__file__).parents[2] / "interfaces" / "build.py"
CHAINS = (("shape_msgs", "moveit_msgs"), ("control_msgs", "controller_manager_msgs"))
PANDA = config_path("robots", "panda.yaml").read_text(encoding="utf-8")
URDF = config_path("robots", "panda.urdf").read_text(encoding="utf-8")
# For a busy machine.
TIMES = {"chunk_duration": 0.6, "time_to_live": 2.0, "joint_state_timeout": 1.0}


@pytest.fixture(scope="session")
def interfaces(request):
    """PYTHONPATH for nodes that speak the interfaces of ros2_control and MoveIt; empty if they are
    installed.
    """
    packages = [package for chain in CHAINS for package in chain]
    if all(find_spec(package) for package in packages):
        return ""
    definitions = sorted(path for path in BUILD.parent.rglob("*") if path.is_file())
    texts = [path.read_bytes() for path in definitions if "__pycache__" not in path.parts]
    key = hashlib.sha256(b"\0".join([sys.version.encode(), *texts])).hexdigest()[:16]
    out = request.config.cache.mkdir("bridge_interfaces") / key
    if not (out / "done").exists():
        shutil.rmtree(out, ignore_errors=True)  # what an interrupted build has left
        out.mkdir()

        def build(chain):
            for package in chain:
                done = subprocess.run(
                    [sys.executable, BUILD, package, out], capture_output=True, text=True
                )
                assert done.returncode == 0, f"{package}: {done.stdout}\n{done.stderr}"

        with ThreadPoolExecutor(len(CHAINS)) as pool:
            list(pool.map(build, CHAINS))
        (out / "done").touch()
    sys.path.insert(0, str(out))
    return str(out)


@pytest.fixture(scope="session")
def peer_kinds(interfaces):
    sys.path.insert(0, str(Path(__file__).parent))
    import bridge_peers
    import moveit_peers

    return SimpleNamespace(**vars(bridge_peers) | vars(moveit_peers))


@pytest.fixture(scope="module")
def peers(peer_kinds, namespace):
    peers = peer_kinds.Peers(namespace)
    yield peers
    peers.close()


@pytest.fixture(scope="module")
def profile_file(tmp_path_factory):
    """Write a profile of the Panda with some keys changed; return its path."""

    def write(**keys):
        text = PANDA
        for key, value in (TIMES | keys).items():
            text, count = re.subn(rf"(?m)^{key}: .*$", f"{key}: {value}", text)
            assert count == 1, key
        path = tmp_path_factory.mktemp("robots") / "panda.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


class Bench:
    """A controller under test, the arm behind it, and the test's own hands."""

    def __init__(self, probe, peers, kinds, start, interfaces, profile_file):
        self.probe, self.peers, self.kinds = probe, peers, kinds
        self._start, self._interfaces, self._profile_file = start, interfaces, profile_file
        self.id, self.step, self._since = 0, 0, 0
        probe.keep(topics.CONTROLLER_STATUS, topics.JOINT_STATES, topics.DIAGNOSTICS)

    def begin(self, bridge, armed=True, peers=(), parameters=None, **keys):
        """Start arm, peers and controller; returns when the controller has its URDF.

        keys: of the robot's profile.
        """
        path = self._profile_file(**keys)
        self.arm = self.peers.add(self.kinds.Arm, RobotProfile.load(path), URDF)
        made = [self.peers.add(kind, self.arm, *rest) for kind, *rest in peers]
        self.restart(bridge, path, armed, **(parameters or {}))
        self.probe.client(Trigger, "controller_node/stop")  # a stop must not wait for discovery
        return made

    def restart(self, bridge, path, armed=True, **parameters):
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join(
                filter(None, (self._interfaces, os.environ.get("PYTHONPATH", "")))
            )
        }
        self._since = self.probe.now().nanoseconds  # what an earlier one said does not count
        self.controller = self._start(
            "controller_node", env=env, bridge=bridge, robot=path, start_armed=armed, **parameters
        )
        self.until(lambda msg: msg.end_effector_pose.position.x > 0, "the controller to see joints")

    def until(self, condition, what):
        """Wait for a controller status; return it."""

        def found():
            assert self.controller.running, self.controller.text
            msg = self.probe.last(topics.CONTROLLER_STATUS)
            new = msg is not None and Time.from_msg(msg.header.stamp).nanoseconds > self._since
            return msg if new and condition(msg) else None

        try:
            return self.probe.until(found, what)
        except AssertionError as error:
            status = self.probe.last(topics.CONTROLLER_STATUS)
            raise AssertionError(f"{error}; {status and status.reason}") from None

    def until_new(self, condition, what):
        """The same, of a status from now on."""
        self._since = self.probe.now().nanoseconds
        return self.until(condition, what)

    def until_reason(self, *texts):
        """Wait for a status whose reason says all this; return the reason."""
        return self.until(lambda msg: all(t in msg.reason for t in texts), f"{texts}").reason

    def until_free(self):
        """Arm, which gives a new reason, and wait until the bridge adds no complaint to it."""
        self.probe.call(SetBool, "controller_node/arm", SetBool.Request(data=True))
        self.until_new(lambda msg: ";" not in msg.reason, "the bridge to be ready")

    def instruct(self):
        """Arm, and give a new instruction, as the policy tells it."""
        self.probe.call(SetBool, "controller_node/arm", SetBool.Request(data=True))
        self.step = 0
        for _ in range(2):  # the first that a controller hears of may be older than it
            self.id += 1
            self.probe.instruct(self.id)
        self.arm.tracks.clear()
        self.arm.received.clear()

    def delta(self, translation=(0, 0, 0), gripper=0.0):
        """Publish a delta on the newest joint state; return where the tip was then."""
        state = self.probe.more(topics.JOINT_STATES)
        seen = Observation(header=state.header)
        tip = self.arm.kinematics.forward(state.position[:7]).position
        self.probe.delta(self.id, self.step, translation, gripper, observation=seen)
        self.step += 1
        return tip

    def until_taken(self, *args, **kwargs):
        """Publish such deltas until one is accepted; return where the tip was then."""
        for _ in range(20):
            before = self.until(lambda msg: msg.instruction_id == self.id, "a status")
            start = self.delta(*args, **kwargs)
            after = self.until(
                lambda msg, before=before: (
                    (msg.accepted, msg.refused) != (before.accepted, before.refused)
                ),
                "a verdict",
            )
            if after.accepted > before.accepted:
                return start
        raise AssertionError(f"no delta was accepted: {after.reason}")

    def until_refused(self, *args, **kwargs):
        """Publish a delta and wait until it is refused; return that status."""
        before = self.until(lambda msg: msg.instruction_id == self.id, "a status")
        self.delta(*args, **kwargs)
        return self.until(lambda msg: msg.refused > before.refused, "the delta to be refused")

    def rest(self, seconds=0.3):
        """Wait until the arm has not moved for a while; return where its tip is."""

        def still():
            recent = [q for at, q, _ in self.arm.tracks if at > time.monotonic() - seconds]
            return len(recent) > 20 * seconds and np.ptp(recent, axis=0).max() < 1e-4

        self.arm.tracks.clear()
        end = time.monotonic() + seconds
        self.probe.until(lambda: time.monotonic() > end and still(), "the arm to be at rest")
        self.arm.tracks.clear()
        return self.arm.tip()

    def until_moving(self):
        start = self.arm.tip()
        self.probe.until(lambda: np.linalg.norm(self.arm.tip() - start) > 0.005, "the arm to move")

    def assert_still(self, seconds=0.4):
        """Nothing moved, since the instruction and for a while from now."""
        end = time.monotonic() + seconds
        self.probe.until(lambda: time.monotonic() > end, "time to pass")
        tracks = [q for _, q, _ in self.arm.tracks]
        assert np.ptp(tracks, axis=0).max() < 1e-4

    def until_figure(self, key, value):
        """Wait until the controller's diagnostics have this value."""

        def found():
            return any(
                pair.key == key and pair.value == value
                for msg in self.probe.kept[topics.DIAGNOSTICS.name]
                for status in msg.status
                for pair in status.values
            )

        self.probe.kept[topics.DIAGNOSTICS.name].clear()
        self.probe.until(found, f"{key} to be {value!r}")

    def end(self):
        assert self.controller.end() == 0
        for peer in list(self.peers.nodes):
            self.peers.remove(peer)


@pytest.fixture(scope="module")
def bench(probe, peers, peer_kinds, start, interfaces, profile_file):
    return Bench(probe, peers, peer_kinds, start, interfaces, profile_file)
