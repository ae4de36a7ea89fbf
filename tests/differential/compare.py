"""The kernels of a random network beside the recursion of 60 digits."""

from __future__ import annotations

import itertools
import random
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpmath import mp, mpf

import kernreg
from kernreg import nn
from kernreg.exceptions import InvalidInputError
from tests.differential.networks import Case
from tests.differential.recursion import DIGITS, Kernels, exact_kernels

__all__ = ["Failure", "compare"]

FLOAT64, FLOAT32, EQUAL = 1e-10, 5e-6, 1e-13
KERNELS = ("nngp", "ntk")

# An operation rounds several times. One trial in two moves two nearly equal rows alike.
_ROUNDINGS, _TRIALS = 64, 16


@dataclass(frozen=True)
class Failure:
    """What does not hold, and by how much."""

    kind: str
    value: float
    text: str

    def __str__(self) -> str:
        return f"{self.kind} {self.value:.1e} ({self.text})"


def compare(case: Case) -> list[Failure]:
    """All that is wrong with the kernels of ``case``."""
    digits = DIGITS
    while True:
        with mp.workdps(digits):
            want = _exact(case, case.X)
            # Formulas in covariances lose the digits that variances have before the point.
            large = want.high if mp.isfinite(want.high) else mpf(10) ** 400
            needed = DIGITS + 2 * max(0, int(mp.ceil(mp.log10(large + 1))))
            if needed <= digits or digits > 1000:
                return _failures(case, want)
        digits = min(needed, 1001)


def _exact(case: Case, X: Any) -> Kernels:
    """The recursion; infinite where its numbers leave the exponents of mpmath."""
    try:
        return exact_kernels(case.net, [[mpf(v) for v in row] for row in X.tolist()])
    except (OverflowError, ZeroDivisionError):
        huge = dict.fromkeys(itertools.product(range(len(X)), repeat=2), mp.inf)
        return Kernels(huge, huge, mpf(0), mp.inf)


def _failures(case: Case, want: Kernels) -> list[Failure]:
    found: list[Failure] = []
    allowed: dict[str, np.ndarray] | None = None
    for dtype, bound in (("float64", FLOAT64), ("float32", FLOAT32)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got = kernreg.gram(case.net, case.X, kernel=KERNELS, dtype=dtype)
        except InvalidInputError as error:
            if not _must_refuse(case, want, dtype):
                found.append(Failure(f"{dtype} refused", 0.0, str(error)))
            continue
        except Exception as error:
            found.append(Failure(f"{dtype} crash", 0.0, f"{type(error).__name__}: {error}"))
            continue
        for kernel in KERNELS:
            K = getattr(got, kernel)
            if not np.isfinite(K).all():
                found.append(Failure(f"{dtype} not finite", 0.0, kernel))
                continue
            if _outside(want, kernel, dtype):
                if not K.any():
                    found.append(Failure(f"{dtype} not refused", 0.0, kernel))
                continue
            error = _errors(K, want, kernel)
            if error.max() > bound and allowed is None:
                allowed = _amplified(case, want)
            limit = bound if allowed is None else np.maximum(bound, allowed[kernel])
            if bool((error > limit).any()):
                i, j = np.unravel_index(np.argmax(error / limit), error.shape)
                text = f"{kernel} of rows {i} and {j}"
                found.append(Failure(dtype, float(error[i, j]), text))
            if dtype == "float64" and not _has_dropout(case.net):
                found += _unequal(case, K, kernel)
    return found


def _errors(K: np.ndarray, want: Kernels, kernel: str) -> np.ndarray:
    """``|K - exact| / sqrt(K_ii K_jj)``; 0 / 0 is 0, anything else over 0 is infinite.

    Numbers below the smallest normal one of the result lose digits, or all of them.
    """
    out, tiny = np.zeros(K.shape), mpf(float(np.finfo(K.dtype).tiny))
    for (i, j), exact in getattr(want, kernel).items():
        difference, size = abs(mpf(float(K[i, j])) - exact), want.size(kernel, i, j)
        if difference > (tiny if size < tiny else 0):
            out[i, j] = out[j, i] = float(difference / size) if size != 0 else np.inf
    return out


def _amplified(case: Case, want: Kernels) -> dict[str, np.ndarray]:
    """What changes of one unit of rounding, in the rows and at each layer, make of the kernels."""
    r = random.Random(case.seed)
    worst = {k: np.zeros((len(case.X), len(case.X))) for k in KERNELS}

    def rounding() -> Any:
        return r.choice([-1, 1]) * mpf(2) ** -53

    for _ in range(_TRIALS):
        X = [[mpf(float(v)) * (1 + rounding()) for v in x] for x in case.X]
        moved = exact_kernels(case.net, X, rounding)
        for kernel in KERNELS:
            for (i, j), value in getattr(moved, kernel).items():
                size, change = want.size(kernel, i, j), abs(value - getattr(want, kernel)[i, j])
                if size != 0:
                    share = _ROUNDINGS * float(change / size)
                    worst[kernel][i, j] = worst[kernel][j, i] = max(worst[kernel][i, j], share)
    return worst


def _unequal(case: Case, K: np.ndarray, kernel: str) -> list[Failure]:
    """Equal rows whose entry is not that of a row with itself."""
    out = []
    for i, j in case.equal:
        if K[i, i] > 0 and (off := abs(K[i, j] / K[i, i] - 1)) > EQUAL:
            out.append(Failure("equal rows", float(off), f"{kernel} of rows {i} and {j}"))
    return out


def _outside(want: Kernels, kernel: str, dtype: str) -> bool:
    """Whether the largest entry is beyond the full precision of ``dtype``."""
    K = getattr(want, kernel)
    info = np.finfo(dtype)
    top = max(abs(v) for v in K.values())
    return bool(top > float(info.max)) or bool(0 < top < float(info.tiny))


def _must_refuse(case: Case, want: Kernels, dtype: str) -> bool:
    """Whether a kernel, or a variance on the way, cannot be represented."""
    far = bool(want.high > mpf(10) ** 300) or bool(want.low < mpf(10) ** -300)
    zero_row = bool((case.X == 0).all(axis=1).any()) and "standard" in repr(case.net)
    return far or zero_row or any(_outside(want, kernel, dtype) for kernel in KERNELS)


def _has_dropout(net: Any) -> bool:
    return nn.Dropout.__name__ in repr(net)
