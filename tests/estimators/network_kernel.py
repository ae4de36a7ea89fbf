"""The kernel of a network as an object of scikit-learn's Gaussian processes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel

from kernreg import gram, nn

# Differences of order eight: over this step their error is (2 L step)^8 / 630 of a kernel of L
# layers, 1e-12 for three, and that of rounding 1e-14.
_STEP = 0.015
_WEIGHTS = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}


class NetworkKernel(Kernel):
    """Its theta are log W_std and log b_std, as in a model of kernreg without the noise."""

    def __init__(self, network: nn.Layer, W_std: float, b_std: float, kernel: str = "nngp") -> None:
        self.network = network
        self.W_std = W_std
        self.b_std = b_std
        self.kernel = kernel

    @property
    def hyperparameter_W_std(self) -> Hyperparameter:
        return Hyperparameter("W_std", "numeric", (1e-3, 1e3))

    @property
    def hyperparameter_b_std(self) -> Hyperparameter:
        return Hyperparameter("b_std", "numeric", (1e-3, 1e3))

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        found = self._gram(X, Y, np.zeros(2))
        if not eval_gradient:
            return found
        return found, np.stack([self._slope(X, axis) for axis in np.eye(2)], axis=-1)

    def diag(self, X: Any) -> np.ndarray:
        return self(X).diagonal().copy()

    def is_stationary(self) -> bool:
        return False

    def _gram(self, X: Any, Y: Any, moved: np.ndarray) -> np.ndarray:
        W_std, b_std = np.exp(moved) * (self.W_std, self.b_std)
        network = self.network.with_params(W_std=float(W_std), b_std=float(b_std))
        return gram(network, X, Y, kernel=self.kernel)

    def _slope(self, X: Any, axis: np.ndarray) -> np.ndarray:
        total = 0.0
        for count, weight in _WEIGHTS.items():
            for sign in (1, -1):
                total += sign * weight * self._gram(X, None, sign * count * _STEP * axis)
        return total / _STEP
