"""Layers on positions: convolutions, pooling, and the readouts that leave a vector."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

from kernreg.exceptions import NetworkError
from kernreg.ir.builder import Builder, Kind, Ref
from kernreg.ir.taps import PADDINGS, WHOLE, Taps
from kernreg.nn.base import Layer, check_number
from kernreg.nn.layers import check_weights

__all__ = [
    "AvgPool",
    "Conv",
    "ConvLocal",
    "ConvTranspose",
    "Flatten",
    "GlobalAvgPool",
    "GlobalSumPool",
    "LocalAvgPool",
    "SumPool",
    "Unflatten",
]

_MOST_NUMBERS = 2**31
"""Of an image."""

_MOST = 2**20
"""Positions of a window along an axis, or steps between them."""


def _whole_numbers(layer: str, name: str, value: Any, axes: int | None = None) -> tuple[int, ...]:
    """One whole number for each axis."""
    given = tuple(value) if isinstance(value, tuple | list) else (value,) * (axes or 1)
    for v in given:
        whole = isinstance(v, numbers.Integral) and type(v) is not bool
        if not whole or not 1 <= int(v) <= _MOST:
            raise NetworkError(
                f"{layer}: {name} must be whole numbers from 1 to {_MOST}, one for each axis, "
                f"found {value!r}."
            )
    if not given or (axes is not None and len(given) != axes):
        each = "axis of positions" if axes is None else f"of the {axes} axes"
        raise NetworkError(
            f"{layer}: {name} must have one number for each {each}, found {value!r}."
        )
    return tuple(int(v) for v in given)


def _taps(
    layer: str, shape: Any, strides: Any, dilation: Any, padding: Any, transposed: bool = False
) -> Taps:
    """The window of a layer, checked."""
    name = "window_shape" if "Pool" in layer else "filter_shape"
    size = _whole_numbers(layer, name, shape)
    if padding not in PADDINGS:
        raise NetworkError(
            f"{layer}: padding must be one of {', '.join(PADDINGS)}, found {padding!r}."
        )
    steps = _whole_numbers(layer, "strides", 1 if strides is None else strides, len(size))
    apart = _whole_numbers(layer, "dilation", 1 if dilation is None else dilation, len(size))
    return Taps(size, steps, apart, padding, transposed)


def _as_tuples(layer: Any, *names: str) -> None:
    """Lists, which are not hashable, as tuples."""
    for name in names:
        value = getattr(layer, name)
        if isinstance(value, list):
            object.__setattr__(layer, name, tuple(value))


@dataclass(frozen=True, repr=False)
class Conv(Layer):
    r"""Convolution with infinitely many channels.

    ``W ~ N(0, W_std^2 / (positions * channels))`` for a filter of so many positions, ``b ~ N(0,
    b_std^2)``. The covariance between position ``p`` of one image and ``p'`` of the other becomes
    ``K'[p, p'] = b_std^2 + W_std^2 mean_a K[p + a, p' + a]``, and the tangent kernel ``K'`` plus
    the same sum of what it was.

    Parameters
    ----------
    filter_shape : int or tuple of int
        Positions along each axis; their number says how many axes the images have.
    strides : int or tuple of int
        Steps between the positions that are worked out.
    padding : {"SAME", "VALID", "CIRCULAR"}
        Zeros around the image so that it keeps its size (over the stride), none, or what is at the
        other end.
    W_std, b_std : float
        As in :class:`Dense`.
    dilation : int or tuple of int
        Steps between the positions of the filter.
    parameterization, fan_in, trainable
        As in :class:`Dense`; ``fan_in`` is the number of channels before the layer.

    Raises
    ------
    NetworkError
        If an argument is not usable.

    References
    ----------
    Novak et al., "Bayesian deep convolutional networks with many channels are Gaussian processes"
    (2019); Arora et al., "On exact computation with an infinitely wide neural net" (2019),
    section 4.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Conv((3, 3), W_std=2**0.5)
    Conv(filter_shape=(3, 3), W_std=1.4142135623730951)
    """

    filter_shape: int | tuple[int, ...]
    strides: int | tuple[int, ...] = 1
    padding: str = "SAME"
    W_std: float = 1.0
    b_std: float | None = 0.0
    dilation: int | tuple[int, ...] = 1
    parameterization: str = "ntk"
    fan_in: int | None = None
    trainable: bool = True

    def __post_init__(self) -> None:
        _as_tuples(self, "filter_shape", "strides", "dilation")
        self.taps()
        check_weights(self)

    def taps(self) -> Taps:
        """What a window reads."""
        name = type(self).__name__
        return _taps(name, self.filter_shape, self.strides, self.dilation, self.padding)

    def passes(self) -> bool:
        return False

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the convolution."""
        return self._lower(b, x, self.taps())

    def _lower(self, b: Builder, x: Ref, taps: Taps, local: bool = False) -> Ref:
        fan_in = None
        if self.parameterization == "standard":
            assert self.fan_in is not None
            fan_in = int(self.fan_in) * taps.count(())
        return b.mix(
            x,
            taps,
            Kind.GAUSSIAN,
            repr(self),
            W_std=self.W_std,
            b_std=self.b_std,
            fan_in=fan_in,
            trained=self.trainable,
            local=local,
        )


@dataclass(frozen=True, repr=False)
class ConvLocal(Conv):
    """Convolution with weights of its own at each position (a locally connected layer).

    No two positions behind it are correlated; with :class:`Flatten` it is the kernel of
    :class:`Conv`.

    Parameters
    ----------
    filter_shape, strides, padding, W_std, b_std, dilation, parameterization, fan_in, trainable
        As in :class:`Conv`.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.ConvLocal((3, 3), padding="VALID")
    ConvLocal(filter_shape=(3, 3), padding='VALID')
    """

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the layer."""
        return self._lower(b, x, self.taps(), local=True)


@dataclass(frozen=True, repr=False)
class ConvTranspose(Conv):
    """Transposed convolution: ``strides`` spread the positions apart.

    Parameters
    ----------
    filter_shape, strides, padding, W_std, b_std, parameterization, fan_in, trainable
        As in :class:`Conv`; sizes are those of ``jax.lax.conv_transpose``. ``dilation`` must be 1.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.ConvTranspose((3, 3), strides=2)
    ConvTranspose(filter_shape=(3, 3), strides=2)
    """

    def taps(self) -> Taps:
        """What a window reads."""
        name = type(self).__name__
        taps = _taps(name, self.filter_shape, self.strides, self.dilation, self.padding, True)
        if any(d != 1 for d in taps.dilation):
            raise NetworkError(f"{name}: dilation must be 1, found {self.dilation!r}.")
        return taps


@dataclass(frozen=True, repr=False)
class _Pool(Layer):
    window_shape: int | tuple[int, ...]
    strides: int | tuple[int, ...] | None = None
    padding: str = "VALID"

    def __post_init__(self) -> None:
        _as_tuples(self, "window_shape", "strides")
        self.taps()

    def taps(self) -> Taps:
        """What a window reads."""
        strides = self.window_shape if self.strides is None else self.strides
        return _taps(type(self).__name__, self.window_shape, strides, 1, self.padding)

    def _pool(self, b: Builder, x: Ref, how: str) -> Ref:
        return b.mix(x, self.taps(), x.kind, repr(self), shared=how)


@dataclass(frozen=True, repr=False)
class AvgPool(_Pool):
    """Mean over windows of positions.

    Parameters
    ----------
    window_shape : int or tuple of int
        Positions along each axis.
    strides : int or tuple of int, optional
        Steps between windows; those of the windows' shape if left out. Positions that are left
        over behind the last whole window are not used ("VALID").
    padding : {"VALID", "SAME", "CIRCULAR"}
        As in :class:`Conv`.
    normalize_edges : bool
        Whether windows over the edge ("SAME") are averaged over what is there, and not over their
        full size.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.AvgPool((2, 2))
    AvgPool(window_shape=(2, 2))
    """

    normalize_edges: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.normalize_edges) is not bool:
            raise NetworkError(
                f"AvgPool: normalize_edges must be True or False, found {self.normalize_edges!r}."
            )

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the pooling."""
        return self._pool(b, x, "present" if self.normalize_edges else "mean")


@dataclass(frozen=True, repr=False)
class SumPool(_Pool):
    """Sum over windows of positions.

    Parameters
    ----------
    window_shape, strides, padding
        As in :class:`AvgPool`.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.SumPool((2, 2))
    SumPool(window_shape=(2, 2))
    """

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the pooling."""
        return self._pool(b, x, "sum")


@dataclass(frozen=True, repr=False)
class LocalAvgPool(Layer):
    """Mean over the square of ``2 radius + 1`` positions around each one (a box blur).

    Nothing is outside of the image. Before :class:`Flatten` it makes the kernel of local average
    pooling.

    Parameters
    ----------
    radius : int
        Positions to either side.
    axes : int
        Axes of positions of the images.

    References
    ----------
    Li et al., "Enhanced convolutional neural tangent kernels" (2019), section 4.2.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.LocalAvgPool(radius=2)
    LocalAvgPool(radius=2)
    """

    radius: int
    axes: int = 2

    def __post_init__(self) -> None:
        _whole_numbers("LocalAvgPool", "axes", self.axes)
        check_number("LocalAvgPool", "radius", self.radius, low=0)
        if self.radius != int(self.radius) or self.radius > _MOST // 2:
            raise NetworkError(
                f"LocalAvgPool: radius must be a whole number to {_MOST // 2}, found "
                f"{self.radius!r}."
            )

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the pooling."""
        size, ones = (2 * int(self.radius) + 1,) * self.axes, (1,) * self.axes
        return b.mix(x, Taps(size, ones, ones, "SAME"), x.kind, repr(self), shared="mean")


@dataclass(frozen=True, repr=False)
class GlobalAvgPool(Layer):
    """Mean over all positions.

    Examples
    --------
    >>> from kernreg import nn
    >>> net = nn.serial(nn.Conv((3, 3)), nn.Relu(), nn.GlobalAvgPool(), nn.Dense())
    """

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the pooling."""
        return b.mix(x, WHOLE, x.kind, repr(self), shared="mean")


@dataclass(frozen=True, repr=False)
class GlobalSumPool(Layer):
    """Sum over all positions.

    Examples
    --------
    >>> from kernreg import nn
    >>> net = nn.serial(nn.Conv((3, 3)), nn.Relu(), nn.GlobalSumPool(), nn.Dense())
    """

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the pooling."""
        return b.mix(x, WHOLE, x.kind, repr(self), shared="sum")


@dataclass(frozen=True, repr=False)
class Flatten(Layer):
    """All positions as one vector: kernels become their mean over equal positions.

    Examples
    --------
    >>> from kernreg import nn
    >>> net = nn.serial(nn.Conv((3, 3)), nn.Relu(), nn.Flatten(), nn.Dense())
    """

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the readout."""
        kind = Kind.INPUT if x.kind is Kind.INPUT else Kind.OTHER
        return b.mix(x, WHOLE, kind, repr(self))


@dataclass(frozen=True, repr=False)
class Unflatten(Layer):
    """Rows of numbers as images of a shape; the first layer of a network.

    Arrays of images say it themselves, so that it is needed for flat rows only.

    Parameters
    ----------
    shape : tuple of int
        Positions along each axis, and channels last: ``(height, width, channels)``.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Unflatten((28, 28, 1))
    Unflatten(shape=(28, 28, 1))
    """

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        shape = _whole_numbers("Unflatten", "shape", self.shape)
        if len(shape) < 2:
            raise NetworkError(
                "Unflatten: shape must have at least one axis of positions and the channels, as in "
                f"(height, width, channels), found {self.shape!r}."
            )
        if math.prod(shape) > _MOST_NUMBERS:
            raise NetworkError(
                f"Unflatten: an image of shape {shape} has {math.prod(shape)} numbers, expected at "
                f"most {_MOST_NUMBERS}."
            )
        object.__setattr__(self, "shape", shape)

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Say what rows hold."""
        return b.images(x, self.shape, repr(self))
