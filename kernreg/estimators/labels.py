"""Labels of classes as targets, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from kernreg.exceptions import InvalidInputError

__all__ = ["as_targets", "codes_of", "right_share"]

Floats = NDArray[np.float64]


def as_targets(y: NDArray[Any], name: str) -> tuple[NDArray[Any], Floats]:
    """Classes, and a target for each that is +1 for its rows and -1 for others; one for two.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Labels.
    name : str
        The estimator, for errors.

    Raises
    ------
    InvalidInputError
        If there is only one class.

    Examples
    --------
    >>> classes, targets = as_targets(np.array(["b", "a", "b"]), "A model")
    >>> classes.tolist(), targets.tolist()
    (['a', 'b'], [1.0, -1.0, 1.0])
    """
    check_classification_targets(y)
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise InvalidInputError(
            f"{name} needs rows of at least two classes, found one class: "
            f"{classes.tolist()[0]!r} (rows of weight 0 do not count)."
        )
    if len(classes) == 2:
        return classes, np.where(codes == 1, 1.0, -1.0)
    targets = np.full((len(codes), len(classes)), -1.0)
    targets[np.arange(len(codes)), codes] = 1.0
    return classes, targets


def codes_of(decision: NDArray[Any]) -> NDArray[np.intp]:
    """Index of the class that decision values speak for."""
    return np.asarray(decision > 0, np.intp) if decision.ndim == 1 else decision.argmax(axis=1)


def right_share(targets: Floats, predictions: Floats) -> Floats:
    """Share of each row that gets the right label, for predictions of shape (n, t).

    Targets of equal rows that became one are the mean of codes +1 and -1.
    """
    if targets.shape[1] == 1:
        signs = np.where(codes_of(predictions[:, 0]) == 1, 1.0, -1.0)
        return np.asarray((1.0 + signs * targets[:, 0]) / 2.0)
    said = codes_of(predictions)[:, None]
    return np.asarray((1.0 + np.take_along_axis(targets, said, axis=1)[:, 0]) / 2.0)
