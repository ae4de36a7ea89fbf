"""Training on other losses than squared error: the outputs follow a differential equation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.integrate
import scipy.special
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.theory.training.dynamics import Dynamics

__all__ = ["LOSSES", "trajectory"]

Floats = NDArray[np.float64]

_POWERS = 8
# Eigenvalue times time from which an implicit method pays, as far as its Jacobian is small; and
# from which an explicit one has no end.
_STIFF, _JACOBIAN, _LONGEST = 1e3, 600, 1e6


def _cross_entropy(outputs: Floats, targets: Floats) -> Floats:
    total = targets.sum(axis=1, keepdims=True)
    return np.asarray(total * scipy.special.softmax(outputs, axis=1) - targets)


def _logistic(outputs: Floats, targets: Floats) -> Floats:
    return np.asarray(-targets * scipy.special.expit(-targets * outputs))


def _huber(outputs: Floats, targets: Floats) -> Floats:
    return np.clip(outputs - targets, -1.0, 1.0)


LOSSES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "mse": np.subtract,
    "cross_entropy": _cross_entropy,
    "logistic": _logistic,
    "huber": _huber,
}
"""Gradients by outputs, ``gradient(outputs, targets)``, of losses that are summed: half the squared
error; the cross-entropy of the softmax of a row of outputs to a row of probabilities;
``log(1 + exp(-y f))`` for labels of +1 and -1; the squared error up to 1, linear beyond."""


def trajectory(
    product: Callable[[Floats], Floats],
    gradient: Callable[[Floats, Floats], Floats],
    targets: Floats,
    times: Sequence[float],
    dynamics: Dynamics,
    *,
    start: Floats | None = None,
    ridge: float = 0.0,
    rtol: float = 1e-10,
) -> Floats:
    """Coefficients of the outputs at some times of training on any loss.

    The outputs of the network are ``f0(x) + T(x, X) c`` at every time, with coefficients c that are
    minus the gradients of the loss, added up.

    Parameters
    ----------
    product : callable
        ``T V`` for V of shape (n, t): the training kernel on the training rows.
    gradient : callable
        Of the loss by outputs, ``gradient(outputs, targets)``; see :data:`LOSSES`.
    targets : ndarray of shape (n, t)
        What the outputs are trained to.
    times : sequence of float
        Finite, not negative, in any order.
    dynamics : Dynamics
        Of training. Steps are taken one by one; flow is integrated by ``scipy``'s DOP853, or LSODA
        where it is stiff.
    start : ndarray of shape (n, t), optional
        Outputs f0 of the training rows before training; 0 if left out.
    ridge : float, default=0.0
        Penalty on the distance from the initial weights.
    rtol : float, default=1e-10
        Of the integration.

    Returns
    -------
    ndarray of shape (len(times), n, t)

    Raises
    ------
    InvalidInputError
        If a time is negative or infinite, outputs leave the range of numbers, or flow would take
        more than some million products.

    Notes
    -----
    A step of the integration takes 12 products; steps are as many as gradient descent at its
    largest learning rate would need, about.

    Examples
    --------
    >>> targets = np.array([[1.0], [-1.0]])
    >>> found = trajectory(lambda v: 2 * v, LOSSES["mse"], targets, [1.0], Dynamics())
    >>> bool(np.allclose(2 * found[0], (1 - np.exp(-2)) * targets))
    True
    """
    moments = np.asarray(times, dtype=np.float64)
    if not np.isfinite(moments).all() or (moments < 0).any():
        raise InvalidInputError(
            f"expected finite times >= 0 for this loss, found {np.asarray(times).tolist()}"
        )
    begin = np.zeros_like(targets) if start is None else np.asarray(start, dtype=np.float64)

    def downhill(coefficients: Floats) -> Floats:
        slope = gradient(begin + product(coefficients), targets)
        return np.asarray(-dynamics.learning_rate * (slope + ridge * coefficients))

    if dynamics.discrete:
        return _steps(downhill, targets.shape, moments, dynamics)
    stiffness = dynamics.learning_rate * moments.max(initial=0.0) * _largest(product, targets)
    return _flow(downhill, targets.shape, moments, dynamics, rtol, float(stiffness))


def _steps(
    downhill: Callable[[Floats], Floats],
    shape: tuple[int, ...],
    moments: Floats,
    dynamics: Dynamics,
) -> Floats:
    if (moments != np.floor(moments)).any():
        raise InvalidInputError(f"expected whole numbers of steps, found {moments.tolist()}")
    result = np.empty((len(moments), *shape))
    now, move = np.zeros(shape), np.zeros(shape)
    for step in range(int(moments.max(initial=0)) + 1):
        result[moments == step] = now
        if step == moments.max():
            break
        move = dynamics.momentum * move + downhill(now)
        now = now + move
        if not np.isfinite(now).all():
            raise InvalidInputError(
                f"training diverged at step {step + 1}: lower the learning rate"
            )
    return result


def _flow(
    downhill: Callable[[Floats], Floats],
    shape: tuple[int, ...],
    moments: Floats,
    dynamics: Dynamics,
    rtol: float,
    stiffness: float,
) -> Floats:
    size = int(np.prod(shape))
    stiff = stiffness > _STIFF
    if stiff and size > _JACOBIAN and stiffness > _LONGEST:
        raise InvalidInputError(
            f"flow for so long takes some {2 * stiffness:.0e} products with the kernel, as its "
            f"largest eigenvalue times learning rate and time is {stiffness:.0e}: take a shorter "
            "time, or steps"
        )
    order = np.unique(moments)

    def slope(_: float, state: Floats) -> Floats:
        push = downhill(state[:size].reshape(shape)).ravel()
        if not dynamics.momentum:
            return push
        move = state[size:]
        return np.concatenate([move, push - (1.0 - dynamics.momentum) * move])

    state = np.zeros(size * (2 if dynamics.momentum else 1))
    if order[-1] == 0:
        return np.zeros((len(moments), *shape))
    unit = float(np.max(np.abs(slope(0.0, state)))) or 1.0
    found = scipy.integrate.solve_ivp(
        slope,
        (0.0, float(order[-1])),
        state,
        method="LSODA" if stiff and size <= _JACOBIAN else "DOP853",
        t_eval=order,
        rtol=rtol,
        atol=rtol * unit * min(1.0, float(order[-1])),
    )
    if not found.success:
        raise InvalidInputError(f"training could not be followed: {found.message}")
    values = found.y[:size].T.reshape(len(order), *shape)
    return np.asarray(values[np.searchsorted(order, moments)])


def _largest(product: Callable[[Floats], Floats], targets: Floats) -> float:
    """About the largest eigenvalue of the kernel."""
    column = np.random.default_rng(0).standard_normal((len(targets), 1))
    size = 0.0
    for _ in range(_POWERS):
        column = product(column / (np.linalg.norm(column) or 1.0))
        size = float(np.linalg.norm(column))
    return size
