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

from typing import Any

from kernreg.lazy import attach

_attribute, _, _names = attach(
    __name__,
    {
        "ColumnScales": "estimators",
        "EnsembleRegressor": "estimators",
        "FeatureClassifier": "estimators",
        "FeatureRegressor": "estimators",
        "GaussianProcessClassifier": "estimators",
        "GaussianProcessRegressor": "estimators",
        "ImageScaler": "estimators",
        "KernelClassifier": "estimators",
        "KernelOperator": "operators",
        "KernelRegressor": "estimators",
        "ZCA": "estimators",
        "diag": "operators",
        "gram": "operators",
        "input_gradient": "estimators",
        "load": "estimators",
        "nn": "nn",
        "solve": "operators",
        "stax": "stax",
    },
)

__all__ = ["__version__", *_names]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name != "__version__":
        return _attribute(name)
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("kernreg")
    except PackageNotFoundError:
        return "0.1.0"
