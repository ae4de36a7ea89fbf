"""Images made ready for a kernel: channels scaled, pixels whitened."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from kernreg.estimators.text import naming_text
from kernreg.exceptions import InvalidInputError
from kernreg.operators.frames import as_numbers, check_values
from kernreg.operators.images import Shape, flat_rows, shape_of

__all__ = ["ZCA", "ImageScaler"]

_EPS = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)
# Numbers that are worked on at once, in float64.
_BLOCK = 2**22
# Below this, full whitening: the docstring of ZCA says why.
_FULL = 1e-3

Numbers = NDArray[np.float64]


class _Preparation(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """What both have: images or their rows are read, mapped in float64, and get their shape back.

    Subclasses set ``mean_`` in ``fit``, which begins with ``_read(X, reset=True)``.
    """

    input_shape: tuple[int, ...] | None
    mean_: Numbers
    image_shape_: Shape | None
    n_features_in_: int

    _needs_shape: ClassVar[bool] = False

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _given_shape(self, X: Any) -> Shape | None:
        """The shape that a caller of ``fit`` gave images; they may be rows of X."""
        shape: Any = self.input_shape
        if shape is None:
            return None
        sizes = list(shape) if isinstance(shape, tuple | list) else []
        whole = all(
            isinstance(n, int | np.integer) and not isinstance(n, bool) and n > 0 for n in sizes
        )
        if len(sizes) < 2 or not whole:
            raise InvalidInputError(
                "input_shape must be the shape of one image, channels last, such as "
                f"(height, width, channels), all at least 1; found {shape!r}."
            )
        return tuple(int(n) for n in sizes)

    def _read(self, X: Any, *, reset: bool) -> tuple[NDArray[Any], Shape]:
        """Rows of finite numbers of any real type, and the shape that X has."""
        if reset and hasattr(self, "mean_"):
            del self.mean_  # after an error nothing is fitted
        check_values(X, "X")
        text = getattr(getattr(X, "dtype", None), "kind", "") in ("U", "S")
        if text or not hasattr(X, "shape") or len(X.shape) > 2:
            X = as_numbers(X, "X")
        found = shape_of(X)
        known = self._known_shape(X, found, reset)
        X = flat_rows(X)
        try:
            with naming_text(X):
                rows = validate_data(self, X, reset=reset, dtype="numeric", ensure_all_finite=False)
        except InvalidInputError:
            raise
        except ValueError as error:
            raise InvalidInputError(str(error)) from error
        for at, part in _parts(rows):
            wrong = np.flatnonzero(~np.isfinite(part).all(axis=1))
            if len(wrong):
                raise InvalidInputError(
                    f"X contains NaN or infinity (first in {'image' if found else 'row'} "
                    f"{at.start + wrong[0]}); drop or impute these."
                )
        if reset:
            self.image_shape_ = known
        return rows, rows.shape if found is None else (len(rows), *found)

    def _known_shape(self, X: Any, found: Shape | None, reset: bool) -> Shape | None:
        """The shape of one image, None if nobody gave it; an error if two do not agree."""
        known = self._given_shape(X) if reset else self.image_shape_
        name = type(self).__name__
        source = "input_shape is" if reset else f"{name} was fitted on images of shape"
        if found is not None:
            if known is None and not reset:
                raise InvalidInputError(
                    f"X holds images of shape {found}, but {name} was fitted on rows of "
                    f"{self.n_features_in_} numbers: pass rows, or fit with input_shape={found}."
                )
            if known not in (None, found):
                raise InvalidInputError(
                    f"X holds images of shape {found}, but {source} {known}: reshape the images, "
                    "or fit on such ones."
                )
            return found
        shape: Any = getattr(X, "shape", ())
        if len(shape) != 2 or not reset:
            return known  # validate_data compares widths
        if known is None and self._needs_shape:
            raise InvalidInputError(
                f"X holds rows of {shape[1]} numbers, and nothing says what their channels are: "
                "pass arrays of shape (n, height, width, channels), or "
                "input_shape=(height, width, channels)."
            )
        if known is not None and math.prod(known) != shape[1]:
            raise InvalidInputError(
                f"X has {shape[1]} numbers in a row, but images of input_shape {known} have "
                f"{math.prod(known)}: give the shape that the rows have."
            )
        return known

    def _mapped(self, X: Any, of_rows: Callable[[Numbers], Numbers]) -> NDArray[Any]:
        """A map of float64 rows, applied to X; float32 stays float32."""
        check_is_fitted(self, "mean_")
        rows, shape = self._read(X, reset=False)
        single = rows.dtype.kind == "f" and rows.dtype.itemsize == 4
        result = np.empty(rows.shape, dtype=np.float32 if single else np.float64)
        for at, part in _parts(rows):
            with np.errstate(over="ignore", invalid="ignore"):
                result[at] = of_rows(part)
            if not np.isfinite(result[at]).all():
                raise InvalidInputError(
                    f"X reaches {np.abs(part).max():.3g}, so far from the rows of fit that the "
                    f"result is beyond {result.dtype}: are the units those of fit?"
                )
        return result.reshape(shape)


class ImageScaler(_Preparation):
    """Channels of mean 0 and standard deviation 1, over all positions and images.

    Each channel is shifted and scaled as a whole, so what a convolution sees is the same at every
    position; :class:`sklearn.preprocessing.StandardScaler` does so to each pixel.

    Parameters
    ----------
    input_shape : tuple of int, optional
        Shape of one image, channels last, such as ``(height, width, channels)``; for flat rows.

    Attributes
    ----------
    mean_ : ndarray of shape (n_channels,)
        Mean of each channel, in the units of the data, float64.
    scale_ : ndarray of shape (n_channels,)
        Standard deviation of each channel (divisor n), in the units of the data; 1 for a channel
        that is constant up to four roundings of its values, which is only centred.
    image_shape_ : tuple of int
        Shape of one image.
    n_features_in_ : int
        Numbers in one image.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of columns, if X was a frame whose names are all strings.

    Notes
    -----
    Numbers are worked on in float64, whatever the type of the data: float32 results are rounded
    once. Cost: three readings of the data in ``fit``, two in ``transform``; beside the result at
    most some 100 MB are allocated, or three images.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    >>> scaler = ImageScaler().fit(images)
    >>> scaled = scaler.transform(images)
    >>> scaled.shape, scaled.dtype, scaler.scale_.round().tolist()
    ((50, 8, 8, 3), dtype('float64'), [74.0, 74.0, 76.0])
    >>> flat = ImageScaler(input_shape=(8, 8, 3)).fit_transform(images.reshape(50, -1))
    >>> bool((flat == scaled.reshape(50, -1)).all())
    True
    """

    scale_: Numbers

    _needs_shape = True

    def __init__(self, input_shape: tuple[int, ...] | None = None) -> None:
        self.input_shape = input_shape

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.input_shape is not None
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn mean and standard deviation of each channel.

        Parameters
        ----------
        X : array-like of shape (n, ..., n_channels) or (n, n_features)
            Images with any number of axes of positions, or their rows if ``input_shape`` is given.
        y : object
            Ignored.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidInputError
            If the data are empty, not finite, of another shape than ``input_shape``, too large to
            add up, or rows whose shape nobody gave.
        """
        rows, _ = self._read(X, reset=True)
        assert self.image_shape_ is not None
        mean, deviation = _moments(rows, self.image_shape_[-1])
        # A subnormal number has lost its digits.
        self.mean_, self.scale_ = mean, np.where(deviation < _TINY, 1.0, deviation)
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Scale images.

        Parameters
        ----------
        X : array-like of shape (n, ..., n_channels) or (n, n_features)
            Images of the shape of those of ``fit``, or their rows.

        Returns
        -------
        ndarray of the shape of X
            float32 if X is, else float64.

        Raises
        ------
        InvalidInputError
            If X is empty, not finite, of another shape, or a result overflows.
        """
        return self._mapped(
            X, lambda rows: self._of_channels(rows, lambda v: (v - self.mean_) / self.scale_)
        )

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Undo :meth:`transform`; shapes, types and errors are the same."""
        return self._mapped(
            X, lambda rows: self._of_channels(rows, lambda v: v * self.scale_ + self.mean_)
        )

    def _of_channels(self, rows: Numbers, change: Callable[[Numbers], Numbers]) -> Numbers:
        return change(rows.reshape(-1, len(self.mean_))).reshape(rows.shape)


