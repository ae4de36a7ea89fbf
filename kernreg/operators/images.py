"""Images as rows, and networks that know their shape."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from kernreg.exceptions import InvalidInputError
from kernreg.ir.operations import Mix, all_ops
from kernreg.ir.program import Program
from kernreg.nn import Layer, Unflatten, serial
from kernreg.nn.combinators import Serial

__all__ = ["check_shapes", "flat_rows", "on_images", "shape_of", "tile_rows"]

Shape = tuple[int, ...]


def shape_of(X: Any, channels: str = "last") -> Shape | None:
    """The shape of one image, channels last; None if ``X`` holds rows."""
    shape = tuple(int(n) for n in getattr(X, "shape", ()))
    if len(shape) < 3:
        return None
    return shape[1:] if channels == "last" else (*shape[2:], shape[1])


def flat_rows(X: Any, channels: str = "last") -> Any:
    """Images of shape (n, height, width, channels) as rows; anything else as it is.

    Parameters
    ----------
    X : array-like
        Data.
    channels : {"last", "first"}
        Where they stand.

    Examples
    --------
    >>> import numpy as np
    >>> flat_rows(np.zeros((5, 8, 8, 3))).shape
    (5, 192)
    """
    if channels not in ("last", "first"):
        raise InvalidInputError(f"channels must be 'last' or 'first', found {channels!r}.")
    shape = tuple(getattr(X, "shape", ()))
    if len(shape) < 3:
        return X
    if channels == "first":
        X = X.movedim(1, -1) if isinstance(X, Tensor) else X.swapaxes(1, -1).swapaxes(1, -2)
        if not isinstance(X, Tensor) and X.ndim > 4:
            raise InvalidInputError("channels='first' is for images of two axes.")
    return X.reshape(len(X), math.prod(shape[1:]))


def on_images(net: Layer, shape: Shape | None, name: str = "X") -> Layer:
    """A network that knows the shape of its images.

    Parameters
    ----------
    net : Layer
        The network.
    shape : tuple of int or None
        Of an image, channels last (one channel may have no axis); None for rows.
    name : str
        What to call the data in errors.

    Raises
    ------
    InvalidInputError
        If the network says otherwise.
    """
    if shape is None:
        return net
    shape = tuple(int(n) for n in shape)
    given = net.program()
    if given.shape is not None:
        if given.shape not in (shape, (*shape, 1)):
            raise InvalidInputError(
                f"{name} holds images of shape {shape}, but the network is for {given.shape}."
            )
        return net
    if given.axes == len(shape):  # one channel, which has no axis of its own
        shape = (*shape, 1)
    first = Unflatten(shape)
    if given.axes == 0:
        raise InvalidInputError(
            f"{name} holds images of shape {shape}, but the network has no layer for positions: "
            "add Conv layers and a readout, or put Flatten() first for one vector."
        )
    if given.axes is not None and given.axes != len(shape) - 1:
        raise InvalidInputError(
            f"{name} holds images of shape {shape}, {len(shape) - 1} axes of positions and the "
            f"channels, but the network works on {given.axes} axes."
        )
    return serial(first, *(net.layers if isinstance(net, Serial) else (net,)))


def check_shapes(net: Layer, columns: int, name: str = "X", *, sparse: bool = False) -> None:
    """Raise unless a network can stand on rows of so many numbers.

    Raises
    ------
    InvalidInputError
        If the network is for images whose shape nobody gave, or of another size, or leaves
        positions, or the rows are sparse.
    NetworkError
        If the images are too small for a layer.
    """
    program = net.program()
    if program.axes == 0:
        return
    if sparse:
        raise InvalidInputError(
            f"{name} is sparse, and the network is for images, which are dense: use X.toarray()."
        )
    if program.shape is None:
        raise InvalidInputError(
            f"the network is for images, found rows of {columns} numbers: pass arrays of shape "
            "(n, height, width, channels), or input_shape=(height, width, channels)."
        )
    if math.prod(program.shape) != columns:
        raise InvalidInputError(
            f"{name} has {columns} numbers in a row, but images of shape {program.shape} have "
            f"{math.prod(program.shape)}."
        )
    if program.spatial is not None:
        raise InvalidInputError(
            f"the network ends in {program.spatial}, which leaves positions: end it in Flatten() "
            "or GlobalAvgPool(), and perhaps Dense()."
        )
    program.sizes()


def tile_rows(program: Program) -> int:
    """Rows of a tile whose entries take some seconds on one core.

    Pooling meets every pair of positions, at 3e-9 seconds each for a few layers.

    Examples
    --------
    >>> from kernreg import nn
    >>> of = {n: nn.serial(nn.Unflatten((n, n, 3)), nn.myrtle(5)).program() for n in (8, 32)}
    >>> tile_rows(of[8]), tile_rows(of[32]), tile_rows(nn.mlp(2).program())
    (1024, 64, 1024)
    """
    pools = any(isinstance(op, Mix) and op.shared is not None for op in all_ops(program.ops))
    if program.shape is None or not pools:
        return 1024
    positions = math.prod(program.shape[:-1])
    return int(min(1024, 2 ** max(4, int(math.log2(70_000 / positions)))))
