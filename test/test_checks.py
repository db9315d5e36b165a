# SPDX-License-Identifier: Apache-2.0
"""What is made of a graph as it was seen: one thing wrong, one line that says so."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rt2_ros.check_robot import show
from rt2_ros.checks import Check, checks
from rt2_ros.control.profile import RobotProfile
from rt2_ros.facts import Endpoint, Facts, Stream
from rt2_ros.paths import config_path

PROFILE = RobotProfile.load(config_path("robots", "panda.yaml"))
URDF = config_path("robots", "panda.urdf").read_text(encoding="utf-8")
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
ARM, GRIPPER = (
    f"/{c}/joint_trajectory" for c in (PROFILE.arm_controller, PROFILE.gripper_controller)
)


def stream(topic, kind, newest, rate=10.0, age=0.01, by="driver", latched=False):
    arrivals = [i / rate for i in range(20)]
    publisher = Endpoint(f"/{by}", kind, latched=latched)
    ages = [age] * len(arrivals)
    return Stream(topic, kind, latched, [publisher], arrivals, ages, newest=newest)


def joints(**changes):
    positions = dict(zip(PROFILE.arm_joints, PROFILE.home, strict=True))
    positions |= {PROFILE.gripper_joint: 0.04} | changes
    return SimpleNamespace(name=list(positions), position=list(positions.values()))


def picture():
    return SimpleNamespace(width=640, height=480, encoding="rgb8")


def controller(state=0, frame="panda_link0", x=0.4, reason="not armed"):
    tip = SimpleNamespace(x=x, y=0.0, z=0.0)
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=frame),
        state=state,
        reason=reason,
        end_effector_pose=SimpleNamespace(position=tip),
    )


def policy(state=1, reason=""):
    return SimpleNamespace(state=state, policy="rt2-tiny", reason=reason)


def live():
    """A real arm's graph in which nothing is missing."""
    ours = {name: {"robot": "panda", "use_sim_time": False} for name in ("camera_node",)}
    ours |= {"controller_node": {"robot": "panda", "use_sim_time": False, "bridge": ""}}
    ours |= {"policy_node": {"policy": "rt2-tiny", "use_sim_time": False}}
    mine, reader = Endpoint("/controller_node", TRAJECTORY), Endpoint("/arm", TRAJECTORY)
    delta = "rt2_ros/msg/EndEffectorDelta"
    return Facts(
        namespace="",
        nodes=Counter(f"/{name}" for name in ours),
        parameters=ours,
        cameras={"scene": stream("/scene/image_raw", "sensor_msgs/msg/Image", picture())},
        joint_states=stream("/joint_states", "sensor_msgs/msg/JointState", joints(), rate=100),
        description=stream(
            "/robot_description", "std_msgs/msg/String", SimpleNamespace(data=URDF), latched=True
        ),
        observation=stream(
            "/observation", "rt2_ros/msg/Observation", SimpleNamespace(has_end_effector=True)
        ),
        policy=stream("/policy_status", "rt2_ros/msg/PolicyStatus", policy(), latched=True),
        controller=stream(
            "/controller_status", "rt2_ros/msg/ControllerStatus", controller(), latched=True
        ),
        clock=Stream("/clock", "rosgraph_msgs/msg/Clock"),
        endpoints={
            ARM: ([mine], [reader]),
            GRIPPER: ([mine], [reader]),
            "/end_effector_delta": (
                [Endpoint("/policy_node", delta)],
                [Endpoint("/controller_node", delta)],
            ),
        },
        services=set(),
        diagnostics={"controller_node": (0, "armed", {"controllers": "no controller_manager"})},
    )


def missing(facts, profile=PROFILE):
    return [check for check in checks(facts, profile, profile) if not check.ok]


def test_nothing_is_missing_on_a_good_graph():
    found = {check.name: check.found for check in checks(live(), PROFILE, PROFILE)}
    assert missing(live()) == []
    assert found["joint states"] == "100 Hz, 10 ms old"
    assert found["camera scene"] == "640x480 rgb8 at 10.0 Hz, 10 ms old"
    assert found["controller"] == "disarmed"
    assert found["bridge"] == "joint_trajectory; controllers: no controller_manager"


def test_an_armed_controller_is_told_but_nothing_is_missing():
    facts = live()
    facts.controller.newest = controller(state=1)
    found = {check.name: check for check in checks(facts, PROFILE, PROFILE)}
    assert found["controller"] == Check("controller", "ARMED: the arm may move")


def test_a_profile_that_is_not_the_controllers_is_told():
    slow = replace(PROFILE, max_linear_speed=0.05)
    (check,) = (check for check in checks(live(), slow, PROFILE) if not check.ok)
    assert check.name == "robot profile" and "robot:=" in check.todo
    (check,) = (check for check in checks(live(), slow, None) if not check.ok)
    assert check.name == "robot profile" and "cannot be read here" in check.found


def test_a_profile_that_was_changed_under_the_controller_is_told():
    facts = live()
    facts.diagnostics["controller_node"][2]["profile"] = PROFILE.digest()
    assert missing(facts) == []
    slow = replace(PROFILE, max_linear_speed=0.05)
    (check,) = missing(facts, slow)
    assert check.name == "robot profile" and "start bring-up again" in check.todo


