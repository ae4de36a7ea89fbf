"""Scaling of features, chosen on the training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kernreg.exceptions import InvalidInputError

__all__ = ["IN_WORDS", "Kind", "Scaler", "scalings_for", "share_a_unit"]

Kind = Literal["standard", "common", "channel", "learned"]

IN_WORDS: dict[Kind, str] = {
    "standard": "each column is scaled to mean 0 and variance 1",
    "common": "one factor scales all columns, so that the mean square entry is 1",
    "channel": "each channel of the images is scaled to mean 0 and variance 1",
    "learned": "each column is scaled to mean 0 and has a scale that was learned from the targets",
}
"""What a scaling does."""


@dataclass(frozen=True, eq=False)
class Scaler:
    """``(X - mean) / scale``.

    Parameters
    ----------
    kind : {"standard", "common", "channel", "learned"}
        ``"standard"``: every column to mean 0 and variance 1; constant columns to 0.
        ``"common"``: one factor for all columns, so that the mean square entry is 1; right where
        all columns share a unit, as the pixels of an image do. ``"channel"``: each channel of
        images to mean 0 and variance 1. ``"learned"``: as another one, and a scale for each column
        that was learned, see :meth:`times`.
    mean, scale : ndarray of shape (d,)
        The numbers.

    Examples
    --------
    >>> import numpy as np
    >>> Scaler.fit(np.array([[0.0, 5.0], [2.0, 5.0]]), "standard").transform([[4.0, 5.0]])
    array([[3., 0.]])
    """

    kind: Kind
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, X: np.ndarray, kind: Kind, shape: tuple[int, ...] | None = None) -> Scaler:
        """Choose mean and scale from the rows of X, shape (n, d), or of images of a shape.

        Raises
        ------
        InvalidInputError
            If the squares of the values overflow.
        """
        d = X.shape[1]
        assert kind != "learned", "made by times() of another scaler"
        if kind == "channel":
            channels = shape[-1] if shape is not None and len(shape) > 2 else 1
            one = cls.fit(X.reshape(-1, channels), "standard")
            places = d // channels
            return cls(kind, np.tile(one.mean, places), np.tile(one.scale, places))
        with np.errstate(over="ignore", invalid="ignore"):
            if kind == "standard":
                mean = X.mean(axis=0, dtype=np.float64)
                scale = X.std(axis=0, dtype=np.float64)
                # The mean and deviation of a constant column may be off by a few roundings.
                size = np.abs(mean)
                scale = np.where(scale > 1e-13 * size, scale, np.maximum(size, 1.0))
            else:
                mean = np.zeros(d)
                square = float(np.mean(np.square(X, dtype=np.float64)))
                scale = np.full(d, square**0.5 if square > 0 else 1.0)
        if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
            raise InvalidInputError("Some features are so large that their squares overflow.")
        return cls(kind, mean, scale)

    def times(self, scales: np.ndarray) -> Scaler:
        """The scaler that multiplies columns by learned scales afterwards."""
        return Scaler("learned", self.mean, self.scale / scales)

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Scale rows, shape (n, d), to float64."""
        result = np.array(X, dtype=np.float64, order="C")
        result -= self.mean
        result /= self.scale
        return result


def share_a_unit(X: np.ndarray) -> bool:
    """Whether the columns look like measurements on one scale: then scaling each is optional.

    The rule: half of the columns reach a quarter of the largest absolute value.

    Examples
    --------
    >>> import numpy as np
    >>> share_a_unit(np.array([[1.0, 2.0, 0.5], [3.0, 0.0, 1.0]]))
    True
    >>> share_a_unit(np.array([[1.0, 2000.0, 0.5], [3.0, 0.0, 1.0]]))
    False
    """
    reach = np.abs(X).max(axis=0)
    return X.shape[1] > 1 and float(np.median(reach)) >= 0.25 * float(reach.max())


def scalings_for(choice: Literal["auto", "standard", "common"], X: np.ndarray) -> tuple[Kind, ...]:
    """The scalings that a search tries on some data."""
    if choice != "auto":
        return (choice,)
    return ("standard", "common") if share_a_unit(X) else ("standard",)
