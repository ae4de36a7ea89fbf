"""The solvers by name."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from kernreg.exceptions import InvalidInputError
from kernreg.solvers.banded.solver import Banded
from kernreg.solvers.base import Solver
from kernreg.solvers.cholesky.in_memory import Cholesky
from kernreg.solvers.cholesky.out_of_core import OutOfCoreCholesky
from kernreg.solvers.eigh import Eigh
from kernreg.solvers.pcg.solver import PCG
from kernreg.solvers.restricted.solver import Restricted
from kernreg.solvers.sketch.solver import SketchAndProject
from kernreg.wording import either

__all__ = [
    "SOLVERS",
    "by_name",
    "for_ridges",
    "gives_errors",
    "register",
    "required",
    "settings",
    "solver_of",
]

SOLVERS: dict[str, type[Solver]] = {}
"""Classes by their names, in the order in which plans list them."""


def settings(cls: type[Solver]) -> set[str]:
    """Names of the settings of a solver."""
    return {field.name for field in fields(cls)}  # type: ignore[arg-type]


def required(cls: type[Solver]) -> set[str]:
    """Names of the settings without a default."""
    found: Any = fields(cls)  # type: ignore[arg-type]
    return {f.name for f in found if f.default is MISSING and f.default_factory is MISSING}


def register(cls: type[Solver]) -> type[Solver]:
    """Make the name of a solver known to plans, estimators and the command line.

    Raises
    ------
    InvalidInputError
        If another class has its name, or that of the class; or if plans could not make one.

    Examples
    --------
    >>> register(PCG) is SOLVERS["pcg"]
    True
    """
    for known in SOLVERS.values():
        if known is not cls and (known.name == cls.name or known.__name__ == cls.__name__):
            raise InvalidInputError(
                f"there is another solver {known.name!r} of the class {known.__name__}: take "
                "another name for solver and class"
            )
    if required(cls) and cls.within.__func__ is Solver.within.__func__:  # type: ignore[attr-defined]
        raise InvalidInputError(
            f"{cls.__name__} has settings without a default ({', '.join(sorted(required(cls)))}): "
            "give them one, or define within(), as plans compare all solvers"
        )
    SOLVERS[cls.name] = cls
    return cls


for _known in (Cholesky, Banded, Eigh, PCG, Restricted, SketchAndProject, OutOfCoreCholesky):
    register(_known)


def by_name() -> tuple[str, ...]:
    """What a name alone can ask for.

    Examples
    --------
    >>> by_name()
    ('cholesky', 'banded', 'eigh', 'pcg', 'restricted', 'sketch')
    """
    return tuple(name for name, cls in SOLVERS.items() if not required(cls))


def for_ridges(n: int) -> Solver:
    """The one that serves many ridges best, for n rows.

    Examples
    --------
    >>> for_ridges(100).name, for_ridges(3000).name
    ('eigh', 'banded')
    """
    return Banded() if n >= Banded.from_rows else Eigh()


def solver_of(solver: str | Solver) -> Solver | None:
    """A solver, or the one of a name with its defaults; None for "auto".

    Raises
    ------
    InvalidInputError
        If a name alone cannot ask for it.

    Examples
    --------
    >>> solver_of("restricted").centres
    2000
    """
    if isinstance(solver, Solver) or solver == "auto":
        return solver if isinstance(solver, Solver) else None
    names = by_name()
    if solver not in names:
        raise InvalidInputError(
            f"Expected solver {either(map(repr, ('auto', *names)))}, found {solver!r}."
        )
    return SOLVERS[solver]()


def gives_errors(solver: type[Solver] | Solver | None, free: bool = False) -> bool:
    """Whether a solver, or "auto" as None, gives leave-one-out errors.

    With ``free`` whether it does so at no cost beside the solution for one ridge.
    """
    if solver is None:
        return not free
    return solver.leave_one_out and not (free and (solver.one_ridge or solver.approximate))