def test_a_stopped_controller_is_not_called_armed():
    facts = live()
    facts.controller.newest = controller(state=4)
    found = {check.name: check.found for check in checks(facts, PROFILE, PROFILE)}
    assert found["controller"] == "stopped"


def silent(facts, name):
    part = getattr(facts, name) if isinstance(name, str) else facts.cameras[name[0]]
    part.arrivals, part.ages, part.newest = [], [], None
    return part


@pytest.mark.parametrize(
    ("spoil", "name", "words"),
    [
        (lambda f: f.nodes.subtract(["/policy_node"]), "node policy_node", "start the graph"),
        (lambda f: f.nodes.update(["/camera_node"]), "node camera_node", "end all but one"),
        (lambda f: f.parameters.update(camera_node={}), "node camera_node", "does not answer"),
        (
            lambda f: f.diagnostics.update(controller_node=(1, "controller x is inactive", {})),
            "node controller_node",
            "controller x is inactive",
        ),
        (
            lambda f: f.diagnostics.update(policy_node=(1, "", {"lifecycle": "inactive"})),
            "node policy_node",
            "it is inactive: ros2 lifecycle set /policy_node activate",
        ),
        (lambda f: f.parameters["camera_node"].update(robot="fr3"), "robot profile", "the same"),
        (
            lambda f: f.parameters["policy_node"].update(use_sim_time=True),
            "simulated time",
            "use_sim_time alike",
        ),
        (
            lambda f: [p.update(use_sim_time=True) for p in f.parameters.values()],
            "simulated time",
            "no /clock",
        ),
        (
            lambda f: setattr(silent(f, "description"), "publishers", []),
            "robot_description",
            "nobody publishes /robot_description",
        ),
        (
            lambda f: silent(f, "description").publishers.__setitem__(
                0, Endpoint("/rsp", "std_msgs/msg/String", latched=False)
            ),
            "robot_description",
            "offered volatile, expected transient local",
        ),
        (
            lambda f: setattr(f.description.newest, "data", URDF.replace("panda_joint7", "j7")),
            "robot_description",
            "correct the URDF",
        ),
        (lambda f: silent(f, "joint_states"), "joint states", "/driver offers /joint_states but"),
        (
            lambda f: setattr(f.joint_states, "newest", joints(panda_joint3=float("nan"))),
            "joint states",
            "correct the joint names",
        ),
        (
            lambda f: f.joint_states.newest.name.__setitem__(2, "joint3"),
            "joint states",
            "correct the joint names",
        ),
        (
            lambda f: setattr(f.joint_states, "newest", joints(panda_joint6=0.0)),
            "joint states",
            "inside its limits",
        ),
        (
            lambda f: setattr(f.joint_states, "newest", joints(panda_joint1=2.0)),
            "joint states",
            "only ways inward",
        ),
        (
            lambda f: setattr(f.joint_states, "arrivals", [0.0, 1.0]),
            "joint states",
            "too seldom: at least 20 Hz",
        ),
        (lambda f: setattr(f.joint_states, "ages", [-0.3]), "joint states", "0.300 s ahead"),
        (lambda f: setattr(f.joint_states, "ages", [0.9]), "joint states", "0.900 s old"),
        (
            lambda f: setattr(f.joint_states, "ages", [float("inf")]),
            "joint states",
            "stamp is zero",
        ),
        (
            lambda f: silent(f, ["scene"]).publishers.__setitem__(
                0, Endpoint("/cam", "sensor_msgs/msg/CompressedImage")
            ),
            "camera scene",
            "carries sensor_msgs/msg/CompressedImage, expected sensor_msgs/msg/Image",
        ),
        (
            lambda f: setattr(f.cameras["scene"], "problem", "encoding 'xyz' is not known"),
            "camera scene",
            "encoding 'xyz'",
        ),
        (
            lambda f: f.cameras["scene"].publishers.append(Endpoint("/other", "")),
            "camera scene",
            "/scene/image_raw has 2 publishers (/driver, /other): end all but this robot's camera",
        ),
        (
            lambda f: f.observation.publishers.append(Endpoint("/other", "")),
            "observation",
            "/observation has 2 publishers (/driver, /other): end all but this robot's camera_node",
        ),
        (lambda f: setattr(f.cameras["scene"], "ages", [5.0] * 9), "camera scene", "5.000 s old"),
        (lambda f: setattr(f.cameras["scene"], "arrivals", [0, 1.0]), "camera scene", "too seldom"),
        (
            lambda f: setattr(f.observation.newest, "has_end_effector", False),
            "observation",
            "joint states around",
        ),
        (
            lambda f: setattr(f.policy, "newest", policy(5, "no such checkpoint")),
            "policy",
            "no such checkpoint",
        ),
        (lambda f: setattr(f.policy, "newest", policy(0)), "policy", "wait until it is loaded"),
        (
            lambda f: f.diagnostics.update(policy_node=(0, "", {"frame": "base_link"})),
            "policy",
            "a copy of its file with `frame: panda_link0`",
        ),
        (
            lambda f: f.diagnostics.update(policy_node=(0, "", {"pictures": "2"})),
            "policy",
            "name as many in camera_node's `cameras`",
        ),
        (
            lambda f: setattr(f.controller, "newest", controller(frame="base")),
            "controller",
            "expected panda_link0",
        ),
        (
            lambda f: setattr(f.controller, "newest", controller(x=0.0, reason="no URDF yet")),
            "controller",
            "no URDF yet",
        ),
        (
            lambda f: f.endpoints["/end_effector_delta"][0].append(Endpoint("/ros2cli", "")),
            "end_effector_delta",
            "only policy_node may say",
        ),
        (lambda f: f.endpoints[ARM][1].clear(), ARM, "start the controller"),
        (
            lambda f: f.endpoints[ARM][0].append(Endpoint("/move_group", TRAJECTORY)),
            ARM,
            "end what else commands the arm",
        ),
        (
            lambda f: f.endpoints[GRIPPER][1].__setitem__(0, Endpoint("/g", "std_msgs/msg/Bool")),
            GRIPPER,
            f"expected {TRAJECTORY}",
        ),
    ],
)
def test_one_thing_wrong_is_one_line_that_says_what_to_do(spoil, name, words):
    facts = live()
    spoil(facts)
    (check,) = missing(facts)
    assert check.name == name
    assert words in check.todo


