# SPDX-License-Identifier: Apache-2.0
"""Build one of the look-alike interface packages beside this file, fast: some seconds each.

    python test/interfaces/build.py moveit_msgs OUT      # then PYTHONPATH=OUT

The packages that bridges speak (control_msgs, controller_manager_msgs, moveit_msgs) are in no
package index for Python. The definitions here have their names, types and constants, as far as
bridges use them; they are no replacement. rosidl's own generators make C and Python of them; C++
and introspection, which CMake would build as well, take most of its time and are used by nobody
here. All of a package becomes one extension module.
"""

import logging
import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
PREFIX = Path(find_spec("rosidl_adapter").origin).resolve().parents[4]  # the wheels' or distro's
OWN = ("shape_msgs",)  # look-alikes that another one needs
IMPLIED = ("builtin_interfaces", "service_msgs", "action_msgs", "unique_identifier_msgs")
NEEDED = {
    "control_msgs": ("sensor_msgs", "std_msgs", "geometry_msgs"),
    "controller_manager_msgs": (),
    "shape_msgs": (),
    "moveit_msgs": (*OWN, "sensor_msgs", "std_msgs", "geometry_msgs", "trajectory_msgs"),
}
TYPESUPPORT = "rosidl_typesupport_fastrtps_c"


def generate(package, out):
    """Write C, C++ (of the type support alone) and Python files of a package to out/package."""
    from rosidl_cli.command.hash.api import generate_type_hashes
    from rosidl_cli.command.translate.api import translate
    from rosidl_generator_c.cli import GenerateC
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport

    folder = HERE / package
    files = [f"{folder}:{path.relative_to(folder)}" for path in sorted(folder.glob("*/*"))]
    include = [str(share(name, out)) for name in (*NEEDED[package], *IMPLIED)]
    idl = translate(
        package_name=package,
        interface_files=files,
        include_paths=include,
        output_format="idl",
        output_path=out / "idl" / package,
    )
    described = generate_type_hashes(
        package_name=package,
        interface_files=idl,
        include_paths=include,
        output_path=out / "idl" / package,
    )
    for kind in ("msg", "srv", "action"):  # files are told apart by their names alone otherwise
        GenerateC("c").generate(
            package,
            [path for path in idl if f":{kind}/" in path],
            include,
            out / package,
            type_description_files=[path for path in map(str, described) if f"/{kind}/" in path],
        )
    for generator in (
        GenerateCTypesupport("c", typesupport_implementations=[TYPESUPPORT]),
        GenerateFastRTPSCTypesupport(TYPESUPPORT),
        GeneratePython("py", typesupport_implementations=["rosidl_typesupport_c"]),
    ):
        generator.generate(package, idl, include, out / package)
    (out / package / "__init__.py").touch()


def share(package, out):
    """Return the folder with a package's .idl files."""
    return out / "idl" / package if package in OWN else PREFIX / "share" / package


def compile_(package, out):
    """Compile what was generated into the package's one extension module."""
    own, objects = [name for name in NEEDED[package] if name in OWN], out / "objects" / package
    objects.mkdir(parents=True)
    sources = sorted((out / package).rglob("*.c"))
    together = objects / "together.cpp"  # they share most of what they include
    together.write_text(
        "".join(f'#include "{path}"\n' for path in sorted((out / package).rglob("*.cpp")))
    )
    flags = [f'-DROS_PACKAGE_NAME="{package}"', "-O0", "-w", "-fPIC", f"-I{out}"]
    flags += [f"-I{sysconfig.get_path('include')}", f"-I{np.get_include()}"]
    flags += [f"-isystem{PREFIX / 'include'}"]
    flags += [f"-isystem{path}" for path in (PREFIX / "include").iterdir() if path.is_dir()]

    def one(job):
        compiler, source, number = job
        target = str(objects / f"{number}.o")
        subprocess.run([*compiler, "-c", str(source), "-o", target, *flags], check=True)
        return target

    jobs = [(["g++", "-std=c++17"], together, "together")]
    jobs += [(["gcc"], source, number) for number, source in enumerate(sources)]
    with ThreadPoolExecutor(2) as pool:
        built = list(pool.map(one, jobs))
    name = f"{package}_s__rosidl_typesupport_c.so"
    kinds = ("rosidl_generator_c", "rosidl_generator_py", "rosidl_typesupport_c", TYPESUPPORT)
    others = [name for name in (*NEEDED[package], *IMPLIED) if name not in OWN]
    libraries = [f"-l:lib{other}__{kind}.so" for other in others for kind in kinds]
    libraries += ["-lrosidl_runtime_c", "-lrcutils", "-l:libfastcdr.so"]
    libraries += [f"-l{TYPESUPPORT}", "-lrosidl_typesupport_fastrtps_cpp"]
    for other in own:
        libraries += [f"{out}/{other}/{other}_s__rosidl_typesupport_c.so"]
        libraries += [f"-Wl,-rpath,$ORIGIN/../{other}"]
    link = ["g++", "-shared", "-o", str(out / package / name), f"-Wl,-soname,{name}", *built]
    subprocess.run(
        [*link, f"-L{PREFIX / 'lib'}", f"-Wl,-rpath,{PREFIX / 'lib'}", *libraries], check=True
    )


def main(package, out):
    """Generate and compile."""
    os.environ["AMENT_PREFIX_PATH"] = str(PREFIX)
    logging.disable(logging.ERROR)  # of entry points that wheels register twice
    generate(package, Path(out))
    compile_(package, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
