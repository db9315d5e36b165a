# SPDX-License-Identifier: Apache-2.0
"""Sources as a configuration names them.

    sources:
      web:   {type: web, queries: 14, robot_names_share: 0.8}    # the built-in web set
      robot: {type: robot, queries: 3}                           # demonstrations in the simulator
      mine:  {type: lerobot, path: data/mine}                    # recorded; see rt2_ros.data.files

Each is a callable that draws one frame from a random generator. A robot's has `space`, the action
space that its answers speak, and `size`, the side of its pictures in px; it may have `plans`,
whether answers begin with one, `pictures`, of how many cameras its frames are, and `statistics`,
what is kept with a checkpoint about its data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rt2_ros.actions import ActionSpace, PlanForm
from rt2_ros.actions.space import STATE_NAMES
from rt2_ros.data.files import FILES
from rt2_ros.data.robot import RobotSource
from rt2_ros.data.samples import Frame
from rt2_ros.data.split import robot_pictographs, web_pictographs
from rt2_ros.data.web import web_frame
from rt2_ros.training.augment import Augmentation, Augmented
from rt2_ros.training.config import TrainingConfig
from rt2_ros.training.data import Source


class WebSource:
    """The built-in web set; `robot_names_share` of its pictures show only things that robots meet
    as well. looks: how many times a robot is asked about each picture, see `rt2_ros.data.web.look`.
    """

    def __init__(
        self, *, queries: int = 8, robot_names_share: float = 0.0, most: int = 12, looks: int = 0
    ) -> None:
        self._all, self._robot = web_pictographs(), robot_pictographs()
        self._queries, self._share, self._most = queries, robot_names_share, most
        self._looks = looks

    def __call__(self, random: np.random.Generator) -> Frame:
        """One picture with its questions."""
        things = self._robot if random.random() < self._share else self._all
        return web_frame(random, things, queries=self._queries, most=self._most, looks=self._looks)


def _robot(*, queries: int = 3, web_queries: int = 3) -> RobotSource:
    return RobotSource(robot_queries=queries, web_queries=web_queries)


# What is drawn on the fly is never the same twice: held-out pictures come from other seeds.
MADE: dict[str, Callable[..., Source]] = {"web": WebSource, "robot": _robot}
ASKING = ("web", "jsonl", "hf", "webdataset")  # those with several questions about a picture


def build(
    settings: Mapping[str, Mapping[str, Any]], augment: Mapping[str, Augmentation],
    held_out: bool = False, queries: int | None = None,
) -> dict[str, Source]:  # fmt: skip
    """The sources of a configuration; ValueError names the source and the key.

    held_out: those for validation, of episodes that training never reads, as they are.
    queries: about a picture at most, where a source that asks several does not say; None: as many
        as it does by itself.
    """
    sources: dict[str, Source] = {}
    for name, given in settings.items():
        values = dict(given)
        kind = values.pop("type", None)
        if kind not in MADE and kind not in FILES:
            known = ", ".join([*MADE, *FILES])
            raise ValueError(f"source {name}: type is {kind!r}; expected {known}")
        if queries is not None and kind in (*ASKING, "robot"):
            values.setdefault("queries", queries)
            if kind == "robot":  # whose web questions would count as others' rows
                values.setdefault("web_queries", 0)
        try:
            source: Source = (
                MADE[kind](**values) if kind in MADE else FILES[kind](**values, held_out=held_out)
            )
        except TypeError as error:
            raise ValueError(f"source {name}: {error}") from error
        sources[name] = (
            Augmented(source, augment[name], name) if name in augment and not held_out else source
        )
    return sources


def spaces(sources: Mapping[str, Source]) -> dict[str, ActionSpace]:
    """The action spaces that robot sources speak."""
    found = {name: getattr(source, "space", None) for name, source in sources.items()}
    return {name: space for name, space in found.items() if isinstance(space, ActionSpace)}


def main_space(sources: Mapping[str, Source], name: str | None = None) -> ActionSpace:
    """The one that a checkpoint speaks; ValueError where it must be named, or its prompts tell a
    state that no policy will be told.
    """
    name = _main(sources, name)
    space = spaces(sources)[name]
    if (count := len(space.state_low)) not in (0, len(STATE_NAMES)):
        raise ValueError(
            f"source {name}: its prompts tell {count} numbers of the state; expected 4, x, y, z of "
            "the tip in m and how far the gripper is closed, 0 to 1, as a policy is told, or none"
        )
    if space.has_state and space.state_names != STATE_NAMES:
        raise ValueError(
            f"source {name}: state_names of its action space are {list(space.state_names)}; "
            f"expected {list(STATE_NAMES)}, which is what a policy is told"
        )
    return space


def _main(sources: Mapping[str, Source], name: str | None) -> str:
    known = spaces(sources)
    if name is None and len(known) == 1:
        return next(iter(known))
    if name is not None and name in known:
        return name
    raise ValueError(
        f"space is {name!r}; expected the name of a source with an action space: {sorted(known)}"
    )


def planned(sources: Mapping[str, Source], config: TrainingConfig) -> bool:
    """Whether the last stage teaches plans in the space that a checkpoint speaks: a policy that
    acts otherwise would act as it never learned to.
    """
    own = sources[_main(sources, config.space)]
    return config.stages[-1].plan_share > 0 and getattr(own, "plans", False)


def picture_count(sources: Mapping[str, Source], config: TrainingConfig) -> int:
    """How many cameras' pictures are looked at in the space that a checkpoint speaks."""
    return int(getattr(sources[_main(sources, config.space)], "pictures", 1))


def picture_size(sources: Mapping[str, Source]) -> int:
    """Side in px of all robot sources' pictures; ValueError where it is not the same."""
    sizes = {name: sources[name].size for name in spaces(sources)}  # type: ignore[attr-defined]
    if len(set(sizes.values())) > 1:
        raise ValueError(f"sources: size is {sizes}; expected one for all robot sources")
    return next(iter(sizes.values()))


def plan_form(sources: Mapping[str, Source]) -> PlanForm | None:
    """What all plans of robot sources look like; None where one does not say, or says otherwise.

    A form tells also of what prompts remind, and only data that does so teaches what that is for.
    """
    forms = [getattr(sources[name], "plan_form", None) for name in spaces(sources)]
    return forms[0] if forms and all(form == forms[0] for form in forms) else None


def statistics(sources: Mapping[str, Source]) -> dict[str, Any]:
    """What sources know of their data, by name."""
    found = {name: getattr(source, "statistics", None) for name, source in sources.items()}
    return {name: value for name, value in found.items() if value is not None}
