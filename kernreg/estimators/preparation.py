"""Images made ready for a kernel: how they are read, and channels scaled."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from kernreg.estimators.text import naming_text
from kernreg.exceptions import InvalidInputError
from kernreg.operators.frames import as_numbers, check_values
from kernreg.operators.images import Shape, flat_rows, shape_of

__all__ = ["ImageScaler", "Numbers", "Preparation", "moments", "parts"]

_EPS = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)
# Numbers that are worked on at once, in float64.
_BLOCK = 2**22
# Below this, full whitening: the docstring of ZCA says why.
_FULL = 1e-3

Numbers = NDArray[np.float64]


class Preparation(OneToOneFeatureMixin, TransformerMixin, BaseEstimator, ABC):
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
        for at, part in parts(rows):
            wrong = np.flatnonzero(~np.isfinite(part).all(axis=1))
            if len(wrong):
                raise InvalidInputError(
                    f"X contains NaN or infinity (first in {'image' if found else 'row'} "
                    f"{at.start + wrong[0]}); drop or impute these."
                )
        if reset:
            self.image_shape_ = known
        return rows, rows.shape if found is None else (len(rows), *found)

    def transform(self, X: Any) -> NDArray[Any]:
        """Prepare images.

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
        return self._mapped(X, self._forwards)

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Undo :meth:`transform`; shapes, types and errors are the same."""
        return self._mapped(X, self._backwards)

    @abstractmethod
    def _forwards(self, rows: Numbers) -> Numbers:
        """Prepared rows of float64 rows."""

    @abstractmethod
    def _backwards(self, rows: Numbers) -> Numbers:
        """Rows of float64 prepared ones."""

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
        for at, part in parts(rows):
            with np.errstate(over="ignore", invalid="ignore"):
                result[at] = of_rows(part)
            if not np.isfinite(result[at]).all():
                raise InvalidInputError(
                    f"X reaches {np.abs(part).max():.3g}, so far from the rows of fit that the "
                    f"result is beyond {result.dtype}: are the units those of fit?"
                )
        return result.reshape(shape)


class ImageScaler(Preparation):
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
        Numbers in one image, d.
    feature_names_in_ : ndarray of shape (d,)
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
        mean, deviation = moments(rows, self.image_shape_[-1])
        # A subnormal number has lost its digits.
        self.mean_, self.scale_ = mean, np.where(deviation < _TINY, 1.0, deviation)
        return self

    def _forwards(self, rows: Numbers) -> Numbers:
        return self._of_channels(rows, lambda v: (v - self.mean_) / self.scale_)

    def _backwards(self, rows: Numbers) -> Numbers:
        return self._of_channels(rows, lambda v: v * self.scale_ + self.mean_)

    def _of_channels(self, rows: Numbers, change: Callable[[Numbers], Numbers]) -> Numbers:
        return change(rows.reshape(-1, len(self.mean_))).reshape(rows.shape)


def parts(rows: NDArray[Any]) -> Iterator[tuple[slice, Numbers]]:
    """Blocks of rows in float64, and where they stand."""
    step = max(1, _BLOCK // rows.shape[1])
    for start in range(0, len(rows), step):
        at = slice(start, start + step)
        with np.errstate(over="ignore"):  # of wider numbers, which _read finds
            part = np.asarray(rows[at], dtype=np.float64)
        yield at, part


def moments(rows: NDArray[Any], channels: int) -> tuple[Numbers, Numbers]:
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
    for _, part in parts(rows):
        yield np.array(part.reshape(-1, channels).T, order="C")
