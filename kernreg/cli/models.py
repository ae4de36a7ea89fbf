"""Options of ``fit`` that belong to one kind of model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from kernreg.cli.options import check_choice
from kernreg.exceptions import InvalidInputError

__all__ = [
    "KINDS",
    "LearningRate",
    "ModelName",
    "ModelOptions",
    "Noise",
    "Steps",
    "Time",
    "Tune",
]

KINDS = ("ridge", "gp", "ensemble")
"""Kernel ridge regression, a Gaussian process, an infinite ensemble."""

_PROCESS, _ENSEMBLE = "Of --model gp", "Of --model ensemble"

ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        help="ridge; gp: a Gaussian process, tuned by its likelihood, with error bars; ensemble: "
        "networks at any time of their training.",
    ),
]
Noise = Annotated[
    float | None,
    typer.Option(
        metavar="VARIANCE",
        help="Of the target, instead of --alpha, which is where tuning starts.",
        rich_help_panel=_PROCESS,
    ),
]
Tune = Annotated[
    bool | None,
    typer.Option(
        "--tune/--no-tune",
        help="Tune network and noise, or keep them; tune if left out.",
        rich_help_panel=_PROCESS,
    ),
]
Time = Annotated[
    float | None,
    typer.Option(help="Of gradient flow; without end if left out.", rich_help_panel=_ENSEMBLE),
]
Steps = Annotated[
    int | None,
    typer.Option(min=0, help="Of gradient descent, instead of --time.", rich_help_panel=_ENSEMBLE),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        help="For the mean of half the squares; 1 if left out.", rich_help_panel=_ENSEMBLE
    ),
]

# What each option is for, by the name of the field.
_FOR = {
    "noise": ("gp",),
    "tune": ("gp",),
    "time": ("ensemble",),
    "steps": ("ensemble",),
    "learning_rate": ("ensemble",),
}


@dataclass(frozen=True)
class ModelOptions:
    """What ``fit`` is told of the model; None is an option left out."""

    kind: str
    noise: float | None = None
    tune: bool | None = None
    time: float | None = None
    steps: int | None = None
    learning_rate: float | None = None

    @property
    def kernel(self) -> str:
        """The kernel if none is asked for."""
        return "nngp" if self.kind == "gp" else "ntk"

    def check(
        self,
        alpha: str | float | np.ndarray,
        alpha_given: bool,
        solver: str,
        dtype: str,
        stored: bool,
    ) -> None:
        """Raise InvalidInputError for what does not belong together, before any work."""
        check_choice("--model", self.kind, KINDS)
        for name, kinds in _FOR.items():
            if getattr(self, name) is not None and self.kind not in kinds:
                option = "tune/--no-tune" if name == "tune" else name.replace("_", "-")
                raise InvalidInputError(
                    f"--{option} is for --model {kinds[0]}, and --model is {self.kind!r}: leave it "
                    "out, or change --model."
                )
        if self.kind == "ridge":
            return
        if np.ndim(alpha):
            raise InvalidInputError(
                f"--model {self.kind} takes one --alpha, found {len(np.atleast_1d(alpha))}."
            )
        if dtype != "float64":
            raise InvalidInputError(
                f"--model {self.kind} works in float64, as its variances are small differences: "
                f"leave --dtype {dtype} out."
            )
        if self.kind == "gp":
            if stored and self.tune is not False:
                raise InvalidInputError(
                    "--store is of one network, which tuning would change: add --no-tune."
                )
            self._check_gp(alpha, alpha_given)
        else:
            if alpha_given and isinstance(alpha, str):
                raise InvalidInputError(
                    "--alpha auto chooses by leave-one-out, which --model ensemble does not: give "
                    "a number, or leave it out for 0."
                )
            self._check_ensemble(solver, stored)

    def _check_gp(self, alpha: str | float | np.ndarray, alpha_given: bool) -> None:
        if self.noise is None:
            if self.tune is not False and alpha == 0:
                raise InvalidInputError(
                    "--alpha 0 cannot be tuned: give a small number, 1e-6 say, or --no-tune."
                )
            return
        if alpha_given:
            raise InvalidInputError(
                "--alpha and --noise both say how much noise there is, relative to the kernel and "
                "as a variance of the target: give one."
            )
        if not 0 < self.noise < math.inf:
            raise InvalidInputError(f"--noise is {self.noise:g}; expected a variance > 0.")

    def _check_ensemble(self, solver: str, stored: bool) -> None:
        if stored:
            raise InvalidInputError("--model ensemble reads no --store: leave it out.")
        if solver not in ("auto", "eigh"):
            raise InvalidInputError(
                f"--model ensemble has --solver auto or eigh, found {solver!r}."
            )
        if self.time is not None and self.steps is not None:
            raise InvalidInputError(
                "--time is of gradient flow, --steps are of gradient descent: give one."
            )
        if self.time is not None and not self.time >= 0:
            raise InvalidInputError(f"--time is {self.time:g}; expected a number >= 0.")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise InvalidInputError(
                f"--learning-rate is {self.learning_rate:g}; expected a number > 0."
            )

    def alpha(self, given: str | float | np.ndarray) -> str | float | np.ndarray:
        """The ridge of the estimator, for the option as it was read."""
        if self.kind == "ridge":
            return given
        if self.noise is not None:
            return self.noise
        if isinstance(given, str):
            return 1e-2 if self.kind == "gp" else 0.0
        return given

    def parameters(self, task: str, store: Path | None) -> dict[str, Any]:
        """Further parameters of the estimator, the store among them."""
        found: dict[str, Any] = {} if self.kind == "ensemble" else {"store": store}
        if self.kind == "gp":
            if self.noise is not None:
                found["alpha_scale"] = "absolute"
            elif task == "regression":
                found["normalize_y"] = True  # a table's target is in any unit
            if self.tune is False:
                found["optimizer"] = None
        if self.kind == "ensemble":
            names = ("time", "steps", "learning_rate")
            values = {name: getattr(self, name) for name in names}
            found |= {name: value for name, value in values.items() if value is not None}
        return found
