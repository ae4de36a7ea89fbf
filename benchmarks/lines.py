"""Results of long runs: a file with a JSON object in each line, which a run goes on with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

WITHIN = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
"""Between a value and its error, so that narrow tables keep them together."""


def read(path: Path) -> list[dict[str, Any]]:
    """What has been measured; nothing if there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def append(path: Path, line: dict[str, Any]) -> None:
    """One write, so that a run that is killed leaves whole lines."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, (json.dumps(line) + "\n").encode())
    finally:
        os.close(file)


def drop_torn(path: Path) -> None:
    """Forget what a full disk left of a line, so that the next one starts afresh."""
    if path.exists():
        text = path.read_bytes()
        if not text.endswith(b"\n"):
            os.truncate(path, text.rfind(b"\n") + 1)


def within(value: float, error: float) -> str:
    """A value and its error with one decimal."""
    return f"{value:.1f}{WITHIN}{error:.1f}"
