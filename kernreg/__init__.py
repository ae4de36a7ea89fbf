"""kernreg: the kernel regression engine for infinitely wide neural networks.

Examples
--------
>>> import numpy as np
>>> from kernreg import KernelRegressor, nn
>>> X = np.linspace(-1, 1, 20)[:, None]
>>> model = KernelRegressor(nn.mlp(depth=2), alpha=1e-6).fit(X, np.sin(3 * X[:, 0]))
>>> bool(abs(model.predict([[0.5]]) - np.sin(1.5))[0] < 0.01)
True
"""

from __future__ import annotations

import importlib
from typing import Any

# Loaded on first use: the C++ build imports kernreg.nn and kernreg.ir before NumPy and torch are
# installed, and `kernreg --help` stays quick.
_HOMES = {
    "KernelClassifier": "kernreg.estimators",
    "KernelOperator": "kernreg.linalg",
    "KernelRegressor": "kernreg.estimators",
    "diag": "kernreg.linalg",
    "gram": "kernreg.linalg",
    "load": "kernreg.estimators",
    "nn": "kernreg.nn",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("kernreg")
        except PackageNotFoundError:
            return "0.1.0"
    if name not in _HOMES:
        raise AttributeError(f"module 'kernreg' has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    return home if name == "nn" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
