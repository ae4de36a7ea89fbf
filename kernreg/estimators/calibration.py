"""From scores of classes to probabilities, learned from leave-one-out scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

__all__ = ["Calibration", "calibrated", "calibration_from"]

Floats = NDArray[np.float64]

# Logarithms of the usual power, sharpness and shrinkage, to which few rows are drawn.
_USUAL = np.array([0.5, 1.0, 0.0])
# With fewer rows a mean and a row left out are all.
_FEWEST = 3
_STARTS = ((0.0, 1.0), (1.0, 0.0), (0.0, 3.0))
# Logarithms beyond which nothing changes.
_REACH = 12.0


@dataclass(frozen=True)
class Calibration:
    """Probabilities ``p_c`` in proportion to ``softplus(sharpness q_c)^power``.

    A score of a class that is trained to +1 and -1 is an estimate ``q`` of its probability, from
    -1 to 1 instead of 0 to 1, by least squares. The map keeps the order of the classes.

    Parameters
    ----------
    power, sharpness : float
        How far the largest probability goes, and how negative estimates count.
    shrinkage : float
        How much the variance of the scores lowers the power.
    rows : float
        That it was learned from, by their weights: no probability is below what so many can say.

    Examples
    --------
    >>> Calibration(2.0, 3.0, 0.0, 100).probabilities(np.array([-1.0, 0.0, 1.0])).round(3).tolist()
    [[0.946, 0.054], [0.5, 0.5], [0.054, 0.946]]
    """

    power: float
    sharpness: float
    shrinkage: float
    rows: float

    def probabilities(self, scores: Floats, variance: Floats | None = None) -> Floats:
        """Probabilities of classes, shape (n, k).

        Parameters
        ----------
        scores : ndarray of shape (n,) or (n, k)
            Decision values; of the second class if there are two.
        variance : ndarray of shape (n,), optional
            Of the scores, in the units that ``shrinkage`` is for.
        """
        estimates = _estimates(scores)
        with np.errstate(over="ignore"):
            logits = np.log(np.maximum(np.logaddexp(0.0, self.sharpness * estimates), 1e-300))
        logits *= self.power
        if variance is not None:
            logits /= np.sqrt(1.0 + self.shrinkage * variance)[:, None]
        logits -= logits.max(axis=1, keepdims=True)
        found = np.exp(logits)
        found /= found.sum(axis=1, keepdims=True)
        return np.asarray((self.rows * found + 1.0 / found.shape[1]) / (self.rows + 1.0))


def calibrated(
    scores: Floats, targets: Floats, weights: Floats, variance: Floats | None = None
) -> Calibration:
    """The calibration with the smallest log-loss on rows that were left out.

    Parameters
    ----------
    scores, targets : ndarray of shape (n, t)
        Leave-one-out scores, and what they were trained to, from -1 to 1; one column for two
        classes.
    weights : ndarray of shape (n,)
        Of the rows.
    variance : ndarray of shape (n,), optional
        Leave-one-out variances of the scores, over the variance before the fit.

    Returns
    -------
    Calibration
    """
    if scores.shape[1] == 1:
        scores, targets = scores[:, 0], targets[:, 0]
    labels = _estimates(targets)
    if len(labels) < _FEWEST or not np.isfinite(scores).all():
        power, sharpness, _ = np.exp(_USUAL).tolist()
        return Calibration(power, sharpness, float(variance is not None), float(len(labels)))
    shares = weights / weights.sum()
    # A row of weight 2 is two rows.
    n = max(1.0, float(weights.sum()))

    def made(x: Floats) -> Calibration:
        power, sharpness, *rest = np.exp(np.clip(x, -_REACH, _REACH))
        return Calibration(float(power), float(sharpness), float(rest[0]) if rest else 0.0, n)

    def loss(x: Floats) -> float:
        found = made(x).probabilities(scores, variance)
        fit = -float(np.sum(shares[:, None] * labels * np.log(found)))
        return fit + 0.5 / n * float(np.sum((x - _USUAL[: len(x)]) ** 2))

    more = () if variance is None else (0.0,)
    found = [
        scipy.optimize.minimize(loss, [*start, *more], method="Nelder-Mead") for start in _STARTS
    ]
    best = min(found, key=lambda result: float(result.fun)).x
    fine = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 2000, "maxfev": 2000}
    return made(scipy.optimize.minimize(loss, best, method="Nelder-Mead", options=fine).x)


def _estimates(scores: Floats) -> Floats:
    """Estimates of the probabilities of all classes, by least squares."""
    if scores.ndim == 1:
        return np.stack([(1.0 - scores) / 2.0, (1.0 + scores) / 2.0], axis=1)
    return (scores + 1.0) / 2.0


def calibration_from(header: Any) -> Calibration | None:
    """The calibration of a model file; None of one that was written before there were any.

    Raises
    ------
    ValueError
        If it is none.
    """
    if header is None:
        return None
    found = Calibration(
        float(header["power"]),
        float(header["sharpness"]),
        float(header["shrinkage"]),
        float(header["rows"]),
    )
    numbers = (found.power, found.sharpness, found.shrinkage, found.rows)
    if not all(0 <= number < np.inf for number in numbers) or found.rows < 1:
        raise ValueError(f"expected positive numbers of a calibration, found {found}")
    return found
