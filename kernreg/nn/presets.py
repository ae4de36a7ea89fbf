"""Ready-made networks."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from kernreg.exceptions import NetworkError
from kernreg.ir.builder import Builder, Ref
from kernreg.nn import nonlinearities
from kernreg.nn.arguments import checked
from kernreg.nn.base import Layer, Nonlinearity, check_number
from kernreg.nn.combinators import Repeat, Residual, Serial
from kernreg.nn.expressions import named
from kernreg.nn.layers import Dense
from kernreg.nn.nonlinearities import Relu
from kernreg.nn.spatial import AvgPool, Conv, Flatten, GlobalAvgPool

__all__ = ["Cnn", "Mlp", "Myrtle", "Preset", "WideResnet", "cnn", "mlp", "myrtle", "wide_resnet"]


class Preset(Layer):
    """A network that is spelled out by ``layers``."""

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names())
        return f"{_MAKERS[type(self).__name__]}({fields})"

    def layers(self) -> Serial:
        """The network spelled out."""
        raise NotImplementedError

    def passes(self) -> bool:
        return False

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the network."""
        return self._layers.lower(b, x)

    @functools.cached_property
    def _layers(self) -> Serial:
        return self.layers()


@dataclass(frozen=True, repr=False)
class Mlp(Preset):
    """A fully connected network; made by :func:`mlp`."""

    depth: int
    activation: Nonlinearity = Relu()
    W_std: float = 2**0.5
    b_std: float | None = 0.1

    def __post_init__(self) -> None:
        _check_depth("mlp", self.depth)
        _check_activation("mlp", self)
        Dense(self.W_std, self.b_std)

    def layers(self) -> Serial:
        """The network spelled out."""
        dense = Dense(self.W_std, self.b_std)
        return Serial((dense, Repeat(Serial((self.activation, dense)), self.depth)))


def _check_depth(name: str, depth: Any) -> None:
    check_number(name, "depth", depth, low=0)
    if depth != int(depth):
        raise NetworkError(f"{name}: depth must be a whole number, found {depth!r}.")


def _check_activation(name: str, layer: Any) -> None:
    """Take a nonlinearity by its name, too."""
    if isinstance(layer.activation, str):
        object.__setattr__(layer, "activation", _nonlinearity(layer.activation))
    if not isinstance(layer.activation, Nonlinearity):
        raise NetworkError(
            f"{name}: activation must be a nonlinearity such as nn.Relu() or 'relu', "
            f"found {layer.activation!r}."
        )


def _nonlinearity(text: str) -> Any:
    """A nonlinearity by its name or its code."""
    makers = {name: getattr(nonlinearities, name) for name in nonlinearities.__all__}
    return named(text, makers, "'relu' or 'Erf(a=2)'")


_READOUTS = {"average": GlobalAvgPool, "flatten": Flatten}


@dataclass(frozen=True, repr=False)
class Cnn(Preset):
    """A convolutional network; made by :func:`cnn`."""

    depth: int = 3
    activation: Nonlinearity = Relu()
    W_std: float = 2**0.5
    b_std: float | None = 0.1
    filter_shape: int | tuple[int, ...] = (3, 3)
    padding: str = "SAME"
    readout: str = "average"

    def __post_init__(self) -> None:
        _check_depth("cnn", self.depth)
        _check_activation("cnn", self)
        given: Any = self.filter_shape
        if isinstance(given, list):  # is not hashable
            object.__setattr__(self, "filter_shape", tuple(given))
        self._conv()
        if self.readout not in _READOUTS:
            raise NetworkError(
                f"cnn: readout must be one of {', '.join(_READOUTS)}, found {self.readout!r}."
            )

    def _conv(self) -> Conv:
        return Conv(self.filter_shape, 1, self.padding, self.W_std, self.b_std)

    def layers(self) -> Serial:
        """The network spelled out."""
        block = Serial((self._conv(), self.activation))
        readout, dense = _READOUTS[self.readout](), Dense(self.W_std, self.b_std)
        return Serial((Repeat(block, self.depth), readout, dense))


@dataclass(frozen=True, repr=False)
class Myrtle(Preset):
    """A Myrtle network; made by :func:`myrtle`."""

    depth: int = 5
    activation: Nonlinearity = Relu()
    W_std: float = 2**0.5
    b_std: float | None = 0.0

    def __post_init__(self) -> None:
        if self.depth not in tuple(_MYRTLE):
            raise NetworkError(
                f"myrtle: depth must be one of {', '.join(map(str, _MYRTLE))}, found "
                f"{self.depth!r}."
            )
        _check_activation("myrtle", self)
        Dense(self.W_std, self.b_std)

    def layers(self) -> Serial:
        """The network spelled out."""
        block = (Conv((3, 3), 1, "SAME", self.W_std, self.b_std), self.activation)
        first, second, third = (block * count for count in _MYRTLE[self.depth])
        pool = (AvgPool((2, 2)),)
        dense = Dense(self.W_std, self.b_std)
        return Serial((*first, *pool, *second, *pool, *third, GlobalAvgPool(), dense))


_MYRTLE = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}
"""Convolutions before the first pooling, between both, and behind."""


