"""Kernel matrices, solvers and what they return; names load on first use."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Cholesky": "cholesky",
    "CholeskyState": "cholesky",
    "DistributedOperator": "distributed",
    "Eigh": "eigh",
    "EighState": "eigh",
    "Estimate": "spectrum",
    "KernelOperator": "operator",
    "Kernels": "dense",
    "LowPrecisionCholesky": "preconditioners",
    "Nystrom": "preconditioners",
    "PCG": "pcg",
    "PCGState": "shifted",
    "OutOfCoreCholesky": "out_of_core",
    "PackedOperator": "packed",
    "Plan": "plan",
    "Progress": "pcg",
    "RPCholesky": "preconditioners",
    "ParquetRows": "sources",
    "Restricted": "restricted",
    "RestrictedPath": "restricted_path",
    "RestrictedState": "restricted",
    "RidgePath": "eigh",
    "RowSource": "sources",
    "SketchAndProject": "sketch",
    "SketchState": "sketch",
    "Solution": "solution",
    "Stats": "solution",
    "Status": "solution",
    "StoredOperator": "store_operator",
    "StreamedOperator": "streamed",
    "TileStore": "store",
    "diag": "dense",
    "gram": "dense",
    "inverse_diagonal": "spectrum",
    "led": "distributed",
    "log_determinant": "spectrum",
    "memory_budget": "budget",
    "top_eigenvalues": "spectrum",
    "write_store": "distributed",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
