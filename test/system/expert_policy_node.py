# SPDX-License-Identifier: Apache-2.0
"""The policy node of the tests: the product's, with the scripted expert where the model would be.

It reads the simulator's truth, which no policy may, so that graph, controller, physics and judge
are tested without a checkpoint.
"""

import sys
from dataclasses import replace

import rt2_ros.nodes.policy_node as product
from rt2_ros.actions import answer_text
from rt2_ros.control.pose import Pose
from rt2_ros.data.split import object_name
from rt2_ros.demo import tabletop_state
from rt2_ros.nodes.base import run
from rt2_ros.nodes.topics import CONTROLLER_STATUS, SCENE_STATE
from rt2_ros.policies import Decision, load_policy
from rt2_ros.sim.expert import act, subgoal
from rt2_ros.sim.tasks import parse_task
from rt2_ros.sim.world import MAX_OPENING


class Expert:
    def __init__(self):
        hold = load_policy("hold")
        self.name, self.image_size = "expert", hold.image_size
        self.action_space = hold.action_space
        self.scene = self.controller = None

    def infer(self, observation):
        if self.scene is None or self.controller is None or observation.state is None:
            return Decision.invalid("the truth is not known yet")
        truth = tabletop_state(self.scene, self.controller)
        task = parse_task(observation.instruction, object_name)
        # The truth is older than the observation: what is grasped has moved on with the hand.
        hand = observation.state[:3]
        objects = (replace(o, position=hand) if o.grasped else o for o in truth.objects)
        truth = replace(
            truth,
            objects=tuple(objects),
            tcp=Pose(hand, truth.tcp.rotation),
            opening=MAX_OPENING * (1 - float(observation.state[3])),
        )
        goal = subgoal(truth, task)
        bins = self.action_space.to_bins(act(truth, goal))
        plan = f"{goal.verb} {task.object}".strip()
        return Decision(
            self.action_space.from_bins(bins),
            bins=bins,
            text=answer_text(bins, plan),
            plan=plan,
            confidence=1.0,
        )

    def answer(self, image, question):
        return f"{question} I look at {image.shape[1]} x {image.shape[0]} pixels"


class ExpertNode(product.PolicyNode):
    def _setup(self):
        expert = Expert()
        product.load_policy = lambda name: expert
        super()._setup()
        self.subscribe(SCENE_STATE, lambda msg: setattr(expert, "scene", msg))
        self.subscribe(CONTROLLER_STATUS, lambda msg: setattr(expert, "controller", msg))


if __name__ == "__main__":
    sys.exit(run(ExpertNode))
