"""What classifiers share: labels and logarithms of probabilities from decision values."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin

from kernreg.estimators.calibration import Calibration, calibration_from
from kernreg.estimators.labels import codes_of, right_share

if TYPE_CHECKING:
    from kernreg.estimators.base import KernelModel as _Model
else:
    _Model = object

__all__ = ["Decisions"]

Floats = NDArray[np.float64]


class Decisions(ClassifierMixin, _Model):
    """Base of classifiers that regress on codes of +1 and -1; stands before a kernel model."""

    classes_: NDArray[Any]
    calibration_: Calibration | None

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Predictions of the coded targets.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_classes)
            With two classes, positive for ``classes_[1]``; otherwise one column for each class.
        """
        return self._predict_targets(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_rows,)
            Labels.
        """
        codes = codes_of(self.decision_function(X))
        return np.asarray(self.classes_[codes])

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities of the classes, in the order of ``classes_``."""
        raise NotImplementedError

    def predict_log_proba(self, X: Any) -> Floats:
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
        """
        return np.log(self.predict_proba(X))

    def _own_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays, header = super()._own_state()
        return arrays, header | {"calibration": self.calibration_ and asdict(self.calibration_)}

    def _restore(self, arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> None:
        super()._restore(arrays, header)
        self.calibration_ = calibration_from(header.get("calibration"))

    def _correct(self, targets: Floats, predictions: Floats) -> Floats:
        return right_share(targets, predictions)

    def _count_targets(self, y: Any) -> int:
        n_classes = len(np.unique(np.asarray(y)))
        return n_classes if n_classes > 2 else 1
