"""Builds the optional C++ extension; everything else stands in ``pyproject.toml``.

``KERNREG_BUILD_EXT=0`` leaves the extension out. The duals are translated to C++ here, from the
Python definitions in ``kernreg/nn/nonlinearities``.
"""

import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_py import build_py
from setuptools.errors import CCompilerError, CompileError, ExecError, PlatformError

HERE = Path(__file__).parent.resolve()
sys.path.insert(0, str(HERE))

# No -ffast-math: the float formulas rely on the order that they are written in. Data are finite,
# so that minimum, maximum and modulus are one instruction each.
COMMON = [
    "-O3",
    "-std=c++17",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-ffinite-math-only",
    "-ffp-contract=fast",
]
SETS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma",
               "-mprefer-vector-width=512"],
}  # fmt: skip


def generate_duals():
    """Write ``csrc/generated`` from the nonlinearities that have a closed form."""
    import kernreg.nn  # noqa: F401  (fills LAYERS)
    from kernreg.codegen.cpp import write
    from kernreg.nn.base import LAYERS, Nonlinearity

    examples = []
    for layer in LAYERS.values():
        if issubclass(layer, Nonlinearity):
            try:
                examples.append(layer())
            except TypeError:  # structure depends on an argument: runs on the virtual machine
                continue
    write(HERE / "csrc" / "generated", examples)


def isa_library(name, flags):
    """One instruction set's copy of the engine, compiled with its own flags."""
    sources = [f"csrc/isa_{name}.cpp"]
    headers = [str(p.relative_to(HERE)) for p in (HERE / "csrc").rglob("*.[ih]*")]
    return (f"kernreg_{name}", {"sources": sources, "cflags": COMMON + flags,
                                "obj_deps": {"": headers}})  # fmt: skip


class BuildPackage(build_py):
    """Adds the C++ that is compiled at run time, for the GPU at hand."""

    RUN_TIME = ("csrc/pair.inl", "csrc/vmath.inl", "csrc/cuda/*.cuh")

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for source in sorted(p for pattern in self.RUN_TIME for p in HERE.glob(pattern)):
            target = Path(self.build_lib, "kernreg", source.relative_to(HERE))
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))


class BuildLibraries(build_clib):
    """Goes on without a compiler: linking then fails, and the optional extension is left out."""

    def build_libraries(self, libraries):
        """All instruction sets at once, a process each."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda one: build_clib.build_libraries(self, [one]), libraries))

    def run(self):
        try:
            super().run()
        except (CCompilerError, CompileError, ExecError, PlatformError) as error:
            self.warn(f"no C++ extension: {error}")


class BuildExtension(build_ext):
    """Builds the libraries first, also for ``build_ext --inplace``."""

    def run(self):
        self.run_command("build_clib")
        super().run()


options = {"cmdclass": {"build_py": BuildPackage}}
if os.environ.get("KERNREG_BUILD_EXT", "1") != "0":
    generate_duals()
    sets = SETS if platform.machine() in ("x86_64", "AMD64") else {"baseline": []}
    libraries = [isa_library(name, flags) for name, flags in sets.items()]
    extension = Pybind11Extension(
        "kernreg._core",
        ["csrc/module.cpp", "csrc/recorded.cpp"],
        include_dirs=["csrc"],
        libraries=[name for name, _ in libraries],
        # The libraries are made from these: what changes them links the module anew.
        depends=[str(path) for path in sorted((HERE / "csrc").rglob("*.[ihc]*"))],
        extra_compile_args=["-O2", "-ffp-contract=off"],
        extra_link_args=["-pthread"],
        cxx_std=17,
    )
    # A machine without a compiler still gets the package; `kernreg doctor` says what is missing.
    extension.optional = True
    options |= {"libraries": libraries, "ext_modules": [extension]}
    options["cmdclass"] |= {"build_clib": BuildLibraries, "build_ext": BuildExtension}

setup(**options)
