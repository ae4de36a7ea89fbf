"""Preconditioners of iterative solvers: settings with ``build``, which gives one to apply."""

from kernreg.linalg.preconditioners.rpcholesky import RPCholesky

__all__ = ["RPCholesky"]
