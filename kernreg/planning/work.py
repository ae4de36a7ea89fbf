"""Operations of a fit, counted, and the seconds that they take at measured rates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernreg.solvers.cholesky.in_memory import Cholesky
from kernreg.solvers.cholesky.out_of_core import OutOfCoreCholesky
from kernreg.solvers.eigh import Eigh
from kernreg.solvers.pcg.solver import PCG
from kernreg.solvers.preconditioners import LowPrecisionCholesky
from kernreg.solvers.preconditioners.rank import Ranked, rank_limit
from kernreg.solvers.restricted.solver import Restricted
from kernreg.solvers.sketch.solver import SketchAndProject

__all__ = ["DISK", "EIGH", "READ", "entry", "flop", "part", "product", "seconds", "square", "work"]

EIGH = "n^3 of an eigendecomposition"
READ = "byte of kept tiles"
DISK = "byte of disk"

# Products with float64 tiles that refine a float32 solution: see refine.
_REFINING = 3
# Residuals in float64 on the way to 1e-8, one whenever the residual fell by 1000, and the last.
_RESIDUALS = 4


def entry(dtype: Any) -> str:
    """Name of the unit: one entry of the kernel matrix."""
    return f"entry in {np.dtype(dtype).name}"


def product(dtype: Any) -> str:
    """Name of the unit: one entry of the kernel matrix that is evaluated for a product."""
    return f"entry of a product in {np.dtype(dtype).name}"


def part(dtype: Any) -> str:
    """Name of the unit: one entry between few rows and many, which are prepared for it."""
    return f"entry of a part in {np.dtype(dtype).name}"


def flop(dtype: Any) -> str:
    """Name of the unit: one operation of a large matrix product."""
    return f"operation in {np.dtype(dtype).name}"


def square(dtype: Any) -> str:
    """Name of the unit: n^2 of a factorisation, what its narrow parts cost beside the products."""
    return f"n^2 of a factorisation in {np.dtype(dtype).name}"


def seconds(counted: Mapping[str, float], rates: Mapping[str, float]) -> float:
    """Time of some work; the disk is read and written meanwhile.

    Examples
    --------
    >>> seconds({READ: 100, DISK: 10}, {READ: 0.1, DISK: 0.2})
    10.0
    """
    computing = sum(count * rates[unit] for unit, count in counted.items() if unit != DISK)
    return max(computing, counted[DISK] * rates[DISK]) if DISK in counted else computing


def work(
    solver: Any,
    n: int,
    n_outputs: int,
    dtype: Any,
    *,
    n_alphas: int = 1,
    leave_one_out: bool = False,
    iterations: int = 0,
) -> dict[str, float]:
    """What a fit computes, reads and writes.

    Parameters
    ----------
    solver : object
        Of :mod:`kernreg.solvers`.
    n, n_outputs : int
        Rows and right-hand sides.
    dtype : float32 or float64
        Precision of the kernel matrix.
    n_alphas : int, default=1
        Ridges that are tried.
    leave_one_out : bool, default=False
        Whether errors of it are wanted: the diagonal of the inverse, or those of all rows for
        the centres of Restricted.
    iterations : int, default=0
        Of conjugate gradients. Projections are counted as if they took ``max_passes``.

    Returns
    -------
    dict of str to float
        Amounts by unit; leading orders only.

    Examples
    --------
    >>> work(Cholesky(), 1000, 1, "float64")[entry("float64")]
    500000.0
    """
    match solver:
        case Eigh():
            total = _counts({entry("float64"): n * n / 2, EIGH: float(n) ** 3})
            total[flop("float64")] += 2 * n_alphas * n * n * (n_outputs + 1)
            return total
        case PCG():
            return _iterated(solver, n, n_outputs, dtype, iterations)
        case Restricted():
            return _restricted(solver, n, n_outputs, n_alphas, leave_one_out)
        case SketchAndProject():
            return _projected(solver, n, n_outputs, dtype)
    once = _factored(solver, n, n_outputs, dtype, leave_one_out)
    return {unit: n_alphas * count for unit, count in once.items()}


def _counts(known: dict[str, float]) -> defaultdict[str, float]:
    return defaultdict(float, known)


def _factored(
    solver: Cholesky | OutOfCoreCholesky, n: int, t: int, dtype: Any, leave_one_out: bool
) -> dict[str, float]:
    half, size = n * n / 2, np.dtype(dtype).itemsize
    products = _REFINING * bool(solver.products(np.dtype(dtype)))
    total = _counts(
        {
            entry(dtype): half,
            flop(dtype): (1 + leave_one_out) * n**3 / 3 + 4 * half * t * (products + 1),
            square(dtype): (1.0 + leave_one_out) * n * n,
            product("float64"): products * half,
        }
    )
    total[flop("float64")] += products * 4 * half * t
    # A solve reads the factor twice.
    solves = 2 * (products + 1) * size * half
    total[READ] += solves
    if isinstance(solver, OutOfCoreCholesky):
        groups = -(-n // solver.group(n, dtype))
        reads = (1 + leave_one_out) * groups * n * n / 6 * size
        total[DISK] += half * size + reads + solves
    return total


def _iterated(solver: PCG, n: int, t: int, dtype: Any, iterations: int) -> dict[str, float]:
    half, size = n * n / 2, np.dtype(dtype).itemsize
    total = _counts({})
    built = solver.built
    if isinstance(built, LowPrecisionCholesky):
        total.update(_factored(Cholesky(refine=False), n, 1, "float32", False))
        total[READ] += iterations * 2 * 4 * half
    elif isinstance(built, Ranked):
        rank = rank_limit(n, built.rank, built.max_bytes)
        total[entry("float64")] += n * rank
        total[flop("float64")] += 6 * n * rank**2 + iterations * 4 * n * rank * t
    if solver.keeps(n, dtype):
        total[READ] += iterations * size * half
        total[entry(dtype)] += half
    else:
        total[product(dtype)] += iterations * half
    total[flop(dtype)] += iterations * 4 * half * t
    if np.dtype(dtype) == np.float32:
        total[product("float64")] += _RESIDUALS * half
        total[flop("float64")] += _RESIDUALS * 4 * half * t
    return total


def _restricted(
    solver: Restricted, n: int, t: int, n_alphas: int, leave_one_out: bool
) -> dict[str, float]:
    m, pool = solver.sizes(n)
    # Passes over the entries: one for the normal equations, one for the targets. Leave-one-out
    # takes one for all ridges, and one for the best, each with the features of all rows.
    scored = 2 * leave_one_out
    total = _counts({part("float64"): (2.0 + scored) * n * m, EIGH: float(m) ** 3})
    total[flop("float64")] += 2 * (1 + scored) * n * m * m + 2 * n * m * t + 2 * pool * m * m
    if leave_one_out:
        total[flop("float64")] += (n_alphas + 1) * 2 * n * m * (t + 1)
    total[entry("float64")] += pool * m
    return total


def _projected(solver: SketchAndProject, n: int, t: int, dtype: Any) -> dict[str, float]:
    block, passes = solver.size(n), solver.max_passes
    total = _counts({part(dtype): passes * float(n) * n, entry("float64"): passes * n * block})
    total[flop(dtype)] += passes * 2 * n * n * t
    total[flop("float64")] += passes * n * block**2 / 3
    # The true residual of the last iterate.
    total[product("float64")] += n * n / 2
    total[flop("float64")] += 2 * n * n * t
    return total
