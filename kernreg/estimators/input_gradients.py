"""Gradients of fitted models by their inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from kernreg.backends.differentiate import derivatives_of
from kernreg.estimators.planned import described
from kernreg.exceptions import InvalidInputError

__all__ = ["input_gradient"]

_TILE = 512


def input_gradient(model: Any, X: Any) -> NDArray[np.float64]:
    """Gradient of the predictions of a fitted model by each row.

    Parameters
    ----------
    model : KernelRegressor, KernelClassifier or GaussianProcessRegressor
        Fitted, its network one on vectors. Of a classifier the decision function is taken.
    X : array-like of shape (m, d)
        Rows.

    Returns
    -------
    ndarray of shape (m, d), or (m, t, d) of a model with several targets
        In units of the targets per unit of the columns.

    Raises
    ------
    InvalidInputError
        If the network is for images.

    Notes
    -----
    Time O(m n (d t + depth)), memory O(m d t): tiles of the kernel and its derivatives are used as
    they are made. At a training row the own part of a kink, which has no derivative, is left out.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelRegressor, input_gradient
    >>> X = np.random.default_rng(0).standard_normal((300, 2))
    >>> model = KernelRegressor("mlp(depth=2, activation=Erf())", alpha=1e-6).fit(X, X[:, 0] ** 2)
    >>> input_gradient(model, [[0.5, 0.0]]).round(1) + 0.0
    array([[1., 0.]])
    """
    check_is_fitted(model, "dual_coef_")
    program = described(model.network_, "input_gradient").program()
    if program.axes != 0 or program.shape is not None:
        raise InvalidInputError("Gradients by the inputs of networks on images are not available.")
    rows = validate_data(model, X, reset=False, dtype=np.float64)
    scales = getattr(model, "scales_", None)
    scales = np.ones(rows.shape[1]) if scales is None else scales
    rows, centres = rows * scales, np.asarray(model.X_fit_, dtype=np.float64) * scales
    coefficients = np.asarray(model.dual_coef_, dtype=np.float64)
    single = coefficients.ndim == 1
    c = torch.from_numpy(coefficients.reshape(len(centres), -1))
    A, B = torch.from_numpy(rows), torch.from_numpy(centres)
    bound = derivatives_of(program, A, B, model.kernel_)
    out = torch.zeros((len(A), c.shape[1], A.shape[1]), dtype=torch.float64)
    for i in range(0, len(A), _TILE):
        for j in range(0, len(B), _TILE):
            at, columns = slice(i, i + _TILE), slice(j, j + _TILE)
            tile = bound.tile(at, columns)
            own = tile.by_square[0] @ c[columns]
            for t in range(c.shape[1]):
                out[at, t] += (tile.by_product * c[columns, t]) @ B[columns]
                out[at, t] += 2.0 * own[:, t, None] * A[at]
    result = (out / A.shape[1]).numpy() * scales
    return np.asarray(result[:, 0] if single else result)
