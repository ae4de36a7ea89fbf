"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kernreg.exceptions import InvalidInputError

__all__ = [
    "Centres",
    "DataArgument",
    "Device",
    "FloatName",
    "Folder",
    "Kernel",
    "MaxMemory",
    "Network",
    "Scaling",
    "ScalingName",
    "Seed",
    "SolverName",
    "Target",
    "Task",
    "TaskOption",
    "Tolerance",
    "check_choice",
    "check_solver",
]


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
Network = Annotated[
    str,
    typer.Option(
        help="Code as in Python, e.g. 'mlp(depth=2, activation=Erf())', JSON or a JSON file."
    ),
]
Kernel = Annotated[str, typer.Option(help="ntk or nngp.")]
SolverName = Annotated[
    str,
    typer.Option(
        help="auto, cholesky or eigh; restricted, pcg, sketch or out-of-core need no matrix in "
        "memory, the last three a number as --alpha."
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(metavar="RESIDUAL", help="pcg, sketch: relative residual; 1e-8 and 1e-6."),
]
Centres = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="restricted: rows it lives on; 2000.")
]
Folder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="out-of-core: where the factor is kept.")
]
Device = Annotated[str, typer.Option(help="cpu, or cuda: a GPU, in a job one for each process.")]
FloatName = Annotated[str, typer.Option("--dtype", help="float64 or float32.")]
ScalingName = Annotated[str, typer.Option("--scaling", help="standard or common.")]


def check_solver(solver: str, dtype: str) -> None:
    """Raise InvalidInputError for an unknown solver or type of entries."""
    from kernreg.linalg.candidates import NAMES

    check_choice("--solver", solver, ("auto", *NAMES, "out-of-core"))
    check_choice("--dtype", dtype, ("float64", "float32"))


def check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise InvalidInputError for a value that is not among the choices."""
    if value not in choices:
        raise InvalidInputError(f"{option} is {value!r}; expected {' or '.join(choices)}.")
