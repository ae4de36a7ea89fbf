"""Layers of stax that are linear, or change shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from kernreg import nn
from kernreg.exceptions import NetworkError
from kernreg.ir.taps import Taps
from kernreg.stax.kernel import Triple, layer, made
from kernreg.stax.parts import One, Place

__all__ = [
    "AvgPool",
    "Conv",
    "ConvLocal",
    "ConvTranspose",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GlobalSumPool",
    "Identity",
    "LayerNorm",
    "SumPool",
]

_Scales = tuple[int, int]


def _axes(name: str, **given: tuple[Any, Any]) -> None:
    """Refuse axes in another order than (n, ..., channels)."""
    for key, (value, usual) in given.items():
        if value != usual:
            raise NetworkError(
                f"{name}: {key}={value!r} is not taken; data have the shape (n, *positions, "
                "channels): move their axes with NumPy."
            )


def _standard(name: str, place: Place, s: _Scales) -> dict[str, Any]:
    if place.channels is None:
        raise NetworkError(
            f"{name}: the standard parameterization needs the width of what comes in; ask for the "
            f"kernel of data, or use nn.{name}(..., parameterization='standard', fan_in=...)."
        )
    return {"parameterization": "standard", "fan_in": place.channels // s[0]}


def Dense(
    out_dim: int,
    W_std: float = 1.0,
    b_std: float | None = None,
    batch_axis: int = 0,
    channel_axis: int = -1,
    parameterization: str = "ntk",
    s: _Scales = (1, 1),
) -> Triple:
    """A fully connected layer; ``out_dim`` counts in the standard parameterization only.

    Examples
    --------
    >>> from kernreg import stax
    >>> stax.Dense(512, W_std=1.5, b_std=0.1).kernel_fn.network
    serial(Dense(W_std=1.5, b_std=0.1))
    """
    _axes("Dense", batch_axis=(batch_axis, 0), channel_axis=(channel_axis, -1))

    def build(place: Place) -> tuple[nn.Layer, Place]:
        options = _standard("Dense", place, s) if parameterization == "standard" else {}
        options.setdefault("parameterization", parameterization)
        built = nn.Dense(W_std=float(W_std), b_std=b_std, **options)
        return built, Place(out_dim * s[1], place.sizes)

    return made((One(build),))


def _convolution(name: str, says: str) -> Callable[..., Triple]:
    """The function of stax for a convolution of kernreg, which has the same name."""

    def function(
        out_chan: int,
        filter_shape: Sequence[int],
        strides: Sequence[int] | None = None,
        padding: str = "VALID",
        W_std: float = 1.0,
        b_std: float | None = None,
        dimension_numbers: Any = None,
        parameterization: str = "ntk",
        s: _Scales = (1, 1),
    ) -> Triple:
        _axes(name, dimension_numbers=(dimension_numbers, None))
        shape = tuple(filter_shape)
        steps = (1,) * len(shape) if strides is None else tuple(strides)
        maker: Any = getattr(nn, name)

        def build(place: Place) -> tuple[nn.Layer, Place]:
            options = _standard(name, place, s) if parameterization == "standard" else {}
            options.setdefault("parameterization", parameterization)
            built = maker(shape, steps, padding, W_std=float(W_std), b_std=b_std, **options)
            taps = Taps(shape, steps, (1,) * len(shape), padding, name == "ConvTranspose")
            return built, Place(out_chan * s[1], _behind(taps, place, name))

        return made((One(build),))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{says}; data have the shape (n, ..., channels).

    Examples
    --------
    >>> from kernreg import stax
    >>> stax.{name}(64, (3, 3), strides=(2, 2)).kernel_fn.network
    serial({name}(filter_shape=(3, 3), strides=(2, 2), padding='VALID', b_std=None))
    """
    return function


def _behind(taps: Taps, place: Place, name: str) -> tuple[int, ...] | None:
    assert taps.shape is not None
    sizes = place.sizes
    # Data of another rank are refused by the network, which names the layer.
    fits = sizes is not None and len(sizes) == len(taps.shape)
    return taps.out(sizes or (), name) if fits else None


Conv = _convolution("Conv", "A convolution")
ConvLocal = _convolution("ConvLocal", "A convolution with weights of its own at each position")
ConvTranspose = _convolution("ConvTranspose", "A transposed convolution")


def _pool(
    name: str,
    window_shape: Sequence[int],
    strides: Sequence[int] | None,
    padding: str,
    **options: bool,
) -> Triple:
    window = tuple(window_shape)
    steps = (1,) * len(window) if strides is None else tuple(strides)
    built: nn.Layer = getattr(nn, name)(window, steps, padding, **options)
    taps = Taps(window, steps, (1,) * len(window), padding)

    def build(place: Place) -> tuple[nn.Layer, Place]:
        return built, Place(place.channels, _behind(taps, place, name))

    return made((One(build),))