@dataclass(frozen=True, repr=False)
class WideResnet(Preset):
    """A wide residual network; made by :func:`wide_resnet`."""

    depth: int = 28
    k: int = 10
    activation: Nonlinearity = Relu()
    W_std: float = 2**0.5
    b_std: float | None = 0.0

    def __post_init__(self) -> None:
        _check_depth("wide_resnet", self.depth)
        check_number("wide_resnet", "k", self.k, low=1)
        if self.depth < 10 or (self.depth - 4) % 6:
            raise NetworkError(
                "wide_resnet: depth must be 6 n + 4 for n blocks in each of three groups, such as "
                f"10, 16, 22 or 28, found {self.depth!r}."
            )
        _check_activation("wide_resnet", self)
        Dense(self.W_std, self.b_std)

    def layers(self) -> Serial:
        """The network spelled out."""

        def conv(strides: int = 1) -> Conv:
            return Conv((3, 3), strides, "SAME", self.W_std, self.b_std)

        def block(strides: int) -> Serial:
            return Serial((self.activation, conv(strides), self.activation, conv()))

        blocks = (int(self.depth) - 4) // 6
        layers: list[Layer] = [conv()]
        for strides in (1, 2, 2):
            layers += [
                Residual(block(strides), conv(strides)),
                Repeat(Residual(block(1)), blocks - 1),
            ]
        return Serial((*layers, GlobalAvgPool(), Dense(self.W_std, self.b_std)))


@checked
def mlp(
    depth: int = 3,
    activation: Nonlinearity | str | None = None,
    W_std: float = 2**0.5,
    b_std: float | None = 0.1,
) -> Mlp:
    """A fully connected network of ``depth`` hidden layers and a linear readout.

    Parameters
    ----------
    depth : int
        Number of hidden layers.
    activation : Nonlinearity or str, optional
        ``Relu()`` if left out; also its name or code, such as ``"relu"`` or ``"Erf(a=2)"``.
    W_std, b_std : float
        Of every dense layer, see :class:`kernreg.nn.Dense`.

    Returns
    -------
    Mlp

    Raises
    ------
    NetworkError
        If an argument is not usable.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.mlp(depth=1, activation=nn.Erf(), W_std=1.5, b_std=0.2).layers()
    serial(Dense(W_std=1.5, b_std=0.2), repeat(serial(Erf(), Dense(W_std=1.5, b_std=0.2)), 1))
    """
    return Mlp(depth, Relu() if activation is None else activation, W_std, b_std)  # type: ignore[arg-type]


@checked
def cnn(
    depth: int = 3,
    activation: Nonlinearity | str | None = None,
    W_std: float = 2**0.5,
    b_std: float | None = 0.1,
    filter_shape: int | tuple[int, ...] = (3, 3),
    padding: str = "SAME",
    readout: str = "average",
) -> Cnn:
    """A convolutional network of ``depth`` layers that keep the size of images, and a readout.

    Parameters
    ----------
    depth : int
        Number of convolutions.
    activation : Nonlinearity or str, optional
        As for :func:`mlp`.
    W_std, b_std : float
        Of every layer, see :class:`kernreg.nn.Conv`.
    filter_shape : int or tuple of int
        Of every convolution; its length says how many axes images have.
    padding : {"SAME", "CIRCULAR", "VALID"}
        As for :class:`kernreg.nn.Conv`.
    readout : {"average", "flatten"}
        Whether positions are averaged (:class:`kernreg.nn.GlobalAvgPool`) or read each for itself,
        at a thousandth of the cost.

    Returns
    -------
    Cnn

    Raises
    ------
    NetworkError
        If an argument is not usable.

    Examples
    --------
    >>> from kernreg import nn
    >>> len(nn.cnn(depth=10, readout="flatten").layers().layers)
    3
    """
    fn: Any = Relu() if activation is None else activation
    return Cnn(depth, fn, W_std, b_std, filter_shape, padding, readout)


@checked
def myrtle(
    depth: int = 5,
    activation: Nonlinearity | str | None = None,
    W_std: float = 2**0.5,
    b_std: float | None = 0.0,
) -> Myrtle:
    """A Myrtle network of 5, 7 or 10 layers: convolutions, two average poolings, global average.

    Parameters
    ----------
    depth : {5, 7, 10}
        Number of layers, the readout included.
    activation : Nonlinearity or str, optional
        As for :func:`mlp`.
    W_std, b_std : float
        Of every layer.

    Returns
    -------
    Myrtle

    References
    ----------
    Shankar et al., "Neural kernels without tangents" (2020), section 4.

    Examples
    --------
    >>> from kernreg import nn
    >>> len(nn.myrtle(5).layers().layers)
    12
    """
    fn: Any = Relu() if activation is None else activation
    return Myrtle(depth, fn, W_std, b_std)


@checked
def wide_resnet(
    depth: int = 28,
    k: int = 10,
    activation: Nonlinearity | str | None = None,
    W_std: float = 2**0.5,
    b_std: float | None = 0.0,
) -> WideResnet:
    """A wide residual network with three groups of blocks and a global average.

    Parameters
    ----------
    depth : int
        ``6 n + 4`` for ``n`` blocks in each group.
    k : int
        Widening factor of the finite network; with infinitely many channels the kernel is the same
        for all.
    activation : Nonlinearity or str, optional
        As for :func:`mlp`.
    W_std, b_std : float
        Of every layer.

    Returns
    -------
    WideResnet

    References
    ----------
    Zagoruyko and Komodakis, "Wide residual networks" (2016), table 1.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.wide_resnet(10, 1).depth
    10
    """
    fn: Any = Relu() if activation is None else activation
    return WideResnet(depth, k, fn, W_std, b_std)


_MAKERS = {"Cnn": "cnn", "Mlp": "mlp", "Myrtle": "myrtle", "WideResnet": "wide_resnet"}
"""Which function makes a preset."""
