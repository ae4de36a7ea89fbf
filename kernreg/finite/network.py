"""A network of finite width from its description."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from kernreg import nn
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.finite.build import Building, Shape, built, channels_alike, free_width
from kernreg.finite.initial import INITS
from kernreg.finite.weighted import Weighted
from kernreg.operators.images import on_images
from kernreg.operators.inputs import check_network

__all__ = ["FiniteNetwork", "module"]


class FiniteNetwork(torch.nn.Module):
    """A network of finite width; made by :func:`module`.

    Attributes
    ----------
    network : Layer
        The description.
    input_shape : tuple of int
        Of one row, or of one image with its channels last.
    outputs : int
        Numbers that leave it for a row, at each position if positions are left.
    body : Module
        The layers.

    Examples
    --------
    >>> f = module("mlp(depth=1)", width=8, input_shape=3, random_state=0)
    >>> f(torch.ones(2, 3)).shape, [tuple(p.shape) for p in f.parameters()]
    (torch.Size([2, 1]), [(8, 3), (8,), (1, 8), (1,)])
    """

    def __init__(
        self,
        network: nn.Layer,
        body: torch.nn.Module,
        input_shape: tuple[int, ...],
        outputs: int,
        channels: str,
    ) -> None:
        super().__init__()
        self.network, self.body = network, body
        self.input_shape, self.outputs, self.channels = input_shape, outputs, channels

    def forward(self, X: Tensor) -> Tensor:
        """Outputs of rows or images.

        Parameters
        ----------
        X : Tensor of shape (n, d), (n, height, width, channels) or (n, channels, height, width)
            The last as ``channels`` says; images may also come as rows, channels last.

        Returns
        -------
        Tensor of shape (n, outputs)
            Or with positions, the outputs where the channels were.
        """
        x = self._channels_first(X)
        y: Tensor = self.body(x)[:, : self.outputs]
        return y if y.ndim == 2 or self.channels == "first" else y.movedim(1, -1)

    def _channels_first(self, X: Tensor) -> Tensor:
        shape = self.input_shape
        if len(shape) == 1:
            if X.ndim != 2 or X.shape[1] != shape[0]:
                raise InvalidInputError(
                    f"expected rows of {shape[0]} numbers, found an array of shape "
                    f"{tuple(X.shape)}."
                )
            return X
        first = (shape[-1], *shape[:-1])
        if X.ndim == 2 and X.shape[1] == math.prod(shape):
            return X.reshape(len(X), *shape).movedim(-1, 1)
        if self.channels == "first" and tuple(X.shape[1:]) == first:
            return X
        if self.channels == "last" and shape[-1] == 1 and tuple(X.shape[1:]) == shape[:-1]:
            return X[:, None]
        if self.channels == "last" and tuple(X.shape[1:]) == shape:
            return X.movedim(-1, 1)
        expected = first if self.channels == "first" else shape
        raise InvalidInputError(
            f"expected images of shape {expected} (channels={self.channels!r}), found an array of "
            f"shape {tuple(X.shape)}."
        )

    def weighted(self) -> list[Weighted]:
        """The layers with weights, from input to output."""
        return [m for m in self.modules() if isinstance(m, Weighted)]

    def reset(
        self, init: str = "gaussian", random_state: int | torch.Generator | None = None
    ) -> None:
        """Draw all parameters anew.

        Parameters
        ----------
        init, random_state
            As for :func:`module`.
        """
        generator = _generator(random_state)
        first = next(self.parameters(), None)
        kind = torch.get_default_dtype() if first is None else first.dtype

        def draw(shape: tuple[int, ...]) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=kind)

        for layer in self.weighted():
            layer.reset(init, draw)


def module(
    net: nn.Layer | str,
    width: int | Sequence[int] = 512,
    input_shape: int | Sequence[int] | None = None,
    outputs: int = 1,
    *,
    parameterization: str | None = None,
    init: str = "gaussian",
    linearize: bool = False,
    channels: str = "last",
    checkpoint: bool = False,
    random_state: int | torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> FiniteNetwork | Any:
    """Make the network of a description, of finite width, as a torch module.

    Its kernels at initialisation are those of the description on average, up to O(1/width).

    Parameters
    ----------
    net : Layer or str
        From :mod:`kernreg.nn`, or its code.
    width : int or sequence of int
        Channels of the hidden layers, one number for all or one for each in the order in which
        they are met, branches that are added counted once.
    input_shape : int or sequence of int, optional
        Numbers in a row, or ``(height, width, channels)``; not needed where the network begins
        with ``Unflatten``.
    outputs : int
        Numbers that leave the network for each row.
    parameterization : {"ntk", "standard"}, optional
        Of all layers; left out, each layer has its own.
    init : {"gaussian", "orthogonal", "delta_orthogonal"}
        Independent weights; orthogonal matrices; convolutions that are an orthogonal matrix at the
        middle of the filter and 0 elsewhere, which keep lengths through thousands of layers (the
        infinite kernel of such a layer is that of a filter of one position).
    linearize : bool
        Return the network's linearization at its first parameters, see :func:`linearized`.
    channels : {"last", "first"}
        Where images have them: NHWC or NCHW.
    checkpoint : bool
        Whether loops (``nn.repeat``) keep the values of some turns only, and work the others out
        again for the gradient.
    random_state : int or torch.Generator, optional
        For weights that are the same each time.
    dtype, device : optional
        Of the parameters.

    Returns
    -------
    FiniteNetwork
        Or the linearized module.

    Raises
    ------
    NetworkError
        If layers do not fit together, or widths do not fit layers.
    InvalidInputError
        If an argument is not usable.

    References
    ----------
    Jacot, Gabriel, Hongler (2018); Xiao et al., "Dynamical isometry and a mean field theory of
    CNNs" (2018), for orthogonal convolutions.

    Examples
    --------
    >>> import torch
    >>> from kernreg import nn
    >>> f = module(nn.mlp(depth=2), width=64, input_shape=5, random_state=0)
    >>> f(torch.ones(3, 5)).shape, sum(p.numel() for p in f.parameters())
    (torch.Size([3, 1]), 4609)
    """
    net = check_network(net)
    sizes: Any = width
    for given in sizes if isinstance(sizes, list | tuple) else [sizes]:
        _check_whole("width", given)
    if not isinstance(dtype, torch.dtype | None):
        raise InvalidInputError(
            f"dtype must be one of torch, such as torch.float64, found {dtype!r}."
        )
    if not isinstance(init, str) or init not in INITS:
        raise InvalidInputError(f"init must be one of {', '.join(INITS)}, found {init!r}.")
    if parameterization not in (None, "ntk", "standard"):
        raise InvalidInputError(
            f"parameterization must be 'ntk', 'standard' or None, found {parameterization!r}."
        )
    if channels not in ("last", "first"):
        raise InvalidInputError(f"channels must be 'last' or 'first', found {channels!r}.")
    _check_whole("outputs", outputs)
    shape = _shape(net, input_shape)
    if len(shape) > 1:
        described = on_images(net, shape, "input_shape").program()
        assert described.shape is not None
        shape = described.shape
        described.sizes()
    at = Building(_widths(width), parameterization, checkpoint)
    start = Shape(shape[-1], tuple(shape[:-1]))
    body, out = built(net, at, start, outputs if free_width(net) else None)
    if not isinstance(width, numbers.Integral) and next(at.widths, None) is not None:
        raise NetworkError(
            f"module: {len(list(width))} widths were given, but the network has fewer hidden "  # type: ignore[arg-type]
            "layers."
        )
    if out.channels < outputs:
        raise NetworkError(
            f"module: the network leaves {out.channels} channels, but {outputs} outputs are "
            "wanted: end it in Dense(), or give a larger width."
        )
    if out.channels > outputs and not channels_alike(net):
        raise NetworkError(
            f"module: the network leaves {out.channels} numbers of different kinds, of which "
            f"{outputs} do not stand for all: end it in Dense(), or ask for outputs="
            f"{out.channels}."
        )
    made = FiniteNetwork(net, body, shape, outputs, channels)
    made.to(dtype=dtype)
    made.reset(init, random_state)
    made.to(device=device)
    if linearize:
        from kernreg.finite.linear import linearized

        return linearized(made)
    return made


def _check_whole(name: str, value: Any) -> None:
    if type(value) is bool or not isinstance(value, numbers.Integral) or int(value) < 1:
        raise InvalidInputError(f"{name} must be a whole number from 1 on, found {value!r}.")


def _widths(width: Any) -> Iterator[int]:
    if not isinstance(width, list | tuple):
        while True:
            yield int(width)
    for w in width:
        _check_whole("width", w)
        yield int(w)


def _shape(net: nn.Layer, given: Any) -> tuple[int, ...]:
    """The shape of one row or image."""
    described = net.program().shape
    if given is None:
        if described is None:
            raise InvalidInputError(
                "input_shape is needed: the numbers in a row, or (height, width, channels)."
            )
        return described
    shape = tuple(given) if isinstance(given, Sequence) else (given,)
    for n in shape:
        _check_whole("input_shape", n)
    shape = tuple(int(n) for n in shape)
    if described is not None and len(shape) == 1 and shape[0] == math.prod(described):
        return described
    if len(shape) == 1 and net.program().axes not in (0, None):
        raise InvalidInputError(
            f"the network is for images, found input_shape={given!r}: pass (height, width, "
            "channels)."
        )
    return shape


def _generator(random_state: Any) -> torch.Generator | None:
    if random_state is None or isinstance(random_state, torch.Generator):
        return random_state
    _check_whole("random_state", random_state + 1 if type(random_state) is int else random_state)
    return torch.Generator().manual_seed(int(random_state))
