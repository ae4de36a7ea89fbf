"""How an ensemble was asked to be trained, whatever its parameters are set to later."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.theory.training import LOSSES

__all__ = ["TrainingRun", "check_targets"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TrainingRun:
    """Parameters of a fit that predictions depend on.

    Parameters
    ----------
    time : float
        Of flow, or steps; infinite without end.
    discrete : bool
        Whether training is by steps.
    learning_rate, momentum : float
        Of both.
    loss : str or callable
        Its name, or its gradient.
    reduction : {"mean", "sum"}
        Of the loss.
    alpha_scale : {"mean_diag", "absolute"}
        Of the weight decay.
    target_noise : bool
        Whether each network has noise of its own in its targets.
    """

    time: float
    discrete: bool
    learning_rate: float
    momentum: float
    loss: Any
    reduction: str
    alpha_scale: str
    target_noise: bool

    @property
    def linear(self) -> bool:
        """Whether outputs follow their eigenmodes, as they do for squared error."""
        return isinstance(self.loss, str) and self.loss == "mse"

    @property
    def gradient(self) -> Callable[[Floats, Floats], Floats]:
        """Of the loss, by outputs."""
        return self.loss if callable(self.loss) else LOSSES[self.loss]

    def check(self, solver: str, fit_intercept: bool) -> None:
        """Raise InvalidInputError for what only training on squared error can have."""
        if self.linear:
            return
        if self.target_noise:
            raise InvalidInputError("target_noise is for loss='mse'")
        if self.time == np.inf:
            raise InvalidInputError(
                f"training on loss={self.loss!r} is followed for a finite time: give time or steps"
            )
        if solver == "eigh":
            raise InvalidInputError("solver='eigh' is for loss='mse': leave it 'auto'")
        if fit_intercept and self.loss in ("cross_entropy", "logistic"):
            raise InvalidInputError(
                f"loss={self.loss!r} is of labels, whose mean means nothing: leave fit_intercept "
                "False"
            )

    def times(self, time: Any) -> tuple[float, ...]:
        """Times that predictions are asked for; its own if there is none.

        Raises
        ------
        InvalidInputError
            If one is negative, infinite where training cannot be followed so far, or no whole
            number of steps.
        """
        if time is None:
            return (self.time,)
        unit = "steps" if self.discrete else "times"
        try:
            times = np.atleast_1d(np.asarray(time, dtype=np.float64))
        except (TypeError, ValueError):
            times = np.array([np.nan])
        if times.ndim != 1 or not len(times) or not (times >= 0).all():
            raise InvalidInputError(f"expected {unit} >= 0, found {time!r}")
        finite = times[np.isfinite(times)]
        if not self.linear and len(finite) < len(times):
            raise InvalidInputError(
                f"training on loss={self.loss!r} is followed for finite {unit}, found {time!r}"
            )
        if self.discrete and (finite != np.floor(finite)).any():
            raise InvalidInputError(f"expected whole numbers of steps, found {time!r}")
        return tuple(times.tolist())

    def check_rate(self, limit: float, steps: float) -> None:
        """Warn of steps that diverge, and refuse to take them without end."""
        if not (self.linear and self.discrete and self.learning_rate > limit and steps):
            return
        text = (
            f"steps of learning_rate={self.learning_rate:.6g} diverge: the largest that do not "
            f"have {limit:.6g}"
        )
        if steps == np.inf:
            raise InvalidInputError(f"{text}; at the end outputs are infinite")
        warnings.warn(text, UserWarning, stacklevel=4)


def check_targets(loss: str, targets: Floats) -> None:
    """Raise InvalidInputError unless targets are what a loss is of.

    Examples
    --------
    >>> check_targets("logistic", np.array([[0.0], [1.0]]))
    Traceback (most recent call last):
    kernreg.exceptions.InvalidInputError: loss='logistic' is of targets +1 and -1, found 0
    """
    if loss == "logistic" and (np.abs(targets) != 1).any():
        wrong = float(targets[np.abs(targets) != 1][0])
        raise InvalidInputError(f"loss='logistic' is of targets +1 and -1, found {wrong:g}")
    if loss == "cross_entropy":
        if targets.shape[1] < 2:
            raise InvalidInputError(
                "loss='cross_entropy' is of a column of probabilities for each class, found one "
                "column: give one-hot targets, or loss='logistic' for two classes"
            )
        if (targets < 0).any() or (np.abs(targets.sum(axis=1) - 1) > 1e-6).any():
            raise InvalidInputError(
                "loss='cross_entropy' is of rows of probabilities, found a row that is negative or "
                "does not add up to 1"
            )
