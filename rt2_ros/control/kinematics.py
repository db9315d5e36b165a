# SPDX-License-Identifier: Apache-2.0
"""Forward and inverse kinematics of a serial arm, from its URDF, by Pinocchio.

>>> arm = Kinematics(urdf, joint_names, "panda_link0", "panda_hand_tcp", posture=home)
>>> target = arm.forward(q).compose_delta([0.05, 0, 0], [0, 0, 0])
>>> q_next = arm.inverse(target, seed=q)
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

import numpy as np
import pinocchio as pin
from numpy.typing import ArrayLike

from rt2_ros.control.pose import Array, Pose, vector

_POSITION_TOLERANCE = 1e-5  # m
_ROTATION_TOLERANCE = 1e-4  # rad
_ITERATIONS = 60
_GAIN, _IDLE = 0.98, 8  # the squared error must shrink to that share once in so many iterations
_STEP = 0.5  # rad, the most that one joint moves in one iteration
_POSTURE_GAIN = 0.05  # share of the way to the posture taken in the null space per iteration
_POSTURE_STEP = 0.05  # rad, cap of the same
UNBOUNDED = 1e6  # rad, stands for the limit of a continuous joint


class Unreachable(ValueError):
    """Inverse kinematics ended away from its target.

    q (n,): the joint positions that came nearest; position_error in m; rotation_error in rad.
    """

    def __init__(self, q: Array, position_error: float, rotation_error: float) -> None:
        super().__init__(
            f"target not reachable: {position_error * 1e3:.1f} mm, {rotation_error:.3f} rad off"
        )
        self.q = q
        self.position_error = position_error
        self.rotation_error = rotation_error


class Kinematics:
    """The chain of `joint_names` (n of them, base to tip), seen from `base_frame`, at `tip_frame`.

    lower, upper (n,): position limits in rad; velocity (n,): speed limits in rad/s, as the URDF
    says. Not safe to share between threads: Pinocchio works in place.
    """

    def __init__(
        self,
        urdf: str,
        joint_names: Sequence[str],
        base_frame: str,
        tip_frame: str,
        posture: ArrayLike | None = None,
    ) -> None:
        """Read the URDF (XML text); ValueError naming the joint or frame that it lacks, or a joint
        between base and tip that is not among `joint_names`.

        posture (n,) in rad: where spare degrees of freedom are drawn to; the middle of the range if
        None.
        """
        self.joint_names = tuple(joint_names)
        model = _arm_model(urdf, self.joint_names, base_frame, tip_frame)
        self._model, self._data = model, model.createData()
        self._tip = _frame(model, tip_frame)
        base = model.frames[_frame(model, base_frame)]
        if base.parentJoint != 0:
            moved_by = model.names[base.parentJoint]
            raise ValueError(
                f"base frame '{base_frame}': moves with {moved_by}, expected a fixed frame"
            )
        self._base = base.placement.inverse()
        self.lower, self.upper = model.lowerPositionLimit.copy(), model.upperPositionLimit.copy()
        self.velocity = model.velocityLimit.copy()
        middle = (self.lower + self.upper) / 2
        self.posture = middle if posture is None else vector("posture", posture, len(self.lower))

    def forward(self, q: ArrayLike) -> Pose:
        """Return the pose of the tip frame in the base frame for joint positions q (n,) in rad."""
        self._place(vector("q", q, len(self.lower)))
        tip = self._base * self._data.oMf[self._tip]
        return Pose(tip.translation, tip.rotation)

    def jacobian(self, q: ArrayLike) -> Array:
        """Return J (6, n): J @ joint velocity = tip velocity [m/s; rad/s] in base axes."""
        jacobian = self._jacobian(vector("q", q, len(self.lower)))
        rotation = self._base.rotation
        return np.vstack((rotation @ jacobian[:3], rotation @ jacobian[3:]))

    def motion(self, q: ArrayLike, velocity: ArrayLike) -> tuple[Array, Array]:
        """Return (tip position (3,) in m, tip velocity (6,) [m/s; rad/s]) in base axes."""
        twist = self.jacobian(q) @ vector("velocity", velocity, len(self.lower))
        return (self._base * self._data.oMf[self._tip]).translation, twist

    def along(self, q: Array, velocity: Array, acceleration: Array) -> tuple[Array, Array, Array]:
        """Return the tip's motion (m, 3), (m, 6), (m, 6) for joint motions (m, n) in each.

        Position in m, twist [m/s; rad/s], its change [m/s²; rad/s²], in base axes.
        """
        rotation, count = self._base.rotation, len(q)
        position, twist, change = np.empty((count, 3)), np.empty((count, 6)), np.empty((count, 6))
        model, data, tip, axes = self._model, self._data, self._tip, pin.LOCAL_WORLD_ALIGNED
        for i in range(count):
            pin.forwardKinematics(model, data, q[i], velocity[i], acceleration[i])
            position[i] = pin.updateFramePlacement(model, data, tip).translation
            twist[i] = pin.getFrameVelocity(model, data, tip, axes).vector
            change[i] = pin.getFrameClassicalAcceleration(model, data, tip, axes).vector
        turned = (twist.reshape(-1, 2, 3) @ rotation.T, change.reshape(-1, 2, 3) @ rotation.T)
        return (
            position @ rotation.T + self._base.translation,
            *(array.reshape(-1, 6) for array in turned),
        )

    def conditions(self, q: Array) -> Array:
        """Return the condition numbers (m,) of the Jacobian [m; rad] for joint positions (m, n)."""
        singular = np.linalg.svd(np.array([self._jacobian(row) for row in q]), compute_uv=False)
        return np.asarray(singular[:, 0] / np.maximum(singular[:, -1], 1e-9))

    def narrow(self, lower: ArrayLike, upper: ArrayLike) -> None:
        """Take narrower position limits (n,) in rad; ValueError naming a joint that would widen."""
        lower, upper = (
            vector("lower", lower, len(self.lower)),
            vector("upper", upper, len(self.lower)),
        )
        for i, joint in enumerate(self.joint_names):
            if not self.lower[i] <= lower[i] < upper[i] <= self.upper[i]:
                raise ValueError(
                    f"{joint}: limits {lower[i]:g} .. {upper[i]:g} rad, expected within "
                    f"{self.lower[i]:g} .. {self.upper[i]:g}, the URDF's"
                )
        self.lower, self.upper = lower, upper

    def inverse(self, target: Pose, seed: ArrayLike) -> Array:
        """Return joint positions (n,) that put the tip at `target`, near `seed` (n,), within the
        limits.

        Damped least squares with the error as damping (Sugihara 2011), joints at a limit left out
        of the step, spare freedom drawn gently to the posture. Raises Unreachable, with what came
        nearest, if the target is not met to 0.01 mm and 0.1 mrad.
        """
        lower, upper = self.lower, self.upper
        q = np.clip(vector("seed", seed, len(lower)), lower, upper)
        goal = self._base.inverse() * pin.SE3(target.rotation, target.position)
        goal_rotation, goal_position = goal.rotation, goal.translation
        best, best_error = q, np.full(6, np.inf)
        error, idle = np.empty(6), 0
        for _ in range(_ITERATIONS):
            jacobian = self._jacobian(q)
            tip = self._data.oMf[self._tip]
            error[:3] = goal_position - tip.translation
            error[3:] = pin.log3(goal_rotation @ tip.rotation.T)
            idle = 0 if error @ error < _GAIN * (best_error @ best_error) else idle + 1
            if idle > _IDLE:
                break
            if error @ error < best_error @ best_error:
                best, best_error = q, error.copy()
                if _met(error):
                    return q
            pull = np.clip(_POSTURE_GAIN * (self.posture - q), -_POSTURE_STEP, _POSTURE_STEP)
            step = _damped_step(jacobian, error, pull)
            stuck = ((q <= lower) & (step < 0)) | ((q >= upper) & (step > 0))
            if stuck.any():
                step = _damped_step(
                    np.where(stuck, 0.0, jacobian), error, np.where(stuck, 0.0, pull)
                )
            largest = np.abs(step).max()
            q = np.clip(q + step * min(1.0, _STEP / max(largest, 1e-12)), lower, upper)
        raise Unreachable(
            best, float(np.linalg.norm(best_error[:3])), float(np.linalg.norm(best_error[3:]))
        )

    def _place(self, q: Array) -> None:
        pin.forwardKinematics(self._model, self._data, q)
        pin.updateFramePlacement(self._model, self._data, self._tip)

    def _jacobian(self, q: Array) -> Array:
        """Return the Jacobian in world axes; leaves the tip's placement in `self._data`."""
        jacobian = pin.computeFrameJacobian(
            self._model, self._data, q, self._tip, pin.LOCAL_WORLD_ALIGNED
        )
        return jacobian


