"""The interpreters of this machine that wheels can be built for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Interpreter", "chosen", "found"]

OLDEST = (3, 11)
_MINORS = range(OLDEST[1], OLDEST[1] + 10)
_QUESTIONS = """
import importlib.util, json, pathlib, sys, sysconfig
free_threaded = sysconfig.get_config_var("Py_GIL_DISABLED")
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "cpython": sys.implementation.name == "cpython" and not free_threaded,
    "headers": pathlib.Path(sysconfig.get_paths()["include"], "Python.h").exists(),
    "venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """One of them.

    Parameters
    ----------
    path : str
        The program.
    version : tuple of int
        Major, minor and micro.
    lacks : str
        What it cannot do for a build, or nothing.
    """

    path: str
    version: tuple[int, int, int]
    lacks: str = ""

    @property
    def tag(self) -> str:
        """How names of wheels say it.

        Examples
        --------
        >>> Interpreter("python3.12", (3, 12, 1)).tag
        'cp312'
        """
        return "cp{}{}".format(*self.version)

    @property
    def name(self) -> str:
        """Its version as text."""
        return ".".join(map(str, self.version))


def look_at(path: str) -> Interpreter | None:
    """What a program says of itself, or None if it does not run."""
    try:
        run = subprocess.run([path, "-c", _QUESTIONS], capture_output=True, text=True, check=True)
        answers = json.loads(run.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None
    version = tuple(answers["version"])
    lacks = [
        *(["a version that kernreg supports"] if version < OLDEST else []),
        *(["the ABI that wheels are built for"] if not answers["cpython"] else []),
        *(["Python.h"] if not answers["headers"] else []),
        *(["venv and ensurepip"] if not answers["venv"] else []),
    ]
    return Interpreter(path, version, " and ".join(lacks))


def found() -> list[Interpreter]:
    """One for each version from 3.11 on, oldest first: from the PATH, then those of pyenv.

    pyenv's programs on the PATH are stand-ins that run only what is switched on, so its folder is
    looked into as well.
    """
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    by_tag: dict[str, Interpreter] = {}
    for minor in _MINORS:
        name = f"python3.{minor}"
        on_path = shutil.which(name)
        folders = sorted(versions.glob(f"3.{minor}.*/bin/{name}"), reverse=True)
        for path in [*([on_path] if on_path else []), *map(str, folders)]:
            seen = look_at(path)
            if seen and not seen.lacks:
                by_tag.setdefault(seen.tag, seen)
    return sorted(by_tag.values(), key=lambda one: one.version)


def chosen(programs: list[str]) -> list[Interpreter]:
    """Those that are named, or all that are found.

    Raises
    ------
    SystemExit
        If one of them cannot build, or none is found.
    """
    if not programs:
        return found() or _stop("no CPython from 3.11 on with Python.h, venv and ensurepip")
    seen = [(program, look_at(program)) for program in programs]
    for program, one in seen:
        if one is None or one.lacks:
            _stop(f"{program} {'does not run' if one is None else f'lacks {one.lacks}'}")
    return [one for _, one in seen if one is not None]


def _stop(reason: str) -> list[Interpreter]:
    raise SystemExit(f"error: {reason}")
