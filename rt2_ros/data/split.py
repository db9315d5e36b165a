# SPDX-License-Identifier: Apache-2.0
"""Which pictographs, phrasings and scenes belong to robot demonstrations, web data, validation and
test.

One file, hashed into every checkpoint (`digest()`): robot demonstrations show the objects of
`ROBOT_NAMES` alone, told with `ROBOT_PHRASES`; the web set covers every pictograph of
`web_pictographs()`; evaluation draws its scenes from seeds that no training frame uses.
"""

from __future__ import annotations

import hashlib
import json

from rt2_ros.data.pictographs import Pictograph, by_name, pictographs

# Objects of the robot demonstrations, "seen" in the evaluation's sense.
ROBOT_NAMES: tuple[str, ...] = (
    "red apple", "banana", "grapes", "watermelon", "strawberry", "lemon", "pear", "carrot",
    "broccoli", "eggplant", "mushroom", "croissant", "pizza", "hamburger", "doughnut", "cookie",
    "birthday cake", "cheese wedge", "beer mug", "hot beverage", "panda", "pig face", "frog",
    "tropical fish", "octopus", "butterfly", "lady beetle", "sunflower", "rose", "cactus",
    "soccer ball", "basketball", "tennis", "rocket", "automobile", "bicycle", "hammer",
    "scissors", "key", "light bulb", "umbrella", "guitar", "closed book", "balloon",
    "wrapped gift", "crown", "telephone", "camera",
)  # fmt: skip

# Shorter words that people use for them, each meaning one of them.
SHORT_NAMES: dict[str, str] = {
    "red apple": "apple", "birthday cake": "cake", "cheese wedge": "cheese", "beer mug": "beer",
    "hot beverage": "coffee", "pig face": "pig", "tropical fish": "fish", "lady beetle": "ladybug",
    "soccer ball": "football", "tennis": "tennis ball", "automobile": "car", "light bulb": "bulb",
    "closed book": "book", "wrapped gift": "gift", "doughnut": "donut",
}  # fmt: skip

# How demonstrations put a request, by the kind of task.
ROBOT_PHRASES: dict[str, tuple[str, ...]] = {
    "pick": (
        "pick up the {object}", "pick the {object}", "pick up {object}", "grab the {object}",
        "lift the {object}", "take the {object}",
    ),
    "near": (
        "move the {object} near the {target}", "move the {object} to the {target}",
        "move {object} near {target}", "put the {object} next to the {target}",
        "bring the {object} to the {target}",
    ),
    "on": (
        "put the {object} on the {target}", "place the {object} on the {target}",
        "put {object} on {target}", "put the {object} on top of the {target}",
    ),
    "push left": ("push the {object} left", "push the {object} to the left"),
    "push right": ("push the {object} right", "push the {object} to the right"),
    "push forward": ("push the {object} forward", "push {object} forward"),
    "push back": ("push the {object} back", "push {object} back"),
    "open": ("open the gripper", "open the hand"),
    "close": ("close the gripper", "close the hand"),
}  # fmt: skip
ROBOT_PHRASES_ZH: dict[str, tuple[str, ...]] = {
    "pick": ("拿起{object}", "把{object}拿起来", "抓住{object}"),
    "near": ("把{object}移到{target}旁边", "把{object}放到{target}旁边"),
    "on": ("把{object}放到{target}上", "把{object}放在{target}上面"),
    "push left": ("把{object}向左推", "向左推{object}"),
    "push right": ("把{object}向右推", "向右推{object}"),
    "push forward": ("把{object}向前推", "向前推{object}"),
    "push back": ("把{object}向后推", "向后推{object}"),
    "open": ("张开夹爪", "打开夹爪"),
    "close": ("合上夹爪", "闭合夹爪"),
}

# Seeds: of evaluated scenes, and of the generators that training frames are drawn from.
TEST_SEEDS = range(0, 100_000)
TRAIN_SEEDS = range(1_000_000, 900_000_000)

# Web pictures leave out flags and signs for now: at 192 px they are told apart by details.
WEB_GROUPS = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects")


def robot_pictographs() -> tuple[Pictograph, ...]:
    """The pictographs that robot demonstrations show."""
    return tuple(by_name(name) for name in ROBOT_NAMES)


def web_pictographs() -> tuple[Pictograph, ...]:
    """The pictographs that web pictures show: a superset of the robot's."""
    return tuple(p for p in pictographs() if p.group in WEB_GROUPS)


def unseen_names(alike: bool) -> tuple[str, ...]:
    """Things that web pictures show and robot demonstrations do not.

    alike: those of a kind (Unicode's subgroup, such as food-fruit) that demonstrations have some
    of; else those of the other kinds.
    """
    seen = {p.subgroup for p in robot_pictographs()}
    return tuple(
        p.name
        for p in web_pictographs()
        if p.name not in ROBOT_NAMES and (p.subgroup in seen) == alike
    )


def object_name(words: str) -> str:
    """The pictograph's name for what a person calls an object ("apple", "red apple", "香蕉").

    Raises:
        KeyError: nothing is called that.
    """
    words = words.strip().lower()
    for name, short in SHORT_NAMES.items():
        if words == short:
            return name
    return by_name(words).name


def digest() -> str:
    """A short hash of the split, kept with each checkpoint."""
    parts = [ROBOT_NAMES, SHORT_NAMES, ROBOT_PHRASES, ROBOT_PHRASES_ZH, WEB_GROUPS,
             [str(r) for r in (TRAIN_SEEDS, TEST_SEEDS)],
             [p.name for p in web_pictographs()]]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
