"""Preconditioners of iterative solvers: settings with ``build``, which gives one to apply."""

from kernreg.solvers.preconditioners.low_precision import LowPrecisionCholesky
from kernreg.solvers.preconditioners.nystrom import Nystrom
from kernreg.solvers.preconditioners.rpcholesky import RPCholesky

__all__ = ["LowPrecisionCholesky", "Nystrom", "RPCholesky"]
