"""Whitening of whole images."""

from __future__ import annotations

import math
import warnings
from typing import Any, Self

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from kernreg.estimators.preparation import Numbers, Preparation, moments, parts
from kernreg.exceptions import InvalidInputError

__all__ = ["ZCA"]

_EPS = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)
# Below this, full whitening: the docstring of ZCA says why.
_FULL = 1e-3


class ZCA(Preparation):
    """Whitening of whole images that turns them no more than it must.

    Rows x become ``(x - mean_) W`` with ``W = (S + r I)^(-1/2)``, the symmetric root, where S is
    the covariance (divisor n) of the rows of ``fit`` and r is ``regularization`` times the mean of
    its diagonal. A direction of variance s then has variance ``s / (s + r)``.

    Parameters
    ----------
    regularization : float, default=0.1
        Ridge, relative to the mean variance of a pixel. 0 is full whitening, which needs more rows
        than pixels and a covariance of full rank.
    input_shape : tuple of int, optional
        Shape of one image, channels last; flat rows then are of such images, and both are taken.

    Attributes
    ----------
    mean_ : ndarray of shape (d,)
        Mean of each pixel, in the units of the data, float64.
    image_shape_ : tuple of int or None
        Shape of one image; None after rows without ``input_shape``.
    n_features_in_ : int
        Numbers in one image, d: every channel of every pixel.
    feature_names_in_ : ndarray of shape (d,)
        Names of columns, if X was a frame whose names are all strings.

    Warns
    -----
    UserWarning
        In ``fit``, if the n rows are at most d + 1 and ``regularization`` is below 1e-3. The n - 1
        directions of centred rows then have variances of at least one mean variance on average,
        which become 0.999 or more of 1: all training rows are equally far from each other up to
        0.1 %, and nothing is left to learn from (Wadia et al.).

    Notes
    -----
    Numbers are worked on in float64, whatever the type of the data: float32 results are rounded
    once. Their relative error is some eps times the largest eigenvalue of S over r (over the
    smallest one plus r, if n > d).

    Up to n = d nothing of size d x d is made: the eigenvectors U of the n x n matrix of inner
    products give ``W = I / sqrt(r) + X^T U diag(c) U^T X``, exactly, also for what is orthogonal
    to the training rows. Cost of ``fit``: 4 n^2 d + 9 n^3 operations, or n d^2 + 9 d^3 for n > d;
    of ``transform`` for m images 4 m d min(n, d). Memory: d min(n, d) numbers stay, ``fit`` needs
    up to four times that for a while.

    References
    ----------
    Bell, Sejnowski, "The 'independent components' of natural scenes are edge filters" (1997).
    Lee et al., "Finite versus infinite neural networks: an empirical study" (2020).
    Wadia, Duckworth, Schoenholz, Dyer, Sohl-Dickstein, "Whitening and second order optimization
    both make information about the dataset unusable during training, and can reduce or prevent
    generalization" (2021), arXiv 2008.07545.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> images = rng.standard_normal((200, 4, 4, 1)).cumsum(axis=1)
    >>> white = ZCA(regularization=0.1).fit_transform(images)
    >>> white.shape
    (200, 4, 4, 1)
    >>> for data in (images, white):
    ...     variances = np.linalg.eigvalsh(np.cov(data.reshape(200, -1), rowvar=False))
    ...     print(round(variances.max() / variances.min(), 1))
    56.0
    2.3
    """

    _unit: float
    _directions: Numbers
    _whitening: tuple[float, Numbers]
    _colouring: tuple[float, Numbers]

    def __init__(
        self, regularization: float = 0.1, input_shape: tuple[int, ...] | None = None
    ) -> None:
        self.regularization = regularization
        self.input_shape = input_shape

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the mean and the covariance of the pixels.

        Parameters
        ----------
        X : array-like of shape (n, ..., n_channels) or (n, n_features)
            At least two images, with any number of axes of positions, or rows.
        y : object
            Ignored.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidInputError
            If the data are empty, not finite, all equal, or of another shape than
            ``input_shape``; or if ``regularization`` is negative, or too small for the rank of the
            covariance.

        Warns
        -----
        UserWarning
            If whitening leaves nothing to learn from, see the class.
        """
        r = self._ridge()
        rows, _ = self._read(X, reset=True)
        n, d = rows.shape
        if n == 1:
            raise InvalidInputError("X has 1 sample, but a covariance needs at least 2: pass more.")
        mean, deviation = moments(rows, d)
        largest = float(deviation.max())
        # The variance of a channel may be beyond float64 where its root is not.
        unit = 0.0 if largest == 0 else largest * math.sqrt(np.mean((deviation / largest) ** 2))
        if unit < _TINY:
            raise InvalidInputError(
                f"the {n} rows of X are equal, so there is no covariance: pass images that differ."
            )
        if r == 0 and n <= d:
            # No eigenvalue is above d mean variances.
            raise self._singular(n, d, n - 1, n * d * _EPS)
        if n <= d + 1 and r < _FULL:
            warnings.warn(
                f"X has {n} rows of {d} pixels, so with regularization={r:g} whitening makes all "
                "rows equally far from each other, which leaves nothing to learn from (arXiv "
                f"2008.07545): raise regularization to {_FULL:g} or more, such as 0.1, or pass "
                "more rows than pixels.",
                UserWarning,
                stacklevel=2,
            )
        # From here on the mean variance is 1.
        centred = _centred(rows, mean, unit) if n <= d else None
        S = _covariance(rows, mean, unit) if centred is None else centred @ centred.T / n
        # The transpose of a symmetric C-ordered matrix is what Fortran expects: no copy.
        variances, vectors = scipy.linalg.eigh(
            S.T, driver="evr", overwrite_a=True, check_finite=False
        )
        del S
        floor = len(variances) * _EPS * float(variances[-1])
        if (r if n <= d else variances[0] + r) <= floor:
            raise self._singular(n, d, int(np.sum(variances > floor)), floor)
        roots = np.sqrt(np.maximum(variances, 0.0) + r)
        if centred is None:
            directions = np.ascontiguousarray(vectors.T)
            self._whitening, self._colouring = (0.0, 1.0 / roots), (0.0, roots)
        else:
            # Eigenvectors of S are rows of U^T X over sqrt(n s), and W has 1/root - 1/sqrt(r)
            # there, beside 1/sqrt(r) everywhere: both over n s, without a difference, or s that
            # may be 0.
            directions, rest = vectors.T @ centred, math.sqrt(r)
            gain = 1.0 / (n * (roots + rest))
            self._whitening, self._colouring = (1.0 / rest, -gain / (roots * rest)), (rest, gain)
        self._directions, self._unit, self.mean_ = directions, unit, mean
        return self

    def _forwards(self, rows: Numbers) -> Numbers:
        return self._times(_centred(rows, self.mean_, self._unit), *self._whitening)

    def _backwards(self, rows: Numbers) -> Numbers:
        return self._times(rows, *self._colouring) * self._unit + self.mean_

    def _times(self, rows: Numbers, everywhere: float, along: Numbers) -> Numbers:
        """Rows times ``everywhere * I + A^T diag(along) A`` for the directions A."""
        return everywhere * rows + ((rows @ self._directions.T) * along) @ self._directions

    def _ridge(self) -> float:
        given: Any = self.regularization
        number = int | float | np.integer | np.floating
        real = isinstance(given, number) and not isinstance(given, bool)
        if not real or not 0 <= given < math.inf:
            raise InvalidInputError(
                f"regularization must be a number of at least 0, such as 0.1; found {given!r}."
            )
        return float(given)

    def _singular(self, n: int, d: int, rank: int, floor: float) -> InvalidInputError:
        return InvalidInputError(
            f"regularization={self.regularization:g} cannot whiten {n} rows of {d} numbers, whose "
            f"covariance has rank {rank} in float64: pass regularization of more than {floor:.1g}, "
            f"such as 0.1{', or more rows than numbers in a row' if n <= d else ''}."
        )


def _centred(rows: NDArray[Any], mean: Numbers, unit: float) -> Numbers:
    result = np.subtract(rows, mean, dtype=np.float64)
    result /= unit
    return result


def _covariance(rows: NDArray[Any], mean: Numbers, unit: float) -> Numbers:
    """Of shape (d, d), in squares of the unit."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for _, part in parts(rows):
        centred = _centred(part, mean, unit)
        total += centred.T @ centred
    total /= len(rows)
    return total
