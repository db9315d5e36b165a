# SPDX-License-Identifier: Apache-2.0
"""Build one of the look-alike interface packages beside this file, fast: some seconds each.

    python test/interfaces/build.py moveit_msgs OUT      # then PYTHONPATH=OUT

The packages that bridges speak (control_msgs, controller_manager_msgs, moveit_msgs) are in no
package index for Python. The definitions here have their names, types and constants, as far as
bridges use them; they are no replacement. rosidl's own generators make C and Python of them; the
interfaces for C++, which CMake would build as well, take most of its time and are used by nobody
here.
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
FAST, INTROSPECTION = "rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c"


def generate(package, out):
    """Write a package's files to out/GENERATOR/package, those of Python to out/package."""
    from rosidl_cli.command.hash.api import generate_type_hashes
    from rosidl_cli.command.translate.api import translate
    from rosidl_generator_c.cli import GenerateC
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
    from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

    folder = HERE / package
    files = [f"{folder}:{path.relative_to(folder)}" for path in sorted(folder.glob("*/*"))]
    include = [str(share(name, out)) for name in (*NEEDED[package], *IMPLIED)]
    translated = {"package_name": package, "include_paths": include}
    translated["output_path"] = out / "idl" / package
    idl = translate(interface_files=files, output_format="idl", **translated)
    described = generate_type_hashes(interface_files=idl, **translated)
    for kind in ("msg", "srv", "action"):  # files are told apart by their names alone otherwise
        GenerateC("c").generate(
            package,
            [path for path in idl if f":{kind}/" in path],
            include,
            out / "rosidl_generator_c" / package,
            type_description_files=[path for path in map(str, described) if f"/{kind}/" in path],
        )
    dispatch = GenerateCTypesupport("c", typesupport_implementations=[FAST, INTROSPECTION])
    python = GeneratePython("py", typesupport_implementations=["rosidl_typesupport_c"])
    for generator, where in (
        (dispatch, "rosidl_typesupport_c"),
        (GenerateFastRTPSCTypesupport(FAST), FAST),
        (GenerateIntrospectionCTypesupport(INTROSPECTION), INTROSPECTION),
        (python, "."),
    ):
        generator.generate(package, idl, include, out / where / package)
    (out / package / "__init__.py").touch()


def share(package, out):
    """Return the folder with a package's .idl files."""
    return out / "idl" / package if package in OWN else PREFIX / "share" / package


def build(package, out):
    """Compile and link what was generated: two libraries, found by their names, and a module."""
    objects = out / "objects" / package
    objects.mkdir(parents=True)
    flags = [f'-DROS_PACKAGE_NAME="{package}"', "-O0", "-w", "-fPIC", f"-I{out}"]
    flags += [f"-I{out / name}" for name in ("rosidl_generator_c", FAST, INTROSPECTION)]
    flags += [f"-I{sysconfig.get_path('include')}", f"-I{np.get_include()}"]
    flags += [f"-isystem{PREFIX / 'include'}"]
    flags += [f"-isystem{path}" for path in (PREFIX / "include").iterdir() if path.is_dir()]

    def compile_(job):
        part, number, source = job
        target = objects / f"{part.strip('.')}-{number}.o"
        compiler = ["g++", "-std=c++17"] if source.suffix == ".cpp" else ["gcc"]
        subprocess.run([*compiler, "-c", source, "-o", target, *flags], check=True)
        return target

    jobs = []
    for part in (FAST, "rosidl_typesupport_c", "rosidl_generator_c", INTROSPECTION, "."):
        together = sorted((out / part / package).rglob("*.cpp"))
        if together:  # they share most of what they include
            unit = objects / f"{part}.cpp"
            unit.write_text("".join(f'#include "{path}"\n' for path in together))
            jobs.append((part, 0, unit))
        sources = sorted((out / part / package).rglob("*.c"))
        jobs += [(part, number, source) for number, source in enumerate(sources, start=1)]
    with ThreadPoolExecutor(2) as pool:
        built = dict(zip(((part, n) for part, n, _ in jobs), pool.map(compile_, jobs), strict=True))

    libraries = [f"-L{PREFIX / 'lib'}", f"-Wl,-rpath,{PREFIX / 'lib'}"]
    for other in (*NEEDED[package], *IMPLIED):
        if other in OWN:
            libraries += [f"{out}/{other}/{name}" for name in names(other)]
            libraries += [f"-Wl,-rpath,$ORIGIN/../{other}"]
            continue
        kinds = ("rosidl_generator_c", "rosidl_generator_py", "rosidl_typesupport_c")
        libraries += [f"-l:lib{other}__{kind}.so" for kind in (*kinds, FAST, INTROSPECTION)]
    libraries += ["-lrosidl_runtime_c", "-lrosidl_typesupport_c", "-lrcutils", f"-l{FAST}"]
    libraries += [f"-l{INTROSPECTION}", "-lrosidl_typesupport_fastrtps_cpp", "-l:libfastcdr.so"]
    parts = ((FAST, "rosidl_generator_c"), (INTROSPECTION,), ("rosidl_typesupport_c", "."))
    done = []
    for name, group in zip(names(package), parts, strict=True):
        mine = [path for (part, _), path in built.items() if part in group]
        link = ["g++", "-shared", "-o", out / package / name, f"-Wl,-soname,{name}", *mine]
        # Loaded with the module even where it calls nothing in them: found by name later.
        link += ["-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN", *done]
        subprocess.run([*link, *libraries], check=True)
        done.append(out / package / name)


def names(package):
    """Return the names of a package's two libraries and of its module."""
    libraries = [f"lib{package}__{part}.so" for part in (FAST, INTROSPECTION)]
    return [*libraries, f"{package}_s__rosidl_typesupport_c.so"]


def main(package, out):
    """Generate and build."""
    os.environ["AMENT_PREFIX_PATH"] = str(PREFIX)
    logging.disable(logging.ERROR)  # of entry points that wheels register twice
    generate(package, Path(out))
    build(package, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
