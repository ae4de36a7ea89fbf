"""Networks of finite width as torch modules, and the kernels of any torch module."""

from __future__ import annotations

from typing import Any

from kernreg.lazy import attach

_attribute, _, _names = attach(
    __name__,
    {
        "EmpiricalOperator": "empirical",
        "Evolved": "run",
        "FiniteNetwork": "network",
        "KernelEvolution": "evolution",
        "TaylorModule": "linear",
        "evolve": "run",
        "linearized": "linear",
        "module": "network",
        "predict_training": "training",
        "read": "reading",
        "stable_learning_rate": "training",
        "taylor": "linear",
    },
)

__all__ = list(_names)


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    return _attribute(name)
