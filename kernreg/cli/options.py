"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = ["DataArgument", "MaxMemory", "Scaling", "Seed", "Target", "Task", "TaskOption"]


class Task(StrEnum):
    """What the target asks for."""

    auto = "auto"
    regression = "regression"
    classification = "classification"


class Scaling(StrEnum):
    """Scaling of the inputs."""

    auto = "auto"
    standard = "standard"
    common = "common"


DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A scikit-learn set (digits, iris, ...) or a CSV, Parquet, NPZ or NPY file.",
    ),
]
Target = Annotated[
    str | None,
    typer.Option(metavar="COL", help="Column of the target; array name in NPZ, number in NPY."),
]
TaskOption = Annotated[Task, typer.Option(help="What the target asks for.")]
MaxMemory = Annotated[str, typer.Option(metavar="SIZE", help="Memory that may be used.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of splits and subsets.")]
