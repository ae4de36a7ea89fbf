"""Kernels of torch modules at their parameters as they are."""

from __future__ import annotations

from kernreg.finite.empirical.operator import EmpiricalOperator

__all__ = ["EmpiricalOperator"]
