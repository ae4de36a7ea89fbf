"""The C++ engine under the address and undefined behaviour sanitizers.

``python -m tests.sanitize`` builds the extension with both into a folder of its own, which is kept,
and runs ``tests/backends`` (or ``--only`` some) with it; other arguments are pytest's. The first
finding ends a test process.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    *("setup.py", "pyproject.toml", "README.md", "LICENSE"),
    *("csrc", "kernreg", "tests", "benchmarks"),
)
FLAGS = (
    "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1"
    # GCC 12 warns of its own instrumentation.
    " -Wno-maybe-uninitialized"
)


def copy(target: Path) -> None:
    """Bring the sources that changed to ``target``; what is built there stays."""
    for part in PARTS:
        for source in sorted([ROOT / part, *(ROOT / part).rglob("*")]):
            if source.is_dir() or source.suffix in (".so", ".pyc") or "generated" in source.parts:
                continue
            place = target / source.relative_to(ROOT)
            if place.exists() and place.read_bytes() == source.read_bytes():
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)


def library(name: str) -> str:
    """Full path of a runtime library of the compiler."""
    command = [os.environ.get("CXX", "g++"), f"-print-file-name={name}"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if not Path(found).is_absolute():
        sys.exit(f"{name} is missing: install the sanitizers of the compiler.")
    return found


def main() -> int:
    """Build, run, and return the exit code of the tests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to build; default below the system's")
    parser.add_argument("--only", nargs="+", default=["tests/backends"], help="tests to run")
    options, more = parser.parse_known_args()
    folder = options.folder or Path(tempfile.gettempdir()) / f"kernreg-sanitize-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        sys.exit(f"{folder} belongs to somebody else: name another folder by --folder.")
    copy(folder)
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(build, check=True, cwd=folder, env=environment | {"CFLAGS": FLAGS})
    if not list((folder / "kernreg").glob("_core*.so")):
        sys.exit("The extension was not built.")
    environment |= {
        # Exceptions are caught by the library that throws them: it must be there from the start.
        "LD_PRELOAD": f"{library('libasan.so')} {library('libstdc++.so.6')}",
        # Python frees little at its end. Freed memory is held back in small amounts only.
        # What is too large is refused, as without it.
        "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=32:abort_on_error=1"
        ":allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "KERNREG_CACHE": str(folder / "cache"),
    }
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run += [*options.only, *more]
    return subprocess.run(run, cwd=folder, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