def AvgPool(
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str = "VALID",
    normalize_edges: bool = False,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> Triple:
    """Averages of windows, one position apart if ``strides`` is left out.

    Examples
    --------
    >>> from kernreg import stax
    >>> stax.AvgPool((2, 2), strides=(2, 2)).kernel_fn.network
    serial(AvgPool(window_shape=(2, 2), strides=(2, 2)))
    """
    _axes("AvgPool", batch_axis=(batch_axis, 0), channel_axis=(channel_axis, -1))
    return _pool("AvgPool", window_shape, strides, padding, normalize_edges=normalize_edges)


def SumPool(
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str = "VALID",
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> Triple:
    """Sums of windows, one position apart if ``strides`` is left out.

    Examples
    --------
    >>> from kernreg import stax
    >>> stax.SumPool((2, 2), padding="SAME").kernel_fn.network
    serial(SumPool(window_shape=(2, 2), strides=(1, 1), padding='SAME'))
    """
    _axes("SumPool", batch_axis=(batch_axis, 0), channel_axis=(channel_axis, -1))
    return _pool("SumPool", window_shape, strides, padding)


def _vector(built: nn.Layer, width: Callable[[Place], int | None]) -> Triple:
    """A layer that leaves a vector."""
    return made((One(lambda place: (built, Place(width(place), ()))),))


def GlobalAvgPool(batch_axis: int = 0, channel_axis: int = -1) -> Triple:
    """The mean over all positions.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Conv(1, (1,)), stax.GlobalAvgPool())
    >>> kernel_fn(np.array([[[1.0], [2.0]]]), None, "nngp").round(4).tolist()
    [[2.25]]
    """
    _axes("GlobalAvgPool", batch_axis=(batch_axis, 0), channel_axis=(channel_axis, -1))
    return _vector(nn.GlobalAvgPool(), lambda place: place.channels)


def GlobalSumPool(batch_axis: int = 0, channel_axis: int = -1) -> Triple:
    """The sum over all positions.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Conv(1, (1,)), stax.GlobalSumPool())
    >>> kernel_fn(np.array([[[1.0], [2.0]]]), None, "nngp").round(4).tolist()
    [[9.0]]
    """
    _axes("GlobalSumPool", batch_axis=(batch_axis, 0), channel_axis=(channel_axis, -1))
    return _vector(nn.GlobalSumPool(), lambda place: place.channels)


def Flatten(batch_axis: int = 0, batch_axis_out: int = 0) -> Triple:
    """Channels of all positions as one vector.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Conv(1, (1,)), stax.Flatten())
    >>> kernel_fn(np.array([[[1.0], [2.0]]]), None, "nngp").round(4).tolist()
    [[2.5]]
    """
    _axes("Flatten", batch_axis=(batch_axis, 0), batch_axis_out=(batch_axis_out, 0))

    def width(place: Place) -> int | None:
        known = place.channels is not None and place.sizes is not None
        return math.prod(place.sizes or (), start=place.channels or 1) if known else None

    return _vector(nn.Flatten(), width)


def Identity() -> Triple:
    """Nothing.

    Examples
    --------
    >>> from kernreg import stax
    >>> stax.serial(stax.Identity(), stax.Dense(1)).kernel_fn.network
    serial(Identity(), Dense(b_std=None))
    """
    return layer(nn.Identity())


def LayerNorm(
    axis: int | Sequence[int] = -1,
    eps: float = 1e-12,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> Triple:
    """Variance 1 over the channels, and over positions along other axes that are named.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1), stax.LayerNorm())
    >>> kernel_fn(np.array([[3.0, 0.0], [1.0, 1.0]]), None, "nngp").round(4).tolist()
    [[1.0, 0.7071], [0.7071, 1.0]]
    """
    _axes("LayerNorm", batch_axis=(batch_axis, 0), channel_axis=(channel_axis, -1))
    axes = (axis,) if isinstance(axis, int) else tuple(axis)

    def build(place: Place) -> tuple[nn.Layer, Place]:
        rank = None if place.sizes is None else len(place.sizes) + 2
        if rank is None and any(a not in (-1, 1) for a in axes):
            raise NetworkError(
                f"LayerNorm: axis={axis!r} depends on the rank of the data; ask for the kernel of "
                "data, or use nn.LayerNorm(axes=...)."
            )
        placed = {a % (rank or 2) for a in axes}
        last = (rank or 2) - 1
        if last not in placed or 0 in placed:
            raise NetworkError(
                f"LayerNorm: axis={axis!r} must have the channels (-1) among it, and not the rows."
            )
        inner = tuple(sorted(a - 1 for a in placed - {last}))
        return nn.LayerNorm(eps=eps, axes=inner), place

    return made((One(build),))


def Dropout(rate: float, mode: str = "train") -> Triple:
    """Dropout that keeps a share of ``rate``, in training; nothing with ``mode="test"``.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1), stax.Dropout(0.5))
    >>> kernel_fn(np.ones((2, 3)), None, "nngp").round(4).tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """
    if mode not in ("train", "test"):
        raise NetworkError(f"Dropout: mode must be train or test, found {mode!r}.")
    return layer(nn.Dropout(keep_prob=float(rate) if mode == "train" else 1.0))