class ZCA(_Preparation):
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
    mean_ : ndarray of shape (n_features_in_,)
        Mean of each pixel, in the units of the data, float64.
    image_shape_ : tuple of int or None
        Shape of one image; None after rows without ``input_shape``.
    n_features_in_ : int
        Numbers in one image, d below: every channel of every pixel.
    feature_names_in_ : ndarray of shape (n_features_in_,)
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
        mean, deviation = _moments(rows, d)
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

    def transform(self, X: Any) -> NDArray[Any]:
        """Whiten images.

        Parameters
        ----------
        X : array-like of shape (n, ..., n_channels) or (n, n_features)
            Images of the shape of those of ``fit``, or their rows.

        Returns
        -------
        ndarray of the shape of X
            float32 if X is, else float64.

        Raises
        ------
        InvalidInputError
            If X is empty, not finite, of another shape, or a result overflows.
        """
        return self._mapped(
            X, lambda rows: self._times(_centred(rows, self.mean_, self._unit), *self._whitening)
        )

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Undo :meth:`transform`; shapes, types and errors are the same."""
        return self._mapped(
            X, lambda rows: self._times(rows, *self._colouring) * self._unit + self.mean_
        )

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


def _parts(rows: NDArray[Any]) -> Iterator[tuple[slice, Numbers]]:
    """Blocks of rows in float64, and where they stand."""
    step = max(1, _BLOCK // rows.shape[1])
    for start in range(0, len(rows), step):
        at = slice(start, start + step)
        with np.errstate(over="ignore"):  # of wider numbers, which _read finds
            part = np.asarray(rows[at], dtype=np.float64)
        yield at, part


def _moments(rows: NDArray[Any], channels: int) -> tuple[Numbers, Numbers]:
    """Mean and standard deviation of each channel; 0 for one that varies by rounding only.

    Deviations are taken from a first mean, which their mean then corrects, in units of the range,
    so that no square overflows. Means are then right to a rounding, also of constant channels.
    """
    count = rows.size // channels
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    first, second = np.zeros(channels), np.zeros(channels)
    with np.errstate(over="ignore", invalid="ignore"):
        for values in _by_channel(rows, channels):
            np.minimum(low, values.min(axis=1), out=low)
            np.maximum(high, values.max(axis=1), out=high)
            first += values.sum(axis=1)
        spread = high - low
    reach = np.maximum(np.abs(low), np.abs(high))
    if not (np.isfinite(first).all() and np.isfinite(spread).all()):
        raise InvalidInputError(
            f"X reaches {reach.max():.3g}, too large to add up in float64: divide it by a constant."
        )
    mean = first / count
    eps = max(_EPS, float(np.finfo(rows.dtype).eps)) if rows.dtype.kind == "f" else _EPS
    constant = spread <= 4 * eps * reach
    unit = np.where(spread > 0, spread, 1.0)
    first[:] = 0
    for values in _by_channel(rows, channels):
        values -= mean[:, None]
        values /= unit[:, None]
        first += values.sum(axis=1)
        second += np.einsum("ij,ij->i", values, values)
    shift = first / count
    deviation = unit * np.sqrt(np.maximum(second / count - shift**2, 0.0))
    return mean + unit * shift, np.where(constant, 0.0, deviation)


def _by_channel(rows: NDArray[Any], channels: int) -> Iterator[Numbers]:
    """Blocks of shape (channels, positions), which sums along a row add up in pairs."""
    for _, part in _parts(rows):
        yield np.array(part.reshape(-1, channels).T, order="C")


def _centred(rows: NDArray[Any], mean: Numbers, unit: float) -> Numbers:
    result = np.subtract(rows, mean, dtype=np.float64)
    result /= unit
    return result


def _covariance(rows: NDArray[Any], mean: Numbers, unit: float) -> Numbers:
    """Of shape (d, d), in squares of the unit."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for _, part in _parts(rows):
        centred = _centred(part, mean, unit)
        total += centred.T @ centred
    total /= len(rows)
    return total