def _met(error: Array) -> bool:
    position, rotation = error[:3], error[3:]
    return bool(
        position @ position < _POSITION_TOLERANCE**2
        and rotation @ rotation < _ROTATION_TOLERANCE**2
    )


def _damped_step(jacobian: Array, error: Array, pull: Array) -> Array:
    """Solve min |J dq - error|² + damping |dq - pull|²: the task first, then the pull."""
    damping = 1e-6 + 0.01 * (error @ error)
    square = jacobian @ jacobian.T
    square.flat[:: len(error) + 1] += damping
    return pull + jacobian.T @ np.linalg.solve(square, error - jacobian @ pull)


def read_urdf(urdf: str) -> tuple[pin.Model, str]:
    """Return the model of a whole URDF, and the XML text that it was built from.

    Continuous joints become revolute ones without bounds; ValueError if it is no URDF.
    """
    try:
        root = ET.fromstring(urdf)
    except ET.ParseError as error:
        raise ValueError(f"robot_description: not XML ({error}), expected a URDF") from None
    if root.tag != "robot":
        raise ValueError(f"robot_description: root element <{root.tag}>, expected <robot>")
    for joint in root.iter("joint"):
        if (
            joint.get("type") == "continuous"
        ):  # Pinocchio would give it two coordinates, cos and sin
            limit = joint.find("limit")
            limit = ET.SubElement(joint, "limit", effort="1000") if limit is None else limit
            joint.set("type", "revolute")
            limit.set("lower", str(-UNBOUNDED))
            limit.set("upper", str(UNBOUNDED))
            limit.attrib.setdefault("velocity", "3.14")
    xml = ET.tostring(root, encoding="unicode")
    return pin.buildModelFromXML(xml), xml