def test_two_simulated_clocks_are_told():
    facts = live()
    for parameters in facts.parameters.values():
        parameters.update(use_sim_time=True)
    facts.clock = stream("/clock", "rosgraph_msgs/msg/Clock", None, by="left/simulator_node")
    assert not missing(facts)
    facts.clock.publishers.append(Endpoint("/right/simulator_node", "rosgraph_msgs/msg/Clock"))
    (check,) = missing(facts)
    assert check.name == "simulated time" and "/clock has 2 publishers (/left/sim" in check.todo


def test_the_other_end_of_each_bridge_is_looked_for():
    def names(**profile):
        return [c.name for c in missing(live(), replace(PROFILE, **profile))]

    assert names(bridge="dry_run") == []
    assert names(bridge="moveit_servo") == ["/servo_node/delta_twist_cmds"]
    assert names(bridge="moveit_servo", servo_command="pose") == ["/servo_node/pose_target_cmds"]
    assert names(bridge="moveit") == ["/move_action", "/execute_trajectory"]
    acting = {"gripper_command": "gripper_command", "gripper_action": "gripper_cmd"}
    assert names(**acting) == ["/panda_gripper_controller/gripper_cmd"]
    facts = live()
    facts.services.add("/panda_gripper_controller/gripper_cmd/_action/send_goal")
    assert missing(facts, replace(PROFILE, **acting)) == []
    facts.parameters["controller_node"]["bridge"] = "moveit"
    assert [c.name for c in missing(facts)] == ["/move_action", "/execute_trajectory"]
    facts.parameters["controller_node"]["moveit_params"] = "moveit.yaml"
    assert missing(facts) == []


def test_the_table_shows_every_check_and_its_remedy(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    show([Check("one", "here"), Check("two", "gone", "bring it back")])
    rows = [line for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert len(rows) == 2
    assert "one" in rows[0] and "OK" in rows[0] and "missing" not in rows[0]
    assert "two" in rows[1] and "missing" in rows[1] and "bring it back" in rows[1]


def joint_states(profile, *parts):
    """The joint states check for messages that name these joints with these positions, at a rate.

    The URDF is another robot's: it is told by its own check.
    """
    facts = live()
    told = facts.joint_states
    for positions, rate in parts:
        msg = SimpleNamespace(name=list(positions), position=list(positions.values()))
        part = stream(told.topic, told.type, msg, rate=rate)
        told.parts[tuple(sorted(positions))], told.newest = part, msg
    return next(check for check in checks(facts, profile, profile) if check.name == "joint states")


def at_home(profile):
    return dict(zip(profile.arm_joints, profile.home, strict=True))


def test_an_arm_without_a_gripper_lacks_none():
    iiwa = RobotProfile.load(config_path("robots", "iiwa14.yaml"))
    assert joint_states(iiwa, (at_home(iiwa), 100)) == Check("joint states", "100 Hz, 10 ms old")


def test_a_gripper_may_tell_its_joint_apart():
    arm, finger = (at_home(PROFILE), 100), ({PROFILE.gripper_joint: 0.04}, 5)
    for parts in ((arm, finger), (finger, arm)):
        assert joint_states(PROFILE, *parts) == Check("joint states", "100 Hz, 10 ms old")
    for parts in ((arm,), (arm, ({"wheel": 0.0}, 5))):
        check = joint_states(PROFILE, *parts)
        assert check.found == "joint state: lacks panda_finger_joint1" and not check.ok
    check = joint_states(PROFILE, finger, ({**at_home(PROFILE), "panda_joint1": float("nan")}, 100))
    assert check.found == "joint state: panda_joint1 is nan"
