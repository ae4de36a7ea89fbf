"""The names of the solvers, for whoever checks one before torch is imported."""

__all__ = ["NAMES"]

NAMES = ("cholesky", "banded", "eigh", "pcg", "restricted", "sketch", "out_of_core")
"""In the order in which plans list them."""
