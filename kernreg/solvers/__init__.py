"""Solvers, preconditioners and what they return."""

from kernreg.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Banded": "banded.solver",
        "BandedState": "banded.solver",
        "Cholesky": "cholesky.in_memory",
        "CholeskyState": "cholesky.factored",
        "Eigh": "eigh",
        "EighState": "eigh",
        "LowPrecisionCholesky": "preconditioners",
        "Nystrom": "preconditioners",
        "OutOfCoreCholesky": "cholesky.out_of_core",
        "PCG": "pcg.solver",
        "PCGState": "pcg.shifted",
        "Preconditioner": "preconditioners.base",
        "Problem": "base",
        "Progress": "base",
        "RPCholesky": "preconditioners",
        "Restricted": "restricted.solver",
        "RestrictedPath": "restricted.path",
        "RestrictedState": "restricted.state",
        "RidgePath": "all_ridges",
        "SketchAndProject": "sketch.solver",
        "SketchState": "sketch.state",
        "Solution": "solution",
        "Solver": "base",
        "Stats": "solution",
        "Status": "solution",
        "register": "registry",
    },
)
