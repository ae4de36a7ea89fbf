"""Backends: ways to compute kernel matrices from a program."""

from kernreg.backends import ops  # noqa: F401  (fills the tables of rules)
from kernreg.backends.registry import BACKENDS, bind, explain

__all__ = ["BACKENDS", "bind", "explain"]
