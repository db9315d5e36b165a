# SPDX-License-Identifier: Apache-2.0
"""The MuJoCo model of the tabletop, compiled once per process from the arm's URDF.

The world frame is the arm's base frame `panda_link0`: x away from the robot, z up, table top at
z = 0. Objects live in slots: free bodies that are there from the start, parked out of view while
not in use, so that laying the table anew never recompiles anything. The only equality constraint is
the gripper's finger mirror: nothing is ever welded to the hand.
"""

from __future__ import annotations

import mujoco
import numpy as np

ARM_JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))
FINGER_JOINTS = ("panda_finger_joint1", "panda_finger_joint2")
TIP_FRAME = "panda_hand_tcp"
FINGERS = ("panda_leftfinger", "panda_rightfinger")

TIMESTEP = 0.002  # s
FACE_SIZE = 128  # px, side of the picture on an object's top
FACE_THICKNESS = 0.001  # m, the plate that bears it
TABLE_SIZE = 256  # px, side of the pattern that covers the table top
# Half sizes in m, and mass in kg, of each kind of object; one body per slot.
HALF_SIZES = {"block": (0.025, 0.025, 0.025), "card": (0.030, 0.030, 0.004)}
MASSES = {"block": 0.08, "card": 0.02}
MAX_SLOTS = 8
SLOTS = {kind: MAX_SLOTS for kind in HALF_SIZES}

# Position servos, N m/rad. Their damping, kp * SERVO_LAG, lets them trail a moving target by
# SERVO_LAG seconds unless they are told its velocity. The wrist is soft enough that its damping
# alone cannot reach its torque limit within one time step: it would ring there.
_ARM_GAINS = (4500, 4500, 3500, 3500, 500, 500, 500)
SERVO_LAG = 0.05
_FINGER_GAIN, _FINGER_DAMPING, _FINGER_FORCE = 800.0, 40.0, 20.0  # N/m, N s/m, N per finger
# Contact bits: the arm touches objects and table, never itself.
_ARM_BIT, _WORLD_BIT = 2, 1
_COMPILER = '<mujoco><compiler discardvisual="false" fusestatic="false"/></mujoco>'


def slot_name(kind: str, index: int) -> str:
    """Name of a slot's body: 'block0', 'card3'."""
    return f"{kind}{index}"


def build(urdf: str) -> mujoco.MjModel:
    """Compile the world around the arm that `urdf` (XML text) describes.

    Raises:
        ValueError: the text is no URDF, or lacks the arm's joints.
    """
    head, tag, tail = urdf.partition("<robot")
    if not tag:
        raise ValueError("robot description: no <robot> element, expected a URDF")
    end = tail.index(">") + 1
    try:
        spec = mujoco.MjSpec.from_string(head + tag + tail[:end] + _COMPILER + tail[end:])
    except ValueError as error:
        raise ValueError(f"robot description: MuJoCo cannot read it ({error})") from None
    _prepare_arm(spec)
    _add_table(spec)
    _add_cameras(spec)
    for kind, count in SLOTS.items():
        for index in range(count):
            _add_slot(spec, kind, index)
    option = spec.option
    option.timestep = TIMESTEP
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10  # friction that does not creep: a block stays in the fingers
    return spec.compile()


def _prepare_arm(spec: mujoco.MjSpec) -> None:
    missing = [n for n in (*ARM_JOINTS, *FINGER_JOINTS) if spec.joint(n) is None]
    if missing:
        raise ValueError(f"robot description: lacks joint {', '.join(missing)}")
    for body in spec.bodies[1:]:
        body.gravcomp = 1.0
    for geom in spec.geoms:
        if geom.contype == 0:  # a visual
            geom.group = 1
            continue
        geom.group = 3  # collision shapes are not drawn
        geom.contype, geom.conaffinity = _ARM_BIT, _WORLD_BIT
        if geom.parent.name in FINGERS:
            _make_firm(geom, 1.5)
        if geom.name.endswith("_tip"):  # the smooth bevel, whatever it touches
            _make_firm(geom, 0.2)
            geom.priority = 1
    for name, kp in zip(ARM_JOINTS, _ARM_GAINS, strict=True):
        spec.joint(name).armature = 0.1
        _add_servo(spec, name, kp, kp * SERVO_LAG, float(spec.joint(name).actfrcrange[1]))
    for name in FINGER_JOINTS:
        spec.joint(name).armature = 0.05
        _add_servo(spec, name, _FINGER_GAIN, _FINGER_DAMPING, _FINGER_FORCE)


