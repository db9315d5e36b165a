# SPDX-License-Identifier: Apache-2.0
"""Where the files that are not Python lie: ``config/``, ``launch/``, ``models/``.

Example: ``config_path("robots", "panda.yaml")`` is the robot profile in a source checkout, in a
colcon install space and in a virtual environment alike.
"""

import os
import sys
from pathlib import Path
from typing import Any

import yaml

PACKAGE = "rt2_ros"


def share_dir() -> Path:
    """Return the folder that holds ``package.xml``, ``config/``, ``launch/`` and ``models/``.

    The first of: the source checkout that this module lies in (``pip install -e``, or a checkout
    on the path); ``share/rt2_ros`` of the prefix that this module was installed to
    (``pip install``, also with ``--user`` or ``--prefix``, and Debian's
    ``/usr/local``); the same of a prefix in ``AMENT_PREFIX_PATH`` (colcon), and of Python's.

    Raises:
        FileNotFoundError: none of them is there; the message names the places looked at.
    """
    folders = Path(__file__).absolute().parents
    ament = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    # The package's folder lies in PREFIX/lib/python3.X/site-packages.
    prefixes: list[str | Path] = [*folders[4:5], *filter(None, ament), sys.prefix]
    places = dict.fromkeys([folders[1], *(Path(prefix, "share", PACKAGE) for prefix in prefixes)])
    for place in places:
        if (place / "package.xml").is_file() and (place / "config").is_dir():
            return place
    raise FileNotFoundError(
        f"the shared files of {PACKAGE} (package.xml, config/) are in none of "
        f"{', '.join(map(str, places))}: build the package with colcon and source "
        "install/setup.bash, or, without a ROS distribution, run `pip install .`"
    )


def config_path(*parts: str) -> Path:
    """Return the path of a file under ``config/``; the reader finds out whether it exists."""
    return share_dir().joinpath("config", *parts)


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        ValueError: it is not YAML; names the file, and line and column of what is amiss.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def find_folder(name: str) -> Path | None:
    """Return a folder as given, or below the shared files ("models/rt2-tiny"); None if neither."""
    if not name:
        return None
    places = Path(name).expanduser(), share_dir() / name
    return next((path for path in places if path.is_dir()), None)
