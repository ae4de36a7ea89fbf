"""The hyperparameters with the largest marginal likelihood."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from kernreg.estimators.gaussian_process.marginal import Evidence
from kernreg.estimators.planned import described
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.operators.dense import diag

__all__ = ["TUNED_ROWS", "tuned"]

Floats = NDArray[np.float64]
logger = logging.getLogger(__name__)

TUNED_ROWS = 2000
"""Rows that hyperparameters are tuned on at most: seconds for a value, and many of them."""

# Natural logarithms around the start, within which restarts begin.
_RESTART = 2.0
_SCALED_ROWS = 256
# What L-BFGS is told where there is no likelihood.
_WORST = 1e25


def tuned(
    evidence: Evidence,
    kernel: str,
    optimizer: str | Callable[..., Any],
    n_restarts: int,
    random_state: np.random.RandomState,
    callback: Callable[[int, int], None] | None = None,
) -> tuple[Floats, float]:
    """Maximise the evidence from random starts and one: as given, or of the targets' scale.

    Parameters
    ----------
    evidence : Evidence
        What is maximised.
    kernel : {"nngp", "ntk"}
        Whose diagonal the scale of the targets is compared with.
    optimizer : "fmin_l_bfgs_b" or callable
        Called as ``optimizer(function, start, bounds=bounds)``, the function giving minus the
        log likelihood, and its gradient unless called with ``eval_gradient=False``; returns the
        best vector and the value there.
    n_restarts : int
        Random starts.
    random_state : RandomState
        Draws them.
    callback : callable, optional
        Told ``(start, starts)``.

    Returns
    -------
    theta : ndarray of shape (k,)
        The best vector found.
    value : float
        The log marginal likelihood there.

    Raises
    ------
    InvalidInputError
        If there is no likelihood at any start.
    """
    given = evidence.hyperparameters
    bounds = given.bounds
    starts = [max([given.theta, *_of_the_scale_of_targets(evidence, kernel)], key=evidence.value)]
    low = np.maximum(bounds[:, 0], starts[0] - _RESTART)
    high = np.minimum(bounds[:, 1], starts[0] + _RESTART)
    starts += [random_state.uniform(low, high) for _ in range(n_restarts)]

    def negative(theta: Floats, eval_gradient: bool = True) -> Any:
        vector = np.asarray(theta, dtype=np.float64)
        if not eval_gradient:
            return -evidence.value(vector)
        value, slope = evidence.gradient(vector)
        return -value, -slope

    best: tuple[Floats, float] | None = None
    for number, start in enumerate(starts):
        theta, value = _minimised(negative, start, bounds, optimizer, evidence.observations)
        logger.info("start %d of %d: log likelihood %.6g", number + 1, len(starts), -value)
        if np.isfinite(value) and (best is None or -value > best[1]):
            best = np.clip(theta, bounds[:, 0], bounds[:, 1]), -value
        if callback is not None:
            callback(number + 1, len(starts))
    if best is None:
        raise InvalidInputError(
            "the marginal likelihood is not finite at any start: look for huge targets or "
            "features, raise alpha, or give optimizer=None to keep the network as it is"
        )
    return best


def _minimised(
    negative: Callable[..., Any],
    start: Floats,
    bounds: Floats,
    optimizer: str | Callable[..., Any],
    n: float,
) -> tuple[Floats, float]:
    if callable(optimizer):
        theta, value = optimizer(negative, start, bounds=bounds)
        return np.asarray(theta, dtype=np.float64), float(value)

    # Per row, so that one tolerance serves all sizes.
    def per_row(theta: Floats) -> tuple[float, Floats]:
        value, slope = negative(theta)
        return (value / n, slope / n) if np.isfinite(value) else (_WORST, np.zeros(len(theta)))

    found = scipy.optimize.minimize(
        per_row,
        start,
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
        options={"maxiter": 100, "ftol": 1e-6, "gtol": 1e-4},
    )
    return found.x, (float(found.fun) * n if found.fun < _WORST else np.inf)


def _of_the_scale_of_targets(evidence: Evidence, kernel: str) -> list[Floats]:
    """The start moved along standard deviations until the kernel is as large as the targets.

    In three ways: those of weights and biases alike, those of weights alone, and biases as far as
    all layers of weights together, so that the last ones keep their share.
    """
    parameters = evidence.hyperparameters.parameters
    size = float(np.average(np.mean(evidence.targets**2, axis=1), weights=evidence.weights))
    weights = [p.scale and p.name.endswith("W_std") for p in parameters]
    biases = [p.scale and not p.name.endswith("W_std") for p in parameters]
    if not (any(weights) or any(biases)) or not 0 < size < np.inf:
        return []
    used = [p.uses for p, is_weight in zip(parameters, weights, strict=True) if is_weight]
    found = []
    for share in (1.0, 0.0, float(max(used, default=1))):
        along = np.array([*(w + share * b for w, b in zip(weights, biases, strict=True)), 0.0])
        moved = _moved(evidence, kernel, along, size) if along.any() else None
        if moved is not None:
            found.append(moved)
    return found


def _moved(evidence: Evidence, kernel: str, along: Floats, size: float) -> Floats | None:
    """The start moved in one direction until the mean diagonal is ``size``."""
    hyper, rows = evidence.hyperparameters, evidence.rows[:_SCALED_ROWS]
    theta, bounds = hyper.theta, hyper.bounds
    moving = along > 0
    reach = float(np.min((bounds[moving, 1] - theta[moving]) / along[moving]))

    def excess(shift: float) -> float:
        try:
            network = described(hyper.network_at(theta + shift * along), "tuning")
            values = np.asarray(diag(network, rows, kernel=kernel), dtype=np.float64)
        except (InvalidInputError, NetworkError, OverflowError):
            # Beyond the range of numbers, on one side or the other.
            return float(np.sign(shift)) * _WORST
        mean = float(np.mean(values))
        return np.log(mean / size) if 0 < mean < np.inf else float(np.sign(shift)) * _WORST

    if excess(-reach) > 0 or excess(reach) < 0:
        return None
    shift = scipy.optimize.brentq(excess, -reach, reach, xtol=0.01)
    return theta + shift * along
