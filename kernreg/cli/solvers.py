"""From options of the command line to a ridge and a solver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kernreg.exceptions import InvalidInputError

if TYPE_CHECKING:
    from kernreg.datasets import Dataset
    from kernreg.planning.candidates import Solver

__all__ = ["SolverOptions", "parse_alpha"]

_ITERATIVE = ("pcg", "sketch")
_ONE_RIDGE = (*_ITERATIVE, "out-of-core")
_TAKEN_BY = {
    "tol": _ITERATIVE,
    "checkpoint": _ITERATIVE,
    "centres": ("restricted",),
    "folder": ("out-of-core",),
}


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

    def check(self, alpha: str | float | np.ndarray) -> None:
        """Raise InvalidInputError for what does not belong together, before any work."""
        from kernreg.operators.inputs import check_device

        for name, solvers in _TAKEN_BY.items():
            if getattr(self, name) is not None and self.solver not in solvers:
                raise InvalidInputError(
                    f"--{name} is for --solver {' or '.join(solvers)}, and --solver is "
                    f"{self.solver!r}: leave --{name} out, or change --solver."
                )
        if self.solver == "out-of-core" and self.folder is None:
            raise InvalidInputError(
                "--solver out-of-core keeps its factor on disk: say where by --folder DIR."
            )
        if self.tol is not None and not 0 < self.tol < 1:
            raise InvalidInputError(f"--tol is {self.tol:g}; expected a number between 0 and 1.")
        if self.solver in _ONE_RIDGE and np.ndim(alpha):
            raise InvalidInputError(
                f"--solver {self.solver} gives no leave-one-out errors to choose by: give alpha as "
                "one number, --alpha 1e-3 say, or --alpha auto, which chooses on a sample of the "
                "rows, or use --solver eigh, cholesky or restricted."
            )
        where = check_device(self.device)
        if self.solver == "out-of-core" and where.type != "cpu":
            raise InvalidInputError(
                f"--device is {self.device!r}, but --solver out-of-core computes on the CPU: leave "
                "--device out."
            )

    def made(self, data: Dataset, budget: int) -> Solver:
        """The name of the solver, or one with its settings within a budget of bytes."""
        from kernreg.planning.candidates import bounded_on_disk, bounded_pcg
        from kernreg.solvers import Restricted, SketchAndProject

        n, d = data.X.shape
        classes = 0 if data.classes is None else len(data.classes)
        outputs, dtype = (classes if classes > 2 else 1), np.dtype(self.dtype)
        if self.folder is not None:
            return bounded_on_disk(n, d, dtype, budget, self.folder)
        if self.centres is not None:
            return Restricted(centres=self.centres)
        settings: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("tol", "checkpoint")
            if getattr(self, name) is not None
        }
        if not settings:
            return self.solver
        if self.solver == "sketch":
            return SketchAndProject(**settings)
        # As for the name alone, where the plan counts a copy of the data on a GPU.
        copied = 0 if self.device == "cpu" else n * d * dtype.itemsize
        return replace(bounded_pcg(n, d, outputs, dtype, budget - copied), **settings)


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
