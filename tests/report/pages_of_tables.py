"""Tables of different kinds, and the baseline and the page of each, made once."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernreg.baseline import Outcome
from kernreg.report import render
from tests.baseline.problems import classification_table, quick, regression_table, saved

HOSTILE = '<img src=x onerror="console.error(1)">'
LONG = "readings_of_the_third_sensor_" * 5


def _many_classes() -> Any:
    """Twelve classes with labels that need room."""
    frame = classification_table(rows=120)
    return frame.assign(kind=[f"species number {i % 12}" for i in range(120)])


TABLES: dict[str, Callable[[], tuple[Any, str, dict[str, Any]]]] = {
    "regression": lambda: (regression_table(), "prices", {}),
    "classification": lambda: (classification_table(), "rings", {"folds": 3, "seed": 5}),
    "many classes": lambda: (_many_classes(), "species", {}),
    # Names come from files of others, and a page must show them, not run them.
    "hostile": lambda: (
        regression_table().rename(columns={"price": HOSTILE, "colour": f"{HOSTILE} too"}),
        "a & <b>bold<",
        {},
    ),
    "long names": lambda: (regression_table().rename(columns={"price": LONG}), LONG, {}),
}


@functools.cache
def outcome_of(name: str) -> Outcome:
    """The baseline of one of ``TABLES``."""
    frame, stem, settings = TABLES[name]()
    with tempfile.TemporaryDirectory() as folder:
        return quick(saved(frame, Path(folder), stem), **settings)


@functools.cache
def page_of(name: str) -> str:
    """The text of its report."""
    return render(outcome_of(name))
