"""How deep a given network can be and still train."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kernreg.nn.base import Layer, Nonlinearity
from kernreg.operators.inputs import check_network
from kernreg.theory.checks import check_number
from kernreg.theory.criticality.fixed_points import ONE, correlation_fixed_point, depth_scale
from kernreg.theory.criticality.phases import phase_from
from kernreg.theory.criticality.propagation import Group, Signal, Tally, propagate
from kernreg.theory.criticality.single_input import Averages, averages
from kernreg.wording import aligned

__all__ = ["Block", "Report", "report"]

# Depth scales that a network may be deep (Schoenholz et al. 2017, figure 5).
_SCALES = 6.0


@dataclass(frozen=True)
class Block:
    """All layers of a network with one nonlinearity and one initialisation.

    Parameters
    ----------
    label : str
        The nonlinearity, or the residual block.
    depth : int
        Number of such layers.
    C_b, C_W : float or None
        Variances of biases and weights behind it, ``C_W`` over ``keep_prob`` of a dropout; None
        for residual blocks.
    K_in, K_out : float
        Variance of the preactivation before the first and after the last of them.
    phase : str
        As in :class:`kernreg.theory.criticality.Phase`, or "residual".
    chi_par : float or None
        Susceptibility of the norm at the fixed point; 0 behind ``LayerNorm``, None for residual
        blocks and where the variance is unbounded.
    chi_perp : float
        Growth of the mean-square gradient per layer at the fixed point; on average over the layers
        behind ``LayerNorm``, where it is relative to the variance, and where ``chi_par`` is None.
    c_star : float or None
        Correlation that two inputs tend to; None where ``chi_par`` is.
    xi_par, xi_c : float or None
        Depth scales of norm and correlation.
    limit : float
        Depth up to which such layers train: six times the shorter one of ``xi_c`` and
        ``1 / |ln chi_perp|``.
    verdict : str
        In words.
    """

    label: str
    depth: int
    C_b: float | None
    C_W: float | None
    K_in: float
    K_out: float
    phase: str
    chi_par: float | None
    chi_perp: float
    c_star: float | None
    xi_par: float | None
    xi_c: float | None
    limit: float
    verdict: str


@dataclass(frozen=True)
class Report:
    """What depth does to a network; made by :func:`report`.

    Parameters
    ----------
    blocks : tuple of Block
        In the order in which signals meet them.
    depth : int
        Number of nonlinear layers, a residual block counted as one.
    K_in, K_out : float
        Variance of the first preactivations and of the output.
    log_gradient : float
        Natural logarithm of the mean-square derivative of an output by a first preactivation,
        summed over the latter.
    used : float
        Sum of ``depth / limit`` over the blocks.
    trains : bool
        Whether ``used <= 1``.

    Examples
    --------
    >>> from kernreg import nn
    >>> found = report(nn.mlp(depth=20, activation=nn.Relu(), W_std=2**0.5, b_std=0.0))
    >>> found.depth, round(found.K_out, 6), found.trains, round(found.used, 2)
    (20, 2.0, True, 0.0)
    """

    blocks: tuple[Block, ...]
    depth: int
    K_in: float
    K_out: float
    log_gradient: float
    used: float
    trains: bool

    def __str__(self) -> str:
        head = ["layer", "depth", "phase", "C_b", "C_W", "K in", "K out"]
        head += ["chi_par", "chi_perp", "c*", "xi_par", "xi_c", "limit"]
        rows = []
        for b in self.blocks:
            numbers = (b.C_b, b.C_W, b.K_in, b.K_out, b.chi_par, b.chi_perp, b.c_star)
            scales = (b.xi_par, b.xi_c, b.limit)
            shown = [*(_text(v, 5) for v in numbers), *(_text(v, 4) for v in scales)]
            rows.append([b.label, str(b.depth), b.phase, *shown])
        lines = aligned(head, rows)
        lines += [f"{b.label}: {b.verdict}" for b in self.blocks]
        lines.append(
            f"depth {self.depth}: variance {self.K_in:.4g} -> {self.K_out:.4g}, squared gradients "
            f"times {_power(self.log_gradient)}; "
            f"{'trains' if self.trains else 'too deep to train'}"
        )
        return "\n".join(line.rstrip() for line in lines)


def _text(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def report(net: Layer | str, *, input_norm: float = 1.0) -> Report:
    """How deep a network can be and still train, by its phases.

    Parameters
    ----------
    net : Layer
        Of layers in series, ``repeat`` and ``residual``, without ``parallel``.
    input_norm : float
        ``<x, x> / d`` of the inputs, > 0.

    Returns
    -------
    Report
        ``print`` shows a table.

    Raises
    ------
    NetworkError
        If the network has other layers than those above.
    InvalidInputError
        If ``input_norm`` is out of range, or the variance grows beyond what can be averaged.

    Notes
    -----
    A network trains if neither correlations nor gradients change by more than ``e^6`` on the way:
    Schoenholz et al. found that networks train up to about six ``xi_c``; the same bound is put on
    gradients. A dropout counts with the scale ``-1 / ln c(1)``, where ``c(1) < 1`` is the
    correlation of two passes of one input after a layer; within residual blocks and where the
    variance is unbounded it is not counted, and the verdict says so. About 3 milliseconds per
    layer until the variance has settled, and up to a second per nonlinearity.

    References
    ----------
    Schoenholz, Gilmer, Ganguli, Sohl-Dickstein, "Deep information propagation" (2017), sections 3
    and 5; Yang, Schoenholz, "Mean field residual networks" (2017).

    Examples
    --------
    >>> from kernreg import nn
    >>> found = report(nn.mlp(depth=50, activation=nn.Erf(), W_std=0.9, b_std=0.3))
    >>> found.trains, found.blocks[0].phase, round(found.blocks[0].limit, 1)
    (False, 'ordered', 17.5)
    """
    net = check_network(net)
    net.program()  # raises if the network does not fit together
    norm = check_number("input_norm", input_norm, strict=True)
    tallies: dict[Group, Tally] = {}
    end = propagate(net, Signal(norm), tallies)
    first = end.K if end.first is None else end.first
    blocks = tuple(_block(key, tally) for key, tally in tallies.items())
    used = sum(b.depth / b.limit if b.limit else math.inf for b in blocks)
    depth = sum(b.depth for b in blocks)
    return Report(blocks, depth, first, end.K, end.log_J, used, used <= 1.0)


def _block(key: Group, tally: Tally) -> Block:
    if key.sigma is None:
        return _averaged_block(key, tally, "residual")
    if key.normalized:
        return _normalized_block(key, key.sigma, tally)
    found = phase_from(key.sigma, key.C_b, key.C_W, tally.K_in)
    if found.phase == "unbounded":
        return _averaged_block(key, tally, found.phase)
    dropout = math.inf
    if found.K_star > 0:
        dropout = _dropout_scale(key, averages(key.sigma, found.K_star))
    return _made(
        key,
        tally,
        found.phase,
        chi_perp=found.chi_perp,
        xi_c=found.xi_c,
        dropout=dropout,
        chi_par=found.chi_par,
        c_star=found.c_star,
        xi_par=found.xi_par,
    )


def _normalized_block(key: Group, sigma: Nonlinearity, tally: Tally) -> Block:
    chi_perp = math.exp(tally.log_gain / tally.depth)
    c_star, slope = correlation_fixed_point(sigma, key.C_b, key.C_W, tally.K_in)
    return _made(
        key,
        tally,
        "edge" if abs(chi_perp - 1.0) <= ONE else "ordered" if chi_perp < 1.0 else "chaotic",
        chi_perp=chi_perp,
        xi_c=depth_scale(slope),
        dropout=_dropout_scale(key, averages(sigma, tally.K_in)),
        chi_par=0.0,
        c_star=c_star,
        xi_par=0.0,
    )


def _averaged_block(key: Group, tally: Tally, phase: str) -> Block:
    """A block whose variance goes on growing: no fixed point, but averages over its layers."""
    chi_perp = math.exp(tally.log_gain / tally.depth)
    # Squared distances grow by chi_perp, squared norms by their own factor.
    xi_c = _scale(math.exp((tally.log_gain - tally.log_growth) / tally.depth))
    return _made(key, tally, phase, chi_perp=chi_perp, xi_c=xi_c)


def _made(
    key: Group,
    tally: Tally,
    phase: str,
    *,
    chi_perp: float,
    xi_c: float,
    dropout: float = math.inf,
    chi_par: float | None = None,
    c_star: float | None = None,
    xi_par: float | None = None,
) -> Block:
    limit = _SCALES * min(xi_c, _scale(chi_perp), dropout)
    return Block(
        label=f"{key.label} normalized" if key.normalized else key.label,
        depth=tally.depth,
        C_b=None if key.sigma is None else key.C_b,
        C_W=None if key.sigma is None else key.C_W,
        K_in=tally.K_in,
        K_out=tally.K_out,
        phase=phase,
        chi_par=chi_par,
        chi_perp=chi_perp,
        c_star=c_star,
        xi_par=xi_par,
        xi_c=xi_c,
        limit=limit,
        verdict=_verdict(phase, key, tally, limit),
    )


def _scale(factor: float) -> float:
    """Layers in which something that is multiplied by ``factor`` changes by ``e``."""
    if factor <= 0 or math.isinf(factor):
        return 0.0
    return math.inf if abs(factor - 1.0) <= ONE else 1.0 / abs(math.log(factor))


def _dropout_scale(key: Group, at: Averages) -> float:
    """Layers in which two passes of one input lose their correlation to dropout."""
    shared = key.C_b + key.W_square * float(at.square[0])
    return depth_scale(shared / (shared + key.W_square * float(at.square[0]) * (1 / key.keep - 1)))


_MEANING = {
    "ordered": "inputs become alike and gradients vanish",
    "chaotic": "inputs become unlike and gradients explode",
    "edge": "gradients and correlations pass, and the norm settles",
    "critical": "norms, gradients and correlations change as a power of depth at most",
    "unbounded": "the variance has no fixed point and grows",
    "unstable": "the variance starts at an unstable fixed point",
    "residual": "signals add up from block to block",
}


def _verdict(phase: str, key: Group, tally: Tally, limit: float) -> str:
    trains = "trains" if tally.depth <= limit else "too deep to train"
    far = "at any depth" if math.isinf(limit) else f"up to depth {limit:.3g}"
    text = f"{trains} (depth {tally.depth}, {far}): {_MEANING[phase]}"
    if key.keep < 1.0 and phase in ("residual", "unbounded"):
        text += "; that dropout separates two passes of one input is not counted"
    elif key.keep < 1.0:
        text += "; dropout separates two passes of one input"
    return f"{text}; squared gradients times {_power(tally.log_gain)}"


def _power(log: float) -> str:
    """``e^log`` as a power of 10."""
    return f"10^{round(log / math.log(10.0), 2) + 0.0:.4g}"
