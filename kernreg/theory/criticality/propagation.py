"""The variance and the gradient of one input on their way through a network of layers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from kernreg.ir import operations as ir
from kernreg.ir.builder import Builder, Kind
from kernreg.ir.fold import Pass, Rules
from kernreg.nn.base import Layer, Nonlinearity
from kernreg.nn.combinators import Repeat, Residual, Serial
from kernreg.nn.presets import Mlp
from kernreg.theory.criticality.single_input import averages

__all__ = ["Group", "Passed", "Signal", "Tally", "behind_layer", "propagate"]

# A variance that changes less from turn to turn has settled.
_SETTLED = 1e-13


@dataclass(frozen=True)
class Passed:
    """What the layers since the last ``Dense`` did.

    Parameters
    ----------
    of_input : bool
        Whether there is no ``Dense`` layer before.
    sigma : Nonlinearity or None
        What the values have passed.
    normalized : bool
        Whether a ``LayerNorm`` came before it.
    keep : float
        Share that dropout keeps.
    """

    of_input: bool = False
    sigma: Nonlinearity | None = None
    normalized: bool = False
    keep: float = 1.0


@dataclass(frozen=True)
class Signal:
    """One input on its way.

    Parameters
    ----------
    K : float
        Mean square of the current values.
    log_J : float
        Logarithm of the mean-square derivative of a value by a first preactivation, summed over
        the latter.
    first : float or None
        Variance of the first preactivations; None before them.
    passed : Passed
        What the layers since the last ``Dense`` did.
    K_before, log_slope : float
        The variance before their nonlinearity, and the logarithm of ``<sigma'^2>`` there.
    """

    K: float
    log_J: float = 0.0
    first: float | None = None
    passed: Passed = Passed()
    K_before: float = 0.0
    log_slope: float = 0.0


@dataclass(frozen=True)
class Group:
    """What layers have in common that are counted together.

    Parameters
    ----------
    label : str
        The nonlinearity, or the residual block.
    sigma : Nonlinearity or None
        None for residual blocks.
    C_b, W_square : float
        Variances of biases and weights of the ``Dense`` layer behind it.
    normalized, keep : bool, float
        As in :class:`Passed`; of a residual block, the product over its layers.
    """

    label: str
    sigma: Nonlinearity | None = None
    C_b: float = 0.0
    W_square: float = 1.0
    normalized: bool = False
    keep: float = 1.0

    @property
    def C_W(self) -> float:
        """Variance of the weights as a signal in training sees it."""
        return self.W_square / self.keep


@dataclass
class Tally:
    """What such layers did.

    Parameters
    ----------
    K_in, K_out : float
        Variance before the first and behind the last of them.
    depth : int
        Their number.
    log_gain, log_growth : float
        Logarithms of the factors of the mean-square derivative, relative to the variance where it
        is normalised, and of the variance.
    """

    K_in: float
    K_out: float
    depth: int
    log_gain: float
    log_growth: float


def _count(tallies: dict[Group, Tally], group: Group, new: Tally, times: int = 1) -> None:
    own = tallies.setdefault(group, Tally(new.K_in, new.K_out, 0, 0.0, 0.0))
    own.K_out = new.K_out
    own.depth += times * new.depth
    own.log_gain += times * new.log_gain
    own.log_growth += times * new.log_growth


def propagate(layer: Layer, x: Signal, tallies: dict[Group, Tally]) -> Signal:
    """The signal behind a layer.

    Parameters
    ----------
    layer : Layer
        The layer, or a whole network.
    x : Signal
        What enters it.
    tallies : dict
        The layers on the way are added here.

    Returns
    -------
    Signal

    Raises
    ------
    UnknownOperationError
        If there is no rule for a layer.

    Notes
    -----
    About 3 milliseconds per nonlinearity. A loop ends when its variance has settled; the turns
    that are left multiply the gradient by the same factor.

    Examples
    --------
    >>> from kernreg import nn
    >>> end = propagate(nn.mlp(depth=3, W_std=2.0, b_std=0.0), Signal(1.0), {})
    >>> round(end.K, 9), round(math.exp(end.log_J), 9)
    (32.0, 8.0)
    """
    match layer:
        case Serial(layers):
            for part in layers:
                x = propagate(part, x, tallies)
            return x
        case Mlp():
            return propagate(layer.layers(), x, tallies)
        case Repeat(block, n):
            return _repeat(block, int(n), x, tallies)
        case Residual():
            return _residual(layer, x, tallies)
    return _lowered(_Walk(tallies), layer, x)


def behind_layer(layer: Layer, x: Passed) -> Passed:
    """What a layer that is no combination of others adds to what came before it."""
    return _lowered(_Passing(), layer, x)


def _lowered(walk: Any, layer: Layer, x: Any) -> Any:
    """A walk over the operations of a layer."""
    builder = Builder()
    layer.lower(builder, builder.input(Kind.GAUSSIAN))
    walk.params = tuple(builder.params)
    return walk.run(tuple(builder.ops), x)


_PASSED = Rules("the scale of a signal")


@dataclass
class _Passing(Pass[Passed]):
    params: tuple[float, ...] = ()
    rules = _PASSED


@_PASSED.of(ir.Dense)
def _passed_dense(walk: _Passing, op: ir.Dense, x: Passed) -> Passed:
    return Passed()


@_PASSED.of(ir.Apply)
def _passed_apply(walk: _Passing, op: ir.Apply, x: Passed) -> Passed:
    return replace(x, sigma=cast(Nonlinearity, op.fn))


@_PASSED.of(ir.Normalize)
def _passed_normalize(walk: _Passing, op: ir.Normalize, x: Passed) -> Passed:
    return replace(x, normalized=True)


@_PASSED.of(ir.Dropout)
def _passed_dropout(walk: _Passing, op: ir.Dropout, x: Passed) -> Passed:
    return replace(x, keep=x.keep * walk.params[op.keep])


_SIGNALS = Rules("the size of a signal and of its gradient")


@dataclass
class _Walk(Pass[Signal]):
    tallies: dict[Group, Tally]
    params: tuple[float, ...] = ()
    rules = _SIGNALS

    def step(self, op: ir.Op, xs: list[Signal], done: list[Signal]) -> Signal:
        after = super().step(op, xs, done)
        return replace(after, passed=_Passing(self.params).step(op, [xs[0].passed], []))


@_SIGNALS.of(ir.Apply)
def _apply(walk: _Walk, op: ir.Apply, x: Signal) -> Signal:
    at = averages(op.fn, x.K)
    slope = _log(float(at.slope_square[0]))
    K = float(at.square[0])
    return replace(x, K=K, log_J=x.log_J + slope, K_before=x.K, log_slope=slope)


@_SIGNALS.of(ir.Normalize)
def _normalize(walk: _Walk, op: ir.Normalize, x: Signal) -> Signal:
    norm = x.K + walk.params[op.eps]
    return replace(x, K=x.K / norm, log_J=x.log_J - _log(norm))


@_SIGNALS.of(ir.Dropout)
def _dropout(walk: _Walk, op: ir.Dropout, x: Signal) -> Signal:
    keep = walk.params[op.keep]
    return replace(x, K=x.K / keep, log_J=x.log_J - _log(keep))


@_SIGNALS.of(ir.Dense)
def _dense(walk: _Walk, op: ir.Dense, x: Signal) -> Signal:
    b_std = 0.0 if op.b is None else walk.params[op.b]
    C_b, C_W, before = b_std**2, walk.params[op.W] ** 2, x.passed
    K = C_b + C_W * x.K
    if before.sigma is not None:
        label = repr(before.sigma)
        key = Group(label, before.sigma, C_b, C_W, before.normalized, before.keep)
        growth = _log(K / x.K_before)
        # The next normalisation divides by the variance, and so the gradient.
        gain = x.log_slope + _log(C_W / before.keep) - (growth if before.normalized else 0.0)
        _count(walk.tallies, key, Tally(x.K_before, K, 1, gain, growth))
    if x.first is None:
        return Signal(K, 0.0, K)
    return Signal(K, x.log_J + _log(C_W), x.first)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _repeat(block: Layer, n: int, x: Signal, tallies: dict[Group, Tally]) -> Signal:
    for turn in range(n):
        inner: dict[Group, Tally] = {}
        after = propagate(block, x, inner)
        names = ("K", "log_J", "K_before", "log_slope")
        alike = after == replace(x, **{name: getattr(after, name) for name in names})
        settled = alike and abs(after.K - x.K) <= _SETTLED * x.K
        times = n - turn if settled else 1
        for key, tally in inner.items():
            _count(tallies, key, tally, times)
        gain = after.log_J - x.log_J if math.isfinite(x.log_J) else 0.0
        x = replace(after, log_J=after.log_J + (times - 1) * gain) if times > 1 else after
        if settled:
            break
    return x


def _residual(layer: Residual, x: Signal, tallies: dict[Group, Tally]) -> Signal:
    """Variances and mean-square derivatives of independent branches add up."""
    start = replace(x, log_J=0.0)
    inner: dict[Group, Tally] = {}
    parts = [propagate(part, start, inner) for part in (layer.block, layer.shortcut)]
    K = sum(part.K for part in parts)
    gain = float(np.logaddexp(parts[0].log_J, parts[1].log_J))
    label = f"residual({', '.join(key.label for key in inner)})"
    new = Tally(x.K, K, 1, gain, _log(K / x.K))
    keep = math.prod(key.keep for key in inner)
    _count(tallies, Group(label, keep=keep), new)
    # On the input itself, the branches are the first layers of the network.
    return Signal(K, 0.0, K) if x.first is None else Signal(K, x.log_J + gain, x.first)
