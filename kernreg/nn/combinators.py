"""Ways to compose layers: in series, with a shortcut, side by side, repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from kernreg.exceptions import NetworkError
from kernreg.ir.builder import Builder, Kind, Ref
from kernreg.nn.arguments import checked
from kernreg.nn.base import Layer, check_number
from kernreg.nn.layers import Identity

__all__ = ["Parallel", "Repeat", "Residual", "Serial", "parallel", "repeat", "residual", "serial"]

_MERGES = ("sum", "product", "concat")


def _check_layers(name: str, layers: tuple[Any, ...]) -> None:
    for i, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            hint = " (write it with parentheses)" if isinstance(layer, type) else ""
            raise NetworkError(f"{name}: argument {i} must be a layer, found {layer!r}{hint}.")


@dataclass(frozen=True, repr=False)
class _Group(Layer):
    """A layer whose inner layers are numbered: ``get_params`` names them ``0``, ``1``, ..."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))  # a list is not hashable

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        params = super().get_params(deep=False)
        if deep:
            for i, layer in enumerate(self.layers):
                params[str(i)] = layer
                params |= {f"{i}__{k}": v for k, v in layer.get_params().items()}
        return params

    def _child(self, name: str) -> Layer:
        if name.isdigit() and int(name) < len(self.layers):
            return self.layers[int(name)]
        raise NetworkError(
            f"{type(self).__name__} has no inner layer {name!r}; "
            f"they are numbered 0 to {len(self.layers) - 1}."
        )

    def _replace(self, values: dict[str, Any]) -> Self:
        numbered = {k: v for k, v in values.items() if k.isdigit()}
        rest = {k: v for k, v in values.items() if not k.isdigit()}
        if not numbered:
            return super()._replace(rest)
        layers = list(rest.pop("layers", self.layers))
        for key, layer in numbered.items():
            self._child(key)
            layers[int(key)] = layer
        return super()._replace({**rest, "layers": tuple(layers)})


@dataclass(frozen=True, repr=False)
class Serial(_Group):
    """Layers one after another; made by :func:`serial`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_layers("serial", self.layers)
        self.check()

    def passes(self) -> bool:
        return all(layer.passes() for layer in self.layers)

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append every layer in turn."""
        for layer in self.layers:
            x = layer.lower(b, x)
        return x

    def __repr__(self) -> str:
        return f"serial({', '.join(map(repr, self.layers))})"


@dataclass(frozen=True, repr=False)
class Parallel(_Group):
    """The same input through several branches; made by :func:`parallel`."""

    merge: str = "sum"
    weights: tuple[float, ...] | None = None
    axis: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is not None:
            object.__setattr__(self, "weights", tuple(self.weights))
        _check_layers("parallel", self.layers)
        if not self.layers:
            raise NetworkError("parallel: at least one branch is needed, found none.")
        if self.merge not in _MERGES:
            raise NetworkError(
                f"parallel: merge must be one of {', '.join(_MERGES)}, found {self.merge!r}."
            )
        if self.weights is not None:
            if self.merge != "concat":
                raise NetworkError("parallel: weights belong to merge='concat' only.")
            if len(self.weights) != len(self.layers):
                raise NetworkError(
                    f"parallel: {len(self.layers)} branches need as many weights, "
                    f"found {len(self.weights)}."
                )
            for w in self.weights:
                check_number("parallel", "a weight", w, low=0.0, strict=True)
        if self.axis is not None:
            check_number("parallel", "axis", self.axis, low=0)
            if self.axis != int(self.axis):
                raise NetworkError(f"parallel: axis must be a whole number, found {self.axis!r}.")
            if self.merge != "concat" or self.weights is not None:
                raise NetworkError(
                    "parallel: axis belongs to merge='concat' without weights: it joins positions."
                )
        self.check()

    def passes(self) -> bool:
        return any(layer.passes() for layer in self.layers)

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the branches and their merge."""
        merge = self.merge if self.axis is None else int(self.axis)
        return _merged(b, x, self.layers, merge, self.weights, repr(self))

    def __repr__(self) -> str:
        parts = [repr(layer) for layer in self.layers]
        parts += [] if self.merge == "sum" else [f"merge={self.merge!r}"]
        parts += [] if self.weights is None else [f"weights={self.weights!r}"]
        parts += [] if self.axis is None else [f"axis={self.axis!r}"]
        return f"parallel({', '.join(parts)})"


def _merged(
    b: Builder,
    x: Ref,
    layers: tuple[Layer, ...],
    merge: str | int,
    weights: tuple[float, ...] | None,
    label: str,
) -> Ref:
    """Append branches and their merge, a number for the axis along which positions are joined."""
    outs = [layer.lower(b, x) for layer in layers]
    bare = [layer for layer in layers if layer.passes()]
    how = "joining positions" if isinstance(merge, int) else f"merge={merge!r}"
    if merge != "concat" and len(bare) > 1:
        raise NetworkError(
            f"parallel: branches {bare[0]!r} and {bare[1]!r} have no weights of their own, but "
            f"{how} needs independent branches: put a Dense layer into one."
        )
    if merge == "product":
        return b.product(outs, label)
    if merge == "concat":
        weights = weights or (1.0,) * len(outs)
        total = sum(weights)
        return b.sum(outs, tuple(w / total for w in weights), Kind.OTHER, label)
    for layer, out in zip(layers, outs, strict=True):
        if out.kind is not Kind.GAUSSIAN:
            raise NetworkError(
                f"parallel: branch {layer!r} ends in {out.made_by}, which is not Gaussian, "
                f"but {how} needs independent Gaussian branches: end it in a Dense "
                "layer, and put a Dense layer before an Identity branch."
            )
    if isinstance(merge, int):
        return b.join(outs, merge, label)
    return b.sum(outs, (), Kind.GAUSSIAN, label)


@dataclass(frozen=True, repr=False)
class Residual(Layer):
    """``shortcut(x) + block(x)``; made by :func:`residual`."""

    block: Layer
    shortcut: Layer = Identity()

    def __post_init__(self) -> None:
        _check_layers("residual", (self.block, self.shortcut))
        self.check()

    def passes(self) -> bool:
        return self.block.passes() or self.shortcut.passes()

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append both branches and their sum."""
        # A Parallel would check its branches again, at each level inside twice as often.
        label = f"parallel({self.block!r}, {self.shortcut!r})"
        return _merged(b, x, (self.block, self.shortcut), "sum", None, label)

    def __repr__(self) -> str:
        shortcut = "" if self.shortcut == Identity() else f", shortcut={self.shortcut!r}"
        return f"residual({self.block!r}{shortcut})"


