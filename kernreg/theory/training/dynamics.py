"""How gradient descent on squared error moves along an eigenvector of the kernel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernreg.exceptions import InvalidInputError

__all__ = ["Dynamics", "above_rounding", "largest_learning_rate"]

Floats = NDArray[np.float64]

# Below this share of a period an oscillation is its Taylor polynomial.
_EARLY = 1e-3


@dataclass(frozen=True)
class Dynamics:
    """Training by gradient flow, or by steps of gradient descent, with or without momentum.

    The loss is half the sum of squared errors; for their mean over N numbers the learning rate is
    divided by N.

    Parameters
    ----------
    learning_rate : float, default=1.0
        Positive.
    momentum : float, default=0.0
        From 0 to below 1: ``f_{t+1} - f_t = momentum (f_t - f_{t-1}) - learning_rate K dL/df``.
    discrete : bool, default=False
        Whether training is by steps; by flow, time is counted in steps of the same learning rate.

    Raises
    ------
    InvalidInputError
        If a number is out of range.

    Notes
    -----
    With eigenvalue ``a`` and learning rate ``r`` the share of the initial residual that is left at
    time t is ``exp(-r a t)`` for flow and ``(1 - r a)^t`` for steps. With momentum m it is the
    solution of ``f'' + (1 - m) f' + r a f = 0``, time in steps, or of its difference equation.

    References
    ----------
    Lee et al., "Wide neural networks of any depth evolve as linear models under gradient descent"
    (2019), section 2.

    Examples
    --------
    >>> flow = Dynamics(learning_rate=0.1)
    >>> np.round(flow.residual([1.0, 10.0], 1.0), 4).tolist()
    [0.9048, 0.3679]
    >>> steps = Dynamics(learning_rate=0.1, discrete=True)
    >>> steps.residual([1.0, 10.0], 2).tolist()
    [0.81, 0.0]
    """

    learning_rate: float = 1.0
    momentum: float = 0.0
    discrete: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < np.inf:
            raise InvalidInputError(
                f"expected a finite learning_rate > 0, found {self.learning_rate!r}"
            )
        if not 0 <= self.momentum < 1:
            raise InvalidInputError(f"expected momentum from 0 to below 1, found {self.momentum!r}")

    def gained(self, values: ArrayLike, time: float) -> Floats:
        """What is learned of each mode, over its eigenvalue: ``(1 - residual) / values``.

        Parameters
        ----------
        values : array-like of shape (n,)
            Eigenvalues, ridge included; not negative beyond rounding, which counts as 0.
        time : float
            Not negative; may be infinite. A whole number if training is by steps.

        Returns
        -------
        ndarray of shape (n,)
            Infinite where nothing stops growing: for eigenvalue 0 at infinite time, and for steps
            above the largest learning rate.

        Raises
        ------
        InvalidInputError
            If time is negative, or no whole number of steps.
        """
        modes = np.maximum(np.asarray(values, dtype=np.float64), 0.0)
        time = self._checked(time)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if time == np.inf:
                shrinks = self.learning_rate * modes < largest_learning_rate(1.0, self.momentum)
                return np.where(shrinks | (not self.discrete), 1.0 / modes, np.inf)
            if self.discrete:
                return self._steps(modes, int(time))
            if self.momentum:
                return self._heavy_ball(modes, time)
            rate = self.learning_rate * time
            return np.where(modes * rate > 0, -np.expm1(-modes * rate) / modes, rate)

    def residual(self, values: ArrayLike, time: float) -> Floats:
        """Share of the initial residual that is left of each mode; see :meth:`gained`.

        Parameters
        ----------
        values : array-like of shape (n,)
            Eigenvalues, ridge included.
        time : float
            As for :meth:`gained`.

        Returns
        -------
        ndarray of shape (n,)
        """
        modes = np.maximum(np.asarray(values, dtype=np.float64), 0.0)
        if not self.discrete and not self.momentum:
            return np.exp(-self.learning_rate * self._checked(time) * modes)
        return 1.0 - modes * self.gained(modes, time)

    def _checked(self, time: float) -> float:
        if not time >= 0:
            raise InvalidInputError(f"expected a time >= 0, found {time!r}")
        if self.discrete and np.isfinite(time) and time != int(time):
            raise InvalidInputError(f"expected a whole number of steps, found {time!r}")
        return float(time)

    def _steps(self, modes: Floats, count: int) -> Floats:
        if not self.momentum:
            # Modes that shrink without changing sign keep all digits.
            shrink = self.learning_rate * modes
            slow = shrink < 0.5
            log = np.log1p(-np.where(slow, shrink, 0.0))
            smooth = np.where(
                shrink > 0, -np.expm1(count * log) / modes, count * self.learning_rate
            )
            return np.where(slow, smooth, (1.0 - (1.0 - shrink) ** count) / modes)
        return self._heavy_steps(modes, count)

    def _heavy_steps(self, modes: Floats, count: int) -> Floats:
        """From the roots of ``r^2 - 2 middle r + momentum``, as ``1 - r`` where r is near 1."""
        shrink, m = self.learning_rate * modes, self.momentum
        total, middle = 1.0 - m + shrink, (1.0 + m - shrink) / 2
        inner = total * total - 4 * shrink
        ahead = middle > 0
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            # Two real roots: the larger one, and how much of its power the other takes away.
            apart = np.sqrt(np.maximum(inner, 0.0))
            slow = 2 * shrink / (total + apart)
            root = np.where(ahead, 1.0 - slow, middle - apart / 2)
            power = count * np.log1p(-np.where(ahead, np.minimum(slow, 1.0), 0.0))
            learned = np.where(ahead, -np.expm1(power), 1.0 - root**count)
            ratio = apart / np.abs(root)
            spread = np.where(ratio > 0, -np.expm1(count * np.log1p(-ratio)) / ratio, count)
            spread = spread * root ** (count - 1)
            rest = np.where(ahead, slow, 1.0 - root) - shrink
            real = (learned - rest * spread) / modes
            # A pair of roots: their angle from the nearer end of the axis.
            size, sign = np.sqrt(m), np.where(ahead, 1.0, -1.0)
            angle = np.arctan2(np.sqrt(np.maximum(-inner, 0.0)) / 2, np.abs(middle))
            turned = np.where(angle > 0, np.sin(count * angle) / np.sin(angle), count)
            start = (1.0 - shrink - middle) / size
            swing = sign**count * (np.cos(count * angle) + sign * start * turned)
            swinging = (1.0 - size**count * swing) / modes
        flat = count + m * np.expm1(count * np.log(m)) / (1.0 - m)
        found = np.where(inner >= 0, real, swinging)
        return np.asarray(np.where(shrink > 0, found, self.learning_rate * flat / (1.0 - m)))

    def _heavy_ball(self, modes: Floats, time: float) -> Floats:
        """From the roots of ``s^2 + drag s + modes``, time in units of the root of the rate."""
        drag = (1.0 - self.momentum) / np.sqrt(self.learning_rate)
        t = np.sqrt(self.learning_rate) * time
        inner = drag * drag / 4 - modes
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = np.sqrt(np.maximum(inner, 0.0))
            slow = -modes / (drag / 2 + apart)
            # exp(fast t) - exp(slow t), over the difference of the roots.
            spread = np.where(
                apart > 0,
                np.exp(slow * t) * np.expm1(-2 * apart * t) / (-2 * apart),
                t * np.exp(slow * t),
            )
            damped = (-np.expm1(slow * t) + slow * spread) / modes
            flat = (t + np.expm1(-drag * t) / drag) / drag
            swing = np.sqrt(np.maximum(-inner, 0.0))
            left = np.exp(-drag * t / 2) * (
                np.cos(swing * t) + drag / 2 * t * np.sinc(swing * t / np.pi)
            )
            turning = (1.0 - left) / modes
        early = t * t / 2 * (1 - drag * t / 3 + (drag * drag - modes) * t * t / 12)
        turning = np.where(np.sqrt(modes) * t < _EARLY, early, turning)
        found = np.where(inner >= 0, np.where(modes > 0, damped, flat), turning)
        return np.asarray(found)


def largest_learning_rate(largest: float, momentum: float = 0.0) -> float:
    """Learning rate above which steps of gradient descent diverge.

    Parameters
    ----------
    largest : float
        Largest eigenvalue of the kernel, ridge included; the loss is half the sum of squares. For
        their mean over N numbers the result is N times as large.
    momentum : float, default=0.0
        Of the heavy ball.

    Returns
    -------
    float
        ``2 (1 + momentum) / largest``.

    Examples
    --------
    >>> largest_learning_rate(4.0), largest_learning_rate(4.0, momentum=0.5)
    (0.5, 0.75)
    """
    return 2.0 * (1.0 + momentum) / largest if largest > 0 else np.inf


def above_rounding(dynamics: Dynamics, values: Floats, ridge: float, time: float) -> Floats:
    """:meth:`Dynamics.gained`, and 0 where an eigenvalue and its ridge are rounding of the largest.

    Parameters
    ----------
    dynamics : Dynamics
        Of training.
    values : ndarray of shape (..., n)
        Eigenvalues.
    ridge : float
        What is added to them.
    time : float
        Of training.

    Examples
    --------
    >>> above_rounding(Dynamics(), np.array([-1e-17, 2.0]), 0.0, np.inf).tolist()
    [0.0, 0.5]
    """
    shifted = values + ridge
    noise = (
        values.shape[-1] * np.finfo(np.float64).eps * float(np.max(np.abs(shifted), initial=0.0))
    )
    known = shifted > noise
    found = np.zeros(values.shape)
    found[known] = dynamics.gained(shifted[known], time)
    return found
