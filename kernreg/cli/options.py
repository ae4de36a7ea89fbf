"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from kernreg.exceptions import InvalidInputError

__all__ = [
    "Centres",
    "DataArgument",
    "Device",
    "Drop",
    "FloatName",
    "Folder",
    "Header",
    "IdName",
    "Impute",
    "Kernel",
    "MaxMemory",
    "Network",
    "Overwrite",
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
    "table_options",
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
        help="A scikit-learn set (digits, iris, ...) or a CSV, Parquet, NPZ, NPY or svmlight file.",
    ),
]
Target = Annotated[
    str | None,
    typer.Option(metavar="COL", help="Column of the target; array name in NPZ, number in NPY."),
]
Drop = Annotated[
    list[str] | None,
    typer.Option(metavar="COL", help="Column to leave out; repeat it, or name several: a,b."),
]
IdName = Annotated[
    str | None,
    typer.Option(
        "--id", metavar="COL", help="Column that names the rows: no feature, kept in predictions."
    ),
]
Impute = Annotated[
    str,
    typer.Option(
        metavar="[auto|mean|median|none]",
        help="What becomes of gaps and of columns that are no features yet. auto: medians, with "
        "indicators of what is missing; dates as days; text with many values as places in "
        "alphabetical order. mean, median: only gaps are filled. none: all of them are refused.",
    ),
]
Header = Annotated[
    bool,
    typer.Option(
        "--header/--no-header", help="Whether the first line has names; without, they are 0, 1, ..."
    ),
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
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier result at the same place.")
]
Kernel = Annotated[str, typer.Option(help="ntk or nngp.")]
SolverName = Annotated[
    str,
    typer.Option(
        help="auto, cholesky, banded or eigh; restricted, pcg, sketch or out-of-core need no "
        "matrix in memory, the last three a number as --alpha."
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


def table_options(
    drop: list[str] | None, id_name: str | None, impute: str, header: bool
) -> dict[str, Any]:
    """Options for tables as :func:`kernreg.datasets.load` takes them."""
    check_choice("--impute", impute, ("auto", "mean", "median", "none"))
    fill = None if impute == "none" else impute
    return {"drop": drop or [], "id_name": id_name, "impute": fill, "header": header}


def check_solver(solver: str, dtype: str) -> None:
    """Raise InvalidInputError for an unknown solver or type of entries."""
    from kernreg.cli.solvers import names

    check_choice("--solver", solver, ("auto", *names()))
    check_choice("--dtype", dtype, ("float64", "float32"))


def check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise InvalidInputError for a value that is not among the choices."""
    if value not in choices:
        raise InvalidInputError(f"{option} is {value!r}; expected {' or '.join(choices)}.")
