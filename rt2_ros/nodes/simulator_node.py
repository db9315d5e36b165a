# SPDX-License-Identifier: Apache-2.0
"""The simulated arm, table and camera, with the interfaces of ros2_control and a camera driver.

    ros2 run rt2_ros simulator_node --ros-args -p seed:=7 -p "objects:=['banana']"

One thread owns physics and OpenGL and keeps real time. The world stands still while a picture is
drawn (some 7 ms), so that a picture and the joint state with the same stamp are of one moment; the
stamp is when the picture is ready, as a camera driver's is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from geometry_msgs.msg import Point as PointMsg
from geometry_msgs.msg import Pose as PoseMsg
from geometry_msgs.msg import Quaternion
from rclpy.duration import Duration
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from rt2_ros.data.pictographs import by_name
from rt2_ros.data.split import ROBOT_NAMES
from rt2_ros.msg import SceneObject, SceneState
from rt2_ros.nodes import topics
from rt2_ros.nodes.base import EXPECTED, BaseNode, Health, one_line, run
from rt2_ros.nodes.camera_node import image_msg
from rt2_ros.nodes.parameters import Parameter, words
from rt2_ros.nodes.realtime import RealTimeLoop
from rt2_ros.nodes.robot import ROBOT, load_robot
from rt2_ros.nodes.trajectories import Point, read
from rt2_ros.paths import config_path
from rt2_ros.sim.camera import CameraPose
from rt2_ros.sim.model import ARM_JOINTS
from rt2_ros.sim.robot import Points, SimulatedRobot
from rt2_ros.sim.tabletop import ObjectState, Tabletop, TabletopState
from rt2_ros.sim.world import Unstable
from rt2_ros.stamps import stamp_ns

PERIOD_NS = 10_000_000  # joint states at 100 Hz
SCENE_PERIOD = 10  # in periods: scene_state at 10 Hz
WIDTH, HEIGHT = 640, 480
CLOCK_START_NS = 1_000_000_000  # so that no stamp is zero, which means "no time"


def camera_info(pose: CameraPose, width: int, height: int) -> CameraInfo:
    """Return the intrinsics of an ideal pinhole; pixel centres are at whole numbers."""
    f = pose.focal_length(height)
    cx, cy = (width - 1) / 2, (height - 1) / 2
    return CameraInfo(
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[f, 0.0, cx, 0.0, f, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[f, 0.0, cx, 0.0, 0.0, f, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def object_msg(state: ObjectState) -> SceneObject:
    """Return an object of the table as a message."""
    x, y, z = state.position.tolist()
    qx, qy, qz, qw = state.quaternion.tolist()
    return SceneObject(
        name=state.name,
        kind=state.kind,
        pose=PoseMsg(
            position=PointMsg(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw)
        ),
        grasped=state.grasped,
    )


class SimulatorNode(BaseNode):
    """Wires a Tabletop and its SimulatedRobot to topics; `_step` runs in the world's thread."""

    PARAMETERS = (
        ROBOT,
        Parameter(
            "seed",
            0,
            "What the table is laid from; the same seed and objects give the same table.",
            low=0,
            high=2**63 - 1,
            live=True,
        ),
        Parameter(
            "scenario",
            "",
            "SUITE:CELL of an evaluation, whose scene for `seed` is laid; objects, object_count "
            "and jitter then have no say.",
            live=True,
        ),
        Parameter(
            "objects", [""], "Names of objects that must be there; others are drawn.", live=True
        ),
        Parameter(
            "object_count",
            0,
            "How many objects in all; 0 leaves it to the seed (3 to 6).",
            low=0,
            high=6,
            live=True,
        ),
        Parameter(
            "jitter",
            0.0,
            "Strength of the random light, colours and camera position of each table.",
            low=0.0,
            high=1.0,
            live=True,
        ),
        Parameter(
            "cameras",
            ["scene"],
            "Which of the cameras scene and wrist take pictures; each costs 7 ms of a core.",
        ),
        Parameter(
            "camera_rate", 10.0, "Pictures a second of each camera.", unit="Hz", low=0.5, high=50.0
        ),
        Parameter(
            "publish_clock",
            False,
            "Publish /clock, and stamp with simulated time, for nodes with use_sim_time.",
            read_only=True,
        ),
    )

    def __init__(self, name: str = "simulator_node", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def _setup(self) -> None:
        profile = load_robot(self.value("robot"))
        urdf = config_path("robots", f"{profile.name}.urdf")
        if profile.arm_joints != tuple(ARM_JOINTS) or not Path(urdf).is_file():
            raise ValueError(f"robot {profile.name!r}: cannot be simulated; use robot:=panda")
        self._urdf = urdf.read_text(encoding="utf-8")
        self._profile = profile
        self._cameras = words(self.value("cameras"))
        self._image_period = max(1, round(1e9 / self.value("camera_rate") / PERIOD_NS))
        self._sim_ns = 0
        self._ticks = 0
        self._anchor_ns = 0  # node time = anchor + simulated time, unless the clock is simulated
        self._pace = (0, 0)  # simulated and steady time in ns at the last diagnostics
        self._refused = 0
        self._laid = 0  # tables

        self._joints_out = self.publish(topics.JOINT_STATES)
        self._scene_out = self.publish(topics.SCENE_STATE)
        self._image_out = {c: self.publish(topics.camera_image(c)) for c in self._cameras}
        self._info_out = {c: self.publish(topics.camera_info(c)) for c in self._cameras}
        self._clock_out = self.publish(topics.CLOCK) if self.value("publish_clock") else None
        description = self.publish(topics.ROBOT_DESCRIPTION, always=True)

        self._loop = RealTimeLoop(
            self._make_world,
            self._step,
            self._close_world,
            period=PERIOD_NS * 1e-9,
            failed=self._worker_failed,
        )
        self.at_teardown(self._loop.close)
        arm = topics.joint_trajectory(profile.arm_controller)
        gripper = topics.gripper_trajectory(profile.gripper_controller)
        for topic, joints, follow in (
            (arm, profile.arm_joints, SimulatedRobot.follow_arm),
            (gripper, (profile.gripper_joint,), SimulatedRobot.follow_gripper),
        ):
            self.subscribe(topic, partial(self._receive, topic.name, joints, follow))
        self.serve(Trigger, topics.RESET_SERVICE, self._reset)
        description.publish(String(data=self._urdf))

    def _start(self) -> None:
        self._loop.run(True)

    def _stop(self) -> None:
        self._loop.run(False)

    # In the executor's thread

    def _reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message = self._loop.call(self._lay)
            response.success = True
            self.get_logger().info(response.message)
        except EXPECTED as error:
            response.message = f"table not laid: {one_line(error)}"
            self.get_logger().error(response.message)
        return response

    def _receive(
        self,
        name: str,
        joints: tuple[str, ...],
        follow: Callable[[SimulatedRobot, Points], None],
        msg: JointTrajectory,
    ) -> None:
        if not self.active:
            return
        stamp = stamp_ns(msg.header.stamp)
        delay = (stamp - self._now_ns()) * 1e-9 if stamp else 0.0
        points = [
            Point(
                Duration.from_msg(p.time_from_start).nanoseconds * 1e-9, p.positions, p.velocities
            )
            for p in msg.points
        ]
        try:
            trajectory = read(msg.joint_names, points, joints, delay)
        except ValueError as error:
            self._refused += 1
            self.complain(f"{name}: refused: {one_line(error)}")
            return
        self._loop.post(lambda: follow(self._robot, trajectory))

    def _now_ns(self) -> int:
        return self.now_ns() if self._clock_out is None else CLOCK_START_NS + self._sim_ns

    # In the world's thread

    def _make_world(self) -> None:
        self._table = Tabletop(names=ROBOT_NAMES, urdf=self._urdf)
        self._robot = SimulatedRobot(self._table.world)
        self._lay()
        for camera in self._cameras:
            self._table.render(camera, WIDTH, HEIGHT)  # opens OpenGL, or says what is missing
        self._anchor_ns = self.now_ns()

    def _close_world(self) -> None:
        self._table.close()

    def _lay(self) -> str:
        state = self._lay_scenario() if self.value("scenario") else self._lay_random()
        self._robot.reset()
        self._laid += 1
        return f"seed {state.seed}: {', '.join(o.name for o in state.objects)}"

    def _lay_scenario(self) -> TabletopState:
        from rt2_ros.evaluation.suites import load_suite

        suite, _, cell = self.value("scenario").rpartition(":")
        scene = load_suite(suite).cell(cell).scenario(self.value("seed"))
        return self._table.lay(
            scene.seed, scene.layout, scene.start, scene.appearance, scene.opening
        )

    def _lay_random(self) -> TabletopState:
        names = [by_name(name).name for name in words(self.value("objects"))]
        seed, count = self.value("seed"), self.value("object_count")
        return self._table.reset(seed, names, count or None, self.value("jitter"))

    def _step(self) -> bool:
        """Advance by one period and publish; True if pictures were drawn."""
        try:
            self._robot.advance(PERIOD_NS * 1e-9)
        except Unstable:  # told; what stands there now is no table that anybody laid
            self._lay()
            raise
        self._sim_ns += PERIOD_NS
        self._ticks += 1
        draw = self._ticks % self._image_period == 0
        pictures = {}
        if draw:
            for camera in self._cameras:
                pictures[camera] = image_msg(self._table.render(camera, WIDTH, HEIGHT))
        stamp = Time(nanoseconds=self._stamp(draw)).to_msg()
        if self._clock_out is not None:
            self._clock_out.publish(Clock(clock=stamp))
        joints = JointState(
            name=list(self._robot.joint_names),
            position=self._robot.positions().tolist(),
            velocity=self._robot.velocities().tolist(),
        )
        joints.header.stamp = stamp
        self._joints_out.publish(joints)
        for camera, picture in pictures.items():
            self._publish_picture(camera, picture, stamp)
        if self._ticks % SCENE_PERIOD == SCENE_PERIOD // 2:
            state = self._table.state()
            objects = [object_msg(o) for o in state.objects]
            scene = SceneState(seed=state.seed, laid=self._laid, objects=objects)
            scene.header.stamp = stamp
            scene.header.frame_id = self._profile.base_frame
            self._scene_out.publish(scene)
        return draw

    def _stamp(self, draw: bool) -> int:
        """Return the node time in ns of the world as it is now."""
        if self._clock_out is not None:
            return CLOCK_START_NS + self._sim_ns
        now = self.now_ns()
        behind = now - (self._anchor_ns + self._sim_ns)
        if behind < 0 or draw or behind > 50_000_000:  # never in the future, nor far behind
            self._anchor_ns += behind
        return self._anchor_ns + self._sim_ns

    def _publish_picture(self, camera: str, picture: Image, stamp: Any) -> None:
        info = camera_info(self._table.world.camera_pose(camera), WIDTH, HEIGHT)
        for msg in (picture, info):
            msg.header.stamp = stamp
            msg.header.frame_id = f"{camera}_optical_frame"
        self._image_out[camera].publish(picture)
        self._info_out[camera].publish(info)

    def diagnose(self) -> Health:
        """How fast the world runs, and how many trajectories were refused."""
        before, self._pace = self._pace, (self._sim_ns, self._steady.now().nanoseconds)
        pace = (self._pace[0] - before[0]) / max(1, self._pace[1] - before[1])
        figures = {
            "real time factor": f"{pace:.2f}",
            "trajectories refused": self._refused,
            "seed": self._table.seed,
        }
        if self.active and before[1] and pace < 0.5:
            return Health.warn(f"at {pace:.0%} of real time: the machine is too slow", **figures)
        return Health(message="simulating" if self.active else "paused", values=figures)


def main(argv: list[str] | None = None) -> int:
    """Run the node to its end."""
    return run(SimulatorNode, argv)


if __name__ == "__main__":
    sys.exit(main())
