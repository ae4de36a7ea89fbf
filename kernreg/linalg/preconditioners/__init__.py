"""Preconditioners of iterative solvers: settings with ``build``, which gives one to apply."""

from kernreg.linalg.preconditioners.low_precision import LowPrecisionCholesky
from kernreg.linalg.preconditioners.nystrom import Nystrom
from kernreg.linalg.preconditioners.rpcholesky import RPCholesky

__all__ = ["LowPrecisionCholesky", "Nystrom", "RPCholesky"]