def locked_joints(model: pin.Model, joint_names: tuple[str, ...]) -> list[int]:
    """Return the joints of a model beside the named ones; ValueError naming one that it lacks."""
    known = list(model.names)[1:]
    for name in joint_names:
        if name not in known:
            raise ValueError(
                f"joint '{name}': not in the URDF, which has {', '.join(known) or 'none'}"
            )
    return [model.getJointId(name) for name in known if name not in joint_names]


def _arm_model(urdf: str, joint_names: tuple[str, ...], base: str, tip: str) -> pin.Model:
    """Return the model of the named joints alone, every other joint locked at neutral: none may
    move the tip in the base.
    """
    model, _ = read_urdf(urdf)
    others = locked_joints(model, joint_names)
    ends = (
        _ancestors(model, model.frames[_frame(model, name)].parentJoint) for name in (base, tip)
    )
    if between := sorted(set.symmetric_difference(*ends) & {*others}):
        name = model.names[between[0]]
        raise ValueError(
            f"joint '{name}': moves {tip} in {base}, expected it among {', '.join(joint_names)}"
        )
    model = pin.buildReducedModel(model, others, pin.neutral(model))
    in_order = tuple(model.names)[1:]
    if in_order != joint_names:
        raise ValueError(f"joints {joint_names}: expected in the URDF's order, {in_order}")
    return model


def _ancestors(model: pin.Model, joint: int) -> set[int]:
    """A joint and all that move it."""
    found = set()
    while joint:
        found.add(joint)
        joint = model.parents[joint]
    return found


def _frame(model: pin.Model, name: str) -> int:
    if not model.existFrame(name):
        bodies = [f.name for f in model.frames if f.type == pin.FrameType.BODY]
        raise ValueError(f"frame '{name}': not in the URDF, which has {', '.join(bodies)}")
    return model.getFrameId(name)
