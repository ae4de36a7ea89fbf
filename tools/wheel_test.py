"""Installs wheels into clean environments without a compiler and runs ``tests/wheel_smoke.py``.

    python -m tools.wheel_test [WHEEL ...] [--reuse FOLDER]

Without names, those of ``dist``. Each environment sees no compiler on its PATH, and pip may not
build anything. Dependencies come from the package index, in the versions of ``constraints.txt``.
With ``--reuse`` they are installed once for a Python version into an environment in FOLDER, which
later runs see through a path file: a minute instead of several, but then nothing tells that the
wheel names all that it needs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tools.interpreters import Interpreter, found
from tools.wheels import CONSTRAINTS, ROOT

SMOKE = ROOT / "tests" / "wheel_smoke.py"
_COMPILING = {"CC", "CXX", "CPP", "CFLAGS", "CXXFLAGS", "LDFLAGS"}
_LEADING_ELSEWHERE = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX"}


def fitting(wheel: Path, pythons: list[Interpreter]) -> Interpreter:
    """The interpreter that a wheel is for; one without an extension fits all, the last is taken."""
    tag = wheel.stem.split("-")[2]
    fit = [one for one in pythons if tag in ("py3", one.tag)]
    if not fit:
        raise SystemExit(f"error: no Python here for {wheel.name}")
    return fit[-1]


class Environment:
    """A virtual environment that is alone on its PATH.

    Parameters
    ----------
    folder : Path
        Where it is, or is made.
    python : Interpreter
        What makes it.
    """

    def __init__(self, folder: Path, python: Interpreter) -> None:
        self.bin = folder / "bin"
        if not self.bin.exists():
            subprocess.run([python.path, "-m", "venv", folder], check=True)
        (self.packages,) = folder.glob("lib/python*/site-packages")
        left_out = _COMPILING | _LEADING_ELSEWHERE
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in left_out and not name.startswith("KERNREG_")
        }
        # Threads of BLAS wait for each other for minutes where other work runs.
        few = {"OMP_NUM_THREADS": "1", "KERNREG_NUM_THREADS": "2"}
        alone = {"PATH": str(self.bin), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        self.environ = kept | few | alone

    def python(self, *arguments: str | Path, cwd: Path | None = None) -> None:
        """Run its Python with these arguments."""
        command = [self.bin / "python", *arguments]
        done = subprocess.run(command, cwd=cwd, env=self.environ)
        if done.returncode:
            raise SystemExit(f"error: {' '.join(map(str, command))} failed")

    def install(self, wheel: Path) -> None:
        """As ``pip install`` does, from wheels only."""
        constraints = self.bin.parent / "constraints.txt"
        lines = CONSTRAINTS.read_text().splitlines(keepends=True)
        # The wheel does not need triton. Builds of torch for GPUs do, in a version of their own.
        constraints.write_text("".join(line for line in lines if not line.startswith("triton==")))
        options = ("--quiet", "--only-binary", ":all:", "--constraint", constraints)
        self.python("-m", "pip", "install", *options, wheel)


def dependencies(folder: Path, python: Interpreter, wheel: Path) -> Path:
    """Folder of the packages that the wheel needs, without the wheel."""
    made = Environment(folder / python.tag, python)
    stamp = folder / python.tag / "complete"
    if not stamp.exists():
        made.install(wheel)
        made.python("-m", "pip", "uninstall", "--quiet", "--yes", "kernreg")
        stamp.touch()
    return made.packages


def tested(wheel: Path, python: Interpreter, reuse: Path | None) -> None:
    """Install and check one; the first thing that does not hold ends the program."""
    start = time.monotonic()
    print(f"\n{wheel.name} with Python {python.name}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        clean = Environment(Path(scratch, "environment"), python)
        if reuse is not None:
            there = dependencies(reuse, python, wheel)
            (clean.packages / "dependencies.pth").write_text(f"{there}\n")
        clean.install(wheel)
        installed = time.monotonic()
        elsewhere = Path(scratch, "elsewhere")
        elsewhere.mkdir()
        smoke = shutil.copy(SMOKE, elsewhere)
        version = wheel.name.split("-")[1]
        pure = ["--without-extension"] if wheel.stem.endswith("none-any") else []
        clean.python("-I", smoke, version, *pure, cwd=elsewhere)
        if reuse is None:
            clean.python("-m", "pip", "check")
    taken = installed - start, time.monotonic() - installed
    print("installed in {:.0f} s, checked in {:.0f} s".format(*taken), flush=True)


def main() -> None:
    """Test all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", nargs="*", type=Path, metavar="WHEEL")
    parser.add_argument("--reuse", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    wheels = options.wheels or sorted((ROOT / "dist").glob("*.whl"))
    if not wheels:
        raise SystemExit("error: no wheel in dist; `make wheel` builds them")
    pythons = found()
    for wheel in wheels:
        reuse = options.reuse.resolve() if options.reuse else None
        tested(wheel.resolve(), fitting(wheel, pythons), reuse)
    print(f"\n{len(wheels)} wheels: all that is checked holds")


if __name__ == "__main__":
    main()
