"""Which columns the predictions of a model depend on."""

from __future__ import annotations

import numpy as np

from kernreg.baseline.model import TableModel
from kernreg.estimators.input_gradients import input_gradient

__all__ = ["importances"]

_ROWS = 500


def importances(model: TableModel, X: np.ndarray) -> dict[str, float]:
    """Share of each column in the squared slopes of the predictions, largest first.

    The mean over rows of the squared derivative by a feature, times the variance of the feature,
    so that units do not matter; the features of one column are summed.

    Parameters
    ----------
    model : TableModel
        Fitted.
    X : ndarray of shape (n, d)
        Training rows; some of more than 500.

    Returns
    -------
    dict of str to float
        Summing to 1; empty for networks on images, and if predictions depend on nothing.

    Notes
    -----
    One pass over the kernel between those rows and the training rows, with derivatives.
    """
    program = model.estimator.network_.program()
    if program.axes != 0 or program.shape is not None:
        return {}
    variances = X.var(axis=0, dtype=np.float64)
    if len(X) > _ROWS:
        X = X[np.linspace(0, len(X) - 1, _ROWS).astype(int)]
    slopes = input_gradient(model.estimator, model.scaler.transform(X)) / model.scaler.scale
    squares = np.mean(slopes.reshape(-1, slopes.shape[-1]) ** 2, axis=0) * variances
    total = float(squares.sum())
    if not (np.isfinite(total) and total > 0):
        return {}
    shares: dict[str, float] = {}
    place = 0
    for column in model.encoder.columns:
        width = len(column.feature_names)
        shares[column.name] = float(squares[place : place + width].sum()) / total
        place += width
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
