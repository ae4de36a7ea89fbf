"""NNGP and NTK of networks of Dense and kinked layers in 60 digits, for pairs that the source
gets wrong: its float64 angle of nearly parallel rows is rounding noise."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np

from tests.golden.build import Arch

DIGITS = 60
# Rows of unit length are off by 1.5 eps each (norm and quotient), so their angle by 3 eps.
ROUNDING = 3 * float(np.finfo(np.float64).eps)


def covers(arch: Arch) -> bool:
    """Whether every layer has a rule here."""
    return all(layer["op"] in ("Dense", "Sign", "RectifiedMonomial") for layer in arch) and all(
        "parameterization" not in layer for layer in arch
    )


def kernel_of_pair(arch: Arch, x: np.ndarray, y: np.ndarray, turn: float = 0.0) -> dict[str, float]:
    """Both kernels of the rows ``x`` and ``y``, turned by an angle, from their definitions."""
    with mpmath.workdps(DIGITS):
        q, p1, p2 = (_inner(a, b) for a, b in ((x, y), (x, x), (y, y)))
        if turn:
            size = mpmath.sqrt(p1 * p2)
            angle = mpmath.acos(q / size) + turn if size else mpmath.mpf(0)
            q = size * mpmath.cos(min(max(angle, mpmath.mpf(0)), mpmath.pi))
        t = mpmath.mpf(0)
        for layer in arch:
            if layer["op"] == "Dense":
                W, b = mpmath.mpf(layer["W_std"]) ** 2, mpmath.mpf(layer["b_std"] or 0) ** 2
                q, p1, p2 = W * q + b, W * p1 + b, W * p2 + b
                t = q + W * t
            else:
                (q, slope), p1, p2 = (
                    _dual(layer, q, p1, p2),
                    _dual(layer, p1, p1, p1)[0],
                    _dual(layer, p2, p2, p2)[0],
                )
                t = t * slope
        return {"nngp": float(q), "ntk": float(t)}


def _inner(x: np.ndarray, y: np.ndarray) -> Any:
    return mpmath.fsum(mpmath.mpf(a) * mpmath.mpf(b) for a, b in zip(x, y, strict=True)) / len(x)


def _dual(layer: dict[str, Any], q: Any, p1: Any, p2: Any) -> tuple[Any, Any]:
    size = mpmath.sqrt(p1 * p2)
    if size == 0:
        return mpmath.mpf(0), mpmath.mpf(0)
    # The rounding of a ratio of 60 digits may pass 1.
    angle = mpmath.acos(max(min(q / size, mpmath.mpf(1)), mpmath.mpf(-1)))
    if layer["op"] == "Sign":
        return 1 - 2 * angle / mpmath.pi, mpmath.mpf(0)
    degree = layer["degree"]
    slope = degree**2 * size ** (degree - 1) * _cho_saul(degree - 1, angle) if degree else 0
    return size**degree * _cho_saul(degree, angle), mpmath.mpf(slope)


def _cho_saul(p: int, angle: Any) -> Any:
    """``J_p(angle) / 2 pi`` of Cho and Saul (2009), by the three-term recursion."""
    cos, sin = mpmath.cos(angle), mpmath.sin(angle)
    J = [mpmath.pi - angle, sin + (mpmath.pi - angle) * cos]
    for k in range(2, p + 1):
        J.append((2 * k - 1) * cos * J[k - 1] + (k - 1) ** 2 * sin**2 * J[k - 2])
    return J[p] / (2 * mpmath.pi)
