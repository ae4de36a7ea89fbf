"""Networks at criticality: the same layers with other variances of weights and biases."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.nn.base import Layer, Nonlinearity
from kernreg.nn.combinators import Repeat, Residual, Serial
from kernreg.nn.layers import Dense
from kernreg.nn.presets import Mlp
from kernreg.operators.inputs import check_network
from kernreg.theory.checks import check_number
from kernreg.theory.criticality.critical_point import critical
from kernreg.theory.criticality.phases import edge_of_chaos
from kernreg.theory.criticality.propagation import Passed, behind_layer
from kernreg.theory.criticality.single_input import averages

__all__ = ["tune"]

# Where the error message looks for an edge of chaos to offer.
_OFFERS = (0.1, 1.0, 0.01)


def tune(net: Layer | str, *, input_norm: float = 1.0, C_b: float | None = None) -> Layer:
    """The network at criticality, so that signals and gradients pass its depth.

    Every ``Dense`` layer gets new ``W_std`` and ``b_std``; nothing else changes. What a ``Dense``
    layer gets depends on what it follows:

    - a nonlinearity: the critical point of that nonlinearity (see
      :func:`kernreg.theory.criticality.critical`);
    - the input: what brings ``<x, x> / d = input_norm`` to the fixed point ``K*`` of the
      nonlinearities, or to variance 1 where they have none ("scale-invariant", "K*=0");
    - another ``Dense`` layer: ``W_std = 1`` and no bias, which keeps the variance;
    - dropout: in addition ``W_std^2`` is multiplied by ``keep_prob``.

    A nonlinearity behind ``LayerNorm`` sees variance 1 whatever the weights are. The layer after
    it is put on the edge of chaos of that variance: ``C_W = 1 / <sigma'^2>``,
    ``C_b = 1 - C_W <sigma^2>``.

    In a residual block ``z + branch(z)`` the norm cannot be kept: it grows by what the branch
    adds. The branch is tuned as above, and its last ``Dense`` layer is scaled by
    ``1 / sqrt(L)``, with ``L`` the number of residual blocks. Then ``K -> K (1 + 1 / L)`` for
    ReLU, a growth of at most ``e`` at any depth, and the kernel has a limit as ``L`` grows; with
    ``1 / L`` it would be that of a linear network.

    Parameters
    ----------
    net : Layer
        Of layers in series, ``repeat`` and ``residual``, without ``parallel``.
    input_norm : float
        ``<x, x> / d`` of the inputs, > 0: their mean square, 1 for standardised ones.
    C_b : float, optional
        Use the edge of chaos with this variance of the biases instead of the critical point: for
        nonlinearities that have none.

    Returns
    -------
    Layer
        An ``mlp`` whose first layer needs other numbers than the rest, or a ``repeat`` whose first
        turn does, comes back written out as ``serial``. Layers without bias keep ``b_std=None``
        where ``C_b = 0``.

    Raises
    ------
    NetworkError
        If a nonlinearity has no critical point, if two need different variances, or if the
        network has other layers than those above.
    InvalidInputError
        If ``input_norm`` or ``C_b`` is out of range, or if there is no edge of chaos at ``C_b``.

    Notes
    -----
    The class "K*=0", such as tanh, keeps no norm even at its critical point: the variance decays
    as ``1 / l``, but not exponentially, and gradients with it.

    References
    ----------
    Roberts, Yaida, Hanin, "The Principles of Deep Learning Theory" (2022), chapter 5; for the
    scale of residual branches Hayou, Clerico, He, Deligiannidis, Doucet, Rousseau, "Stable
    ResNet" (2021).

    Examples
    --------
    >>> from kernreg import nn
    >>> tune(nn.serial(nn.Dense(3.0, 0.5), nn.Relu(), nn.Dense()))
    serial(Dense(), Relu(), Dense(W_std=1.4142135623730951))
    >>> tune(nn.mlp(depth=50, activation=nn.Tanh()))
    mlp(depth=50, activation=Tanh(), W_std=1.0, b_std=0.0)
    """
    net = check_network(net)
    net.program()  # raises if the network does not fit together
    norm = check_number("input_norm", input_norm, strict=True)
    tuner = _Tuner(norm, None if C_b is None else check_number("C_b", C_b))
    tuner.survey(net, Passed(of_input=True), 1)
    return tuner.rewrite(net, Passed(of_input=True), 1.0)[0]


@dataclass(frozen=True)
class _Point:
    """Variances behind a nonlinearity, and the variance it needs; None: it takes any."""

    C_b: float
    C_W: float
    K: float | None
    kind: str


_ANY = _Point(0.0, 1.0, None, "any")


class _Tuner:
    def __init__(self, input_norm: float, C_b: float | None) -> None:
        self.input_norm, self.edge_C_b = input_norm, C_b
        self.points: dict[tuple[Nonlinearity, bool], _Point] = {}
        self.residuals = 0

    def survey(self, layer: Layer, signal: Passed, times: int) -> Passed:
        """Count the residual blocks and collect the points of all nonlinearities."""
        match layer:
            case Serial(layers):
                for part in layers:
                    signal = self.survey(part, signal, times)
                return signal
            case Mlp():
                return self.survey(layer.layers(), signal, times)
            case Repeat(block, n):
                # The second turn may find another signal than the first.
                for turns in [1, int(n) - 1][: int(n)]:
                    signal = self.survey(block, signal, times * turns)
                return signal
            case Residual(block, shortcut):
                self.residuals += times
                self.survey(block, signal, times)
                self.survey(shortcut, signal, times)
                return Passed()
            case Nonlinearity():
                self._add(layer, signal.normalized)
        return behind_layer(layer, signal)

    def _add(self, sigma: Nonlinearity, normalized: bool) -> None:
        if (sigma, normalized) in self.points:
            return
        new = _normalized_point(sigma) if normalized else _point(sigma, self.edge_C_b)
        for (other, _), old in self.points.items():
            if not _compatible(new, old):
                raise NetworkError(
                    f"{sigma!r} needs variance K* = {new.K:.6g}, but {other!r} needs {old.K:.6g}: "
                    "no initialisation suits both. Use nonlinearities with the same K*, or "
                    "LayerNorm before each of them."
                )
        self.points[sigma, normalized] = new

    def rewrite(self, layer: Layer, signal: Passed, share: float) -> tuple[Layer, Passed]:
        """The tuned layer, whose last ``Dense`` has its variances multiplied by ``share``."""
        match layer:
            case Dense():
                return self._dense(layer, signal, share), Passed()
            case Serial(layers):
                parts = list(layers)
                last = max((i for i, part in enumerate(parts) if not part.passes()), default=-1)
                for i, part in enumerate(parts):
                    parts[i], signal = self.rewrite(part, signal, share if i == last else 1.0)
                return Serial(tuple(parts)), signal
            case Mlp():
                spelled, signal = self.rewrite(layer.layers(), signal, share)
                return _as_mlp(layer, spelled), signal
            case Repeat(block, n):
                return self._repeat(block, int(n), signal, share)
            case Residual(block, shortcut):
                inner, _ = self.rewrite(block, signal, share / self.residuals)
                outer, _ = self.rewrite(shortcut, signal, share)
                return Residual(inner, outer), Passed()
        return layer, behind_layer(layer, signal)

    def _repeat(self, block: Layer, n: int, signal: Passed, share: float) -> tuple[Layer, Passed]:
        """Turns that differ from the rest, the first one or a scaled last one, are written out."""
        turns: list[Layer] = []
        while len(turns) < n:
            left = n - 1 - len(turns)
            tuned, after = self.rewrite(block, signal, 1.0 if left else share)
            turns += [tuned] * (left if left and after == signal else 1)
            signal = after
        parts: list[Layer] = []
        while turns:
            count = next((i for i, turn in enumerate(turns) if turn != turns[0]), len(turns))
            parts.append(turns[0] if count == 1 < n else Repeat(turns[0], count))
            turns = turns[count:]
        if len(parts) > 1:
            return Serial(tuple(parts)), signal
        return (parts[0] if parts else Repeat(block, n)), signal

    def _dense(self, layer: Dense, signal: Passed, share: float) -> Dense:
        C_b, C_W = 0.0, 1.0
        if signal.sigma is not None:
            point = self.points[signal.sigma, signal.normalized]
            C_b, C_W = point.C_b, point.C_W
        elif signal.of_input:
            needs = next((p for p in self.points.values() if p.K), _ANY)
            C_b = 0.0 if needs.kind == "normalized" else needs.C_b
            C_W = ((needs.K or 1.0) - C_b) / self.input_norm
        C_b, C_W = C_b * share, C_W * share * signal.keep
        b_std = None if layer.b_std is None and C_b == 0 else math.sqrt(C_b)
        return replace(layer, W_std=math.sqrt(C_W), b_std=b_std)


def _point(sigma: Nonlinearity, C_b: float | None) -> _Point:
    """The critical point, or the edge of chaos at ``C_b``."""
    found = critical(sigma)
    if C_b is not None:
        edge = edge_of_chaos(sigma, C_b)
        K = None if C_b == 0 and found.kind == "scale-invariant" else edge.K
        return _Point(C_b, edge.C_W, K, "edge")
    if found.C_b is None or found.C_W is None:
        raise NetworkError(
            f"{sigma!r} has no critical initialisation: {found.reason}. {_offer(sigma)}"
        )
    return _Point(found.C_b, found.C_W, found.K, found.kind)


def _offer(sigma: Nonlinearity) -> str:
    for C_b in _OFFERS:
        try:
            edge = edge_of_chaos(sigma, C_b)
        except InvalidInputError:
            continue
        return (
            f"The edge of chaos keeps gradients and correlations: tune(net, C_b={C_b:g}) sets "
            f"C_W = {edge.C_W:.6g}, at variance K* = {edge.K:.6g}."
        )
    return "It has no stable edge of chaos either: use another nonlinearity."


def _normalized_point(sigma: Nonlinearity) -> _Point:
    """The edge of chaos at variance 1, which a layer normalisation keeps."""
    at = averages(sigma, 1.0)
    slope_square = float(at.slope_square[0])
    C_W = 1.0 / slope_square if slope_square else math.inf
    C_b = 1.0 - C_W * float(at.square[0])
    if C_b < -1e-12:
        raise NetworkError(
            f"{sigma!r} behind LayerNorm has no edge of chaos: <sigma'^2> < <sigma^2> at variance "
            "1, so gradients vanish for any variances of weights and biases. Use another "
            "nonlinearity."
        )
    return _Point(max(C_b, 0.0), C_W, 1.0, "normalized")


def _compatible(a: _Point, b: _Point) -> bool:
    if a.K is None or b.K is None or abs(a.K - b.K) <= 1e-9 * max(a.K, b.K):
        return True
    # A variance that decays to 0 may start from any.
    return {a.kind, b.kind} == {"K*=0", "normalized"}


def _as_mlp(layer: Mlp, spelled: Layer) -> Layer:
    """``spelled`` as an ``mlp``, if all its dense layers are the same."""
    if isinstance(spelled, Serial) and isinstance(dense := spelled.layers[0], Dense):
        preset = replace(layer, W_std=dense.W_std, b_std=dense.b_std)
        if preset.layers() == spelled:
            return preset
    return spelled
