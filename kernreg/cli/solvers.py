"""From options of the command line to a ridge and a solver."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kernreg.exceptions import InvalidInputError
from kernreg.wording import either

if TYPE_CHECKING:
    from kernreg.datasets import Dataset
    from kernreg.solvers.base import Solver

__all__ = ["SolverOptions", "choices", "names", "parse_alpha"]

_SETTINGS = ("tol", "checkpoint", "centres", "folder")


def names() -> tuple[str, ...]:
    """Names of solvers on the command line, without an import of torch if none was registered."""
    if "kernreg.solvers.registry" in sys.modules:
        return tuple(choices())
    from kernreg.solvers.names import NAMES

    return tuple(name.replace("_", "-") for name in NAMES)


def choices() -> dict[str, type[Solver]]:
    """Solvers that options suffice for, by their names on the command line."""
    from kernreg.solvers.registry import SOLVERS, required

    usable = {name: cls for name, cls in SOLVERS.items() if required(cls) <= set(_SETTINGS)}
    return {name.replace("_", "-"): cls for name, cls in usable.items()}


@dataclass(frozen=True)
class SolverOptions:
    """What ``fit`` and ``explain`` are told of the solver; None is an option left out."""

    solver: str
    dtype: str = "float64"
    device: str = "cpu"
    tol: float | None = None
    centres: int | None = None
    checkpoint: Path | None = None
    folder: Path | None = None

    @property
    def kind(self) -> type[Solver] | None:
        """The class that was asked for; None for auto."""
        return choices().get(self.solver)

    @property
    def given(self) -> dict[str, Any]:
        """Settings that were not left out."""
        values = {name: getattr(self, name) for name in _SETTINGS}
        return {name: value for name, value in values.items() if value is not None}

    def check(self, alpha: str | float | np.ndarray) -> None:
        """Raise InvalidInputError for what does not belong together, before any work."""
        if self.tol is not None and not 0 < self.tol < 1:
            raise InvalidInputError(f"--tol is {self.tol:g}; expected a number between 0 and 1.")
        if self.solver == "auto" and not self.given and self.device == "cpu":
            return
        from kernreg.operators.inputs import check_device
        from kernreg.solvers.registry import gives_errors, required, settings

        kind = self.kind
        for name in self.given:
            solvers = [known for known, cls in choices().items() if name in settings(cls)]
            if self.solver not in solvers:
                raise InvalidInputError(
                    f"--{name} is for --solver {either(solvers)}, and --solver is "
                    f"{self.solver!r}: leave --{name} out, or change --solver."
                )
        if kind is not None and "folder" in required(kind) and self.folder is None:
            raise InvalidInputError(
                f"--solver {self.solver} keeps its factor on disk: say where by --folder DIR."
            )
        if np.ndim(alpha) and not gives_errors(kind):
            able = [name for name, cls in choices().items() if gives_errors(cls)]
            raise InvalidInputError(
                f"--solver {self.solver} gives no leave-one-out errors to choose by: give alpha as "
                "one number, --alpha 1e-3 say, or --alpha auto, which chooses on a sample of the "
                f"rows, or use --solver {either(able)}."
            )
        where = check_device(self.device)
        if kind is not None and where.type not in kind.runs_on:
            raise InvalidInputError(
                f"--device is {self.device!r}, but --solver {self.solver} computes on the CPU: "
                "leave --device out."
            )

    def made(self, data: Dataset, budget: int) -> str | Solver:
        """The name of the solver, or one with its settings within a budget of bytes."""
        from kernreg.solvers.base import Problem

        if self.kind is None or not self.given:
            return self.solver
        n, d = data.X.shape
        classes = 0 if data.classes is None else len(data.classes)
        problem = Problem(n, d, classes if classes > 2 else 1, self.dtype)
        # As for the name alone, where the plan counts a copy of the data on a GPU.
        copied = 0 if self.device == "cpu" else n * d * problem.dtype.itemsize
        return self.kind.within(problem, budget - copied, **self.given)


def parse_alpha(text: str) -> str | float | np.ndarray:
    """``--alpha``: "auto" as it is, a number, or numbers to choose from."""
    if text == "auto":
        return text
    try:
        values = np.unique([float(number) for number in text.split(",")])
    except ValueError:
        values = np.array([-1.0])
    # No 0 among several: 0,001 is a number with a decimal comma.
    least = 0.0 if len(values) == 1 else np.finfo(float).tiny
    if not np.all((values >= least) & (values < np.inf)):
        raise InvalidInputError(
            f"--alpha is {text!r}; expected auto, a number >= 0, or several > 0 with commas "
            "between, 1e-4,1e-3 say."
        )
    return values if len(values) > 1 else float(values[0])
