# SPDX-License-Identifier: Apache-2.0
"""`rt2 ask "what is this?" --image photo.png`: free text from the same weights that move the arm.

Without a picture the question goes to the running graph, about what its camera sees now. Its
answers do not say to which question they are, so ask one at a time: of two people who ask at once,
one is shown the other's.
"""

from __future__ import annotations

import argparse


def main(argv: list[str]) -> int:
    """Print the answer."""
    parser = argparse.ArgumentParser(
        "rt2 ask",
        description="Ask the model a question. The running graph's answers do not say to which "
        "question they are: ask it one at a time.",
    )
    parser.add_argument("question", help='for example "which of these is a fruit?"')
    parser.add_argument("--image", help="a picture file; else the running graph's camera")
    parser.add_argument("--policy", default="rt2-tiny", help="with --image (default: rt2-tiny)")
    parser.add_argument("--namespace", default="", help="of the running graph (default: none)")
    arguments = parser.parse_args(argv)
    if arguments.image:
        print(_about_file(arguments.image, arguments.question, arguments.policy))
        return 0

    from rt2_ros.up import use_transport

    use_transport(network=True)
    from rt2_ros.nodes.operator import Operator

    with Operator(arguments.namespace) as person:
        answer = person.ask(arguments.question)
    print(answer)
    return 1 if answer.startswith("no answer:") else 0


def _about_file(path: str, question: str, policy: str) -> str:
    import cv2

    from rt2_ros.policies import load_policy

    image = cv2.imread(path)
    if image is None:
        raise ValueError(f"--image: {path} is not a picture that can be read")
    return load_policy(policy).answer(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), question)
