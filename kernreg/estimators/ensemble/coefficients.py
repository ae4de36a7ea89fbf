"""Coefficients of an ensemble at any time of its training, and what they are made from again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.estimators.ensemble.trained import Trained
from kernreg.estimators.ensemble.training_run import TrainingRun
from kernreg.estimators.error_bars import ErrorBars
from kernreg.estimators.ridge import ridge_unit
from kernreg.exceptions import InvalidInputError
from kernreg.operators.budget import memory_budget
from kernreg.operators.parts import Parts
from kernreg.theory.training import LOSSES, Dynamics, trajectory

__all__ = ["CoefficientsInTime"]

Floats = NDArray[np.float64]


class CoefficientsInTime(ErrorBars):
    """Base of a model in training, whose coefficients are a function of time.

    A fit sets what is declared here, ``_system`` to None.
    """

    largest_learning_rate_: float
    # What a fit was asked for, whatever the parameters are set to later.
    _asked: TrainingRun
    _system: Trained | None

    def _checked(self, time: Any) -> tuple[float, ...]:
        """Times that predictions are for."""
        times = self._asked.times(time)
        if time is not None:
            self._asked.check_rate(self.largest_learning_rate_, max(times))
        return times

    def _made(self) -> Trained:
        """The decomposition, or what stands for it."""
        if self._system is None:
            asked = self._asked
            unit = ridge_unit(asked.alpha_scale, self._fitted(self.X_fit_), self._weights)
            ridge = self.alpha_ * unit
            total = 1.0
            if asked.reduction == "mean":
                total = float(self._weights.sum()) * self._targets.shape[1]
            rate = asked.learning_rate / total

            def operator(X: Floats, X2: Floats | None, kernel: str) -> Parts:
                return self._operator(X, X2, self.network_, kernel)

            self._system = Trained(
                operator,
                self.X_fit_,
                self.kernel_,
                Dynamics(rate, asked.momentum, discrete=asked.discrete),
                self._weights,
                ridge,
                asked.target_noise * ridge,
                scale=total,
                decompose=self.plan_.solver == "eigh",
            )
        return self._system

    def _coefficients(
        self,
        times: Sequence[float],
        targets: Floats | None = None,
        start: Floats | None = None,
    ) -> Floats:
        """Coefficients at some times, for the own targets, or several networks side by side.

        Parameters
        ----------
        times : sequence of float
            Of training.
        targets, start : ndarray of shape (n, t s), optional
            Targets and initial outputs of s networks, those of a target next to each other.
        """
        system = self._made()
        targets = self._targets if targets is None else targets
        start = np.zeros_like(targets) if start is None else start
        if self._asked.linear:
            with np.errstate(over="ignore", invalid="ignore"):
                found = system.ensemble.coefficients(targets - start, times)
            if not np.isfinite(found).all():
                raise InvalidInputError(
                    f"outputs leave the range of numbers after so many steps: lower learning_rate "
                    f"to at most {self.largest_learning_rate_:.6g}"
                )
            return found
        weights = self._weights[:, None]

        def gradient(outputs: Floats, targets: Floats) -> Floats:
            return np.asarray(weights * self._asked.gradient(outputs, targets))

        product = system.product(memory_budget(self.max_memory))
        found = np.empty((len(times), *targets.shape))
        count = targets.shape[1] // self._targets.shape[1]
        for member in range(count):  # a loss sees the outputs of one network at a time
            own = slice(member, None, count)
            found[:, :, own] = trajectory(
                product,
                gradient,
                targets[:, own],
                times,
                system.dynamics,
                start=start[:, own],
                ridge=system.ridge,
            )
        return found

    def __getstate__(self) -> dict[str, Any]:
        # The modes are made again from the rows when they are needed.
        state = dict(super().__getstate__())
        return state | {"_system": None} if "_system" in state else state

    def _own_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays, _ = super()._own_state()
        asked = asdict(self._asked)
        if callable(self._asked.loss):
            raise InvalidInputError("a model of a loss that is a function cannot be saved")
        return arrays, {"largest_learning_rate": self.largest_learning_rate_, "asked": asked}

    def _restore(self, arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> None:
        super()._restore(arrays, header)
        self.largest_learning_rate_ = float(header["largest_learning_rate"])
        if not self.largest_learning_rate_ > 0:
            raise ValueError("expected a positive learning rate")
        self._asked = TrainingRun(**header["asked"])
        if self._asked.loss not in LOSSES or not self._asked.time >= 0:
            raise ValueError(f"expected a known loss and a time, found {self._asked}")
        self._system = None
        if len(self._targets) != len(self.X_fit_):
            raise ValueError("data and targets do not belong together")