@dataclass(frozen=True, repr=False)
class Repeat(Layer):
    """``n`` copies of one block, kept as a loop; made by :func:`repeat`."""

    block: Layer
    n: int

    def __post_init__(self) -> None:
        _check_layers("repeat", (self.block,))
        check_number("repeat", "n", self.n, low=0)
        if self.n != int(self.n):
            raise NetworkError(f"repeat: n must be a whole number, found {self.n!r}.")
        self.check()

    def passes(self) -> bool:
        return self.n == 0 or self.block.passes()

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append a loop."""
        if self.n == 0:
            return x
        body, carry = b.body(x)
        out = self.block.lower(body, carry)
        if self.n > 1 and (out.kind is not x.kind or out.domain != x.domain):
            # The second turn must fit as well; this names the layer that does not.
            trial, again = b.body(out)
            self.block.lower(trial, again)
        if out.index != len(body.ops) - 1:
            return x
        return b.repeat(x, body, out, int(self.n), repr(self))

    def __repr__(self) -> str:
        return f"repeat({self.block!r}, {self.n!r})"


@checked
def serial(*layers: Layer) -> Serial:
    """Compose layers one after another.

    Parameters
    ----------
    *layers : Layer
        From input to output.

    Returns
    -------
    Serial

    Raises
    ------
    NetworkError
        If a layer cannot follow the one before it.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.serial(nn.Dense(2**0.5, 0.1), nn.Relu(), nn.Dense())
    serial(Dense(W_std=1.4142135623730951, b_std=0.1), Relu(), Dense())
    """
    return Serial(tuple(layers))


@checked
def parallel(
    *branches: Layer,
    merge: str = "sum",
    weights: tuple[float, ...] | None = None,
    axis: int | None = None,
) -> Parallel:
    """Send one input through several branches and merge what comes out.

    Parameters
    ----------
    *branches : Layer
        Independent branches.
    merge : {"sum", "product", "concat"}
        Sum of independent Gaussian branches; elementwise product; concatenation of channels,
        that is the average of the kernels weighted by the widths.
    weights : tuple of float, optional
        Relative widths of the branches, for "concat"; equal if left out.
    axis : int, optional
        With "concat": join positions of images along this axis, 0 the first, instead of channels.
        Positions of different branches are uncorrelated. For the reference backend.

    Returns
    -------
    Parallel

    Raises
    ------
    NetworkError
        If branches do not fit, or the merge is unknown.

    Examples
    --------
    >>> from kernreg import nn
    >>> branch = nn.serial(nn.Dense(), nn.Relu(), nn.Dense())
    >>> nn.parallel(branch, nn.Dense())
    parallel(serial(Dense(), Relu(), Dense()), Dense())
    """
    return Parallel(tuple(branches), merge, weights, axis)


@checked
def residual(block: Layer, shortcut: Layer | None = None) -> Residual:
    """Add a block to its own input.

    Parameters
    ----------
    block : Layer
        The residual branch; must end in a Gaussian layer such as ``Dense``.
    shortcut : Layer, optional
        The other branch, ``Identity()`` if left out.

    Returns
    -------
    Residual

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.serial(nn.Dense(), nn.residual(nn.serial(nn.Relu(), nn.Dense())))
    serial(Dense(), residual(serial(Relu(), Dense())))
    """
    return Residual(block, Identity() if shortcut is None else shortcut)


@checked
def repeat(block: Layer, n: int) -> Repeat:
    """Repeat a block ``n`` times, as a loop in the compiled program.

    Parameters
    ----------
    block : Layer
        What is repeated, with the same hyperparameters and independent weights each time.
    n : int
        Number of turns.

    Returns
    -------
    Repeat

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.repeat(nn.serial(nn.Relu(), nn.Dense(2**0.5)), 10000).n
    10000
    """
    return Repeat(block, n)
