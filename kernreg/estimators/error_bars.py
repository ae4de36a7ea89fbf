"""What the models with error bars share: float64, and targets that outlive the fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array, validate_data

from kernreg.distributed import processes
from kernreg.estimators.base import KernelModel
from kernreg.estimators.checks import check_numbers
from kernreg.estimators.inputs import check_data
from kernreg.estimators.text import naming_text
from kernreg.exceptions import InvalidInputError
from kernreg.operators.parts import Parts

__all__ = ["ErrorBars"]

Floats = NDArray[np.float64]


class ErrorBars(KernelModel):
    """Base of models that predict a distribution: all numbers are float64.

    A fit sets ``_targets`` (n, t), less their mean, and ``_weights`` (n,).
    """

    _targets: Floats
    _weights: Floats

    def _dtypes(self) -> Any:
        if self.dtype is not None and np.dtype(self.dtype) != np.float64:
            raise InvalidInputError(
                f"expected dtype float64 or None, found {np.dtype(self.dtype).name}: variances are "
                "small differences, of which float32 leaves no digit"
            )
        return np.float64

    def _merges(self, n: int) -> bool:
        return False

    def _inseparable(self, X: NDArray[Any], weights: Floats) -> bool:
        return False

    def _require_one_process(self) -> None:
        if processes() > 1:
            raise InvalidInputError(
                f"{type(self).__name__} fits in one process: start it without torchrun, or fit "
                "KernelRegressor or KernelClassifier, which predict without error bars"
            )

    def _rows(self, X: Any) -> Floats:
        """New rows, checked; before a fit, too."""
        check_data(X)
        X = self._as_fitted(X) if hasattr(self, "network_") else self._as_rows(X)
        with naming_text(X):
            if hasattr(self, "dual_coef_"):
                return validate_data(self, X, dtype=np.float64, order="C", reset=False)
            return check_array(X, dtype=np.float64, order="C", estimator=self, input_name="X")

    def _fitted(self, X: NDArray[Any], X2: NDArray[Any] | None = None) -> Parts:
        """The kernel that was fitted, between rows."""
        return self._operator(X, X2, self.network_, self.kernel_)

    def _for_targets(self, values: Floats) -> Floats:
        """The same values for every target, if there are several."""
        if np.ndim(self.y_mean_) == 0:
            return values
        return np.repeat(values[..., None], len(self.y_mean_), -1)

    def _own_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return {"targets": self._targets, "weights": self._weights}, {}

    def _restore(self, arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> None:
        self._targets, self._weights = arrays["targets"], arrays["weights"]
        n, outputs = len(self._weights), int(np.prod(self.dual_coef_.shape[1:], dtype=int))
        check_numbers(self._targets, (n, outputs))
        check_numbers(self._weights, (n,))
        if not (self._weights > 0).all():
            raise ValueError("expected positive weights")