def _make_firm(geom: mujoco.MjsGeom, friction: float) -> None:
    """Contacts that hardly give, with friction against sliding and turning."""
    geom.friction = [friction, 0.02, 0.001]
    geom.condim = 4
    geom.solref = [0.006, 1.0]
    geom.solimp = [0.97, 0.995, 0.001, 0.5, 2.0]


def _add_servo(spec: mujoco.MjSpec, joint: str, kp: float, kv: float, force: float) -> None:
    gain, bias = np.zeros(10), np.zeros(10)
    gain[0], bias[1], bias[2] = kp, -kp, -kv
    spec.add_actuator(
        name=joint,
        target=joint,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        gainprm=gain,
        biasprm=bias,
        forcelimited=True,
        forcerange=[-force, force],
    )


def _add_table(spec: mujoco.MjSpec) -> None:
    box = mujoco.mjtGeom.mjGEOM_BOX
    _add_material(spec, "table", TABLE_SIZE)
    spec.worldbody.add_geom(
        name="table", type=box, size=[0.8, 0.9, 0.03], pos=[0.4, 0.0, -0.03], material="table",
        rgba=[0.62, 0.58, 0.52, 1.0], friction=[0.6, 0.005, 0.0001],
    )  # fmt: skip
    spec.worldbody.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[4, 4, 0.1], pos=[0, 0, -0.75],
        rgba=[0.45, 0.45, 0.47, 1.0],
    )  # fmt: skip
    spec.worldbody.add_light(
        name="lamp", type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, pos=[0.5, 0, 2.0],
        dir=[-0.2, 0.1, -1.0], diffuse=[0.5, 0.5, 0.5], specular=[0, 0, 0], castshadow=False,
    )  # fmt: skip
    headlight = spec.visual.headlight
    headlight.ambient, headlight.diffuse = [0.45, 0.45, 0.45], [0.25, 0.25, 0.25]
    headlight.specular = [0.0, 0.0, 0.0]
    quality = spec.visual.quality
    quality.shadowsize, quality.offsamples = 0, 0
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 640, 480
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 6.0
    spec.stat.extent, spec.stat.center = 1.0, [0.5, 0.0, 0.1]


def _add_cameras(spec: mujoco.MjSpec) -> None:
    spec.worldbody.add_camera(name="scene")  # placed by camera.py
    # Beside the palm, looking along the fingers; right is +y, as in the scene camera's picture.
    spec.body("panda_hand").add_camera(
        name="wrist", pos=[0.065, 0.0, 0.01], fovy=70.0, xyaxes=[0, -1, 0, -1, 0, 0]
    )


def _add_slot(spec: mujoco.MjSpec, kind: str, index: int) -> None:
    name = slot_name(kind, index)
    half = np.array(HALF_SIZES[kind])
    _add_material(spec, name, FACE_SIZE)
    body = spec.worldbody.add_body(name=name)
    body.add_freejoint(name=name)
    box = mujoco.mjtGeom.mjGEOM_BOX
    solid = body.add_geom(
        name=name, type=box, size=half, mass=MASSES[kind], rgba=[0.8, 0.8, 0.8, 1.0]
    )
    _make_firm(solid, 0.6)
    # The picture's right is +y and its top is -x: upright for who looks through the scene camera.
    body.add_geom(
        name=f"{name}_face", type=box, material=name, mass=0.0, contype=0, conaffinity=0,
        size=[half[1], half[0], FACE_THICKNESS / 2], pos=[0, 0, half[2] + FACE_THICKNESS / 2],
        quat=[np.sqrt(0.5), 0, 0, np.sqrt(0.5)],
    )  # fmt: skip


def _add_material(spec: mujoco.MjSpec, name: str, side: int) -> None:
    """A matt material with a square picture of its own, white at first."""
    spec.add_texture(
        name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=side, height=side, nchannel=3,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT, rgb1=[1, 1, 1],
    )  # fmt: skip
    material = spec.add_material(name=name, specular=0.0, reflectance=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
