# SPDX-License-Identifier: Apache-2.0
"""The pip side of this ROS 2 package: run its CMakeLists.txt and pack the install tree as a wheel.

colcon does not read this file. Names, versions and requirements of the Python side are in
pyproject.toml; the version is the one in package.xml.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path

from setuptools import Command, Distribution, find_packages, setup
from setuptools.command.build import build

HERE = Path(__file__).parent.resolve()
MANIFEST = ET.parse(HERE / "package.xml").getroot()
NAME = MANIFEST.findtext("name")
GENERATED = ("msg", "srv", "action")


def ros_wheels_prefix() -> Path | None:
    """Return the prefix that the ROS wheels are in: the environment, or pip's own for the build.

    None where they are not installed; a sourced ROS distribution then provides the same.
    """
    spec = find_spec("rosidl_adapter")
    return Path(spec.origin).resolve().parents[4] if spec and spec.origin else None


class BuildInterfaces(Command):
    """Run CMake into a staging prefix and take its install tree into the wheel."""

    description = "build the messages"
    user_options = []

    def initialize_options(self):
        self.build_lib = self.build_temp = None
        self.editable_mode = False  # set by setuptools for `pip install -e`

    def finalize_options(self):
        self.set_undefined_options(
            "build", ("build_lib", "build_lib"), ("build_temp", "build_temp")
        )

    def run(self):
        work = Path(self.build_temp).resolve() / "cmake"
        stage = Path(self.build_temp).resolve() / "stage"
        # A cache of an earlier run names files of that run's build environment.
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(stage, ignore_errors=True)
        site = Path("lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
        self._cmake(work, stage, site)

        built = stage / site / NAME
        target = HERE / NAME if self.editable_mode else Path(self.build_lib).resolve() / NAME
        for path in built.rglob("*"):
            relative = path.relative_to(built)
            if path.suffix == ".so" or (path.suffix == ".py" and relative.parts[0] in GENERATED):
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                (target / relative).unlink(missing_ok=True)  # running programs keep the old one
                shutil.copy2(path, target / relative)
        shutil.rmtree(stage / site.parent)  # setuptools packs the modules
        shutil.rmtree(stage / "bin")  # and makes the commands
        files: dict[str, list[str]] = {}
        for path in sorted(stage.rglob("*")):
            if path.is_file():
                files.setdefault(str(path.parent.relative_to(stage)), []).append(str(path))
        self.distribution.data_files += files.items()

    def _cmake(self, work: Path, stage: Path, site: Path):
        """Configure, build and install the package into ``stage``."""
        prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
        wheels = ros_wheels_prefix()
        if wheels and str(wheels) not in prefixes:
            prefixes.append(str(wheels))
        prefix_path = os.pathsep.join(prefixes)
        env = os.environ | {"AMENT_PREFIX_PATH": prefix_path, "CMAKE_PREFIX_PATH": prefix_path}
        # The libraries go to <prefix>/lib: found from site-packages/rt2_ros by a relative path,
        # from a source checkout by an absolute one.
        rpath = ["$ORIGIN", "$ORIGIN/../../.."]
        if self.editable_mode:
            rpath.append(str(Path(sys.prefix, "lib")))
        options = {
            "BUILD_TESTING": "OFF",
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_INSTALL_PREFIX": stage,
            "CMAKE_INSTALL_RPATH": ";".join(rpath),
            "PYTHON_INSTALL_DIR": site,
            "Python3_EXECUTABLE": sys.executable,
            "Python3_INCLUDE_DIR": sysconfig.get_path("include"),
        }
        defines = [f"-D{name}={value}" for name, value in options.items()]
        subprocess.check_call(["cmake", "-S", HERE, "-B", work, "-G", "Ninja", *defines], env=env)
        subprocess.check_call(["cmake", "--build", work], env=env)
        subprocess.check_call(["cmake", "--install", work], env=env, stdout=subprocess.DEVNULL)

    # What setuptools asks of a sub-command of `build`.

    def get_source_files(self):
        folders = ("msg", "launch", "config", "models", "scripts")
        files = [path for folder in folders for path in sorted((HERE / folder).rglob("*"))]
        return ["CMakeLists.txt", "package.xml"] + [
            str(path.relative_to(HERE)) for path in files if path.is_file()
        ]

    def get_outputs(self):
        return []

    def get_output_mapping(self):
        return {}


class Build(build):
    """`build` with the messages in it."""

    sub_commands = build.sub_commands + [("build_interfaces", None)]


class BinaryDistribution(Distribution):
    """A platform wheel, with data files in an editable install as well."""

    def has_ext_modules(self):
        return True

    def has_data(self):
        # What setuptools' editable_wheel asks before it installs data_files.
        return self.has_data_files()


setup(
    version=MANIFEST.findtext("version"),
    package_dir={"": "."},  # an editable install then only puts this folder on the path
    packages=find_packages(
        include=[NAME, f"{NAME}.*"], exclude=[f"{NAME}.{kind}" for kind in GENERATED]
    ),
    package_data={"": ["py.typed", "*.css", "*.j2", "*.json", "*.tsv", "*.xml", "*.yaml"]},
    cmdclass={"build": Build, "build_interfaces": BuildInterfaces},
    data_files=[],  # filled, in place, by build_interfaces
    distclass=BinaryDistribution,
)
