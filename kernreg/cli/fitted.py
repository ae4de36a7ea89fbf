"""What ``kernreg fit`` says of a fit: how it was made, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kernreg.cli.console import as_option
from kernreg.cli.solvers import SolverOptions
from kernreg.wording import counted, lasting

if TYPE_CHECKING:
    from kernreg.baseline import TableModel

__all__ = ["account", "left_by_interruption", "what_is_unsolved"]


def left_by_interruption(out: Path, checkpoint: Path | None, folder: Path | None) -> str:
    """What an interrupted fit leaves."""
    if checkpoint is not None and checkpoint.exists():
        return f"{out} was not written; {checkpoint} keeps the iterates: the same command goes on."
    if folder is not None and folder.exists():
        return f"{out} was not written; {folder} keeps what is factored: the same command goes on."
    return (
        f"{out} was not written, and nothing is kept. A fit that can go on has --solver pcg "
        "--checkpoint FILE, or --solver out-of-core --folder DIR."
    )


def what_is_unsolved(model: TableModel, options: SolverOptions) -> str:
    """What to do about a solution that is not what was asked for; empty if it is."""
    from kernreg.solvers import Status

    solution = model.estimator.solution_
    if solution.status not in (Status.NOT_CONVERGED, Status.MAX_ITERATIONS):
        return ""
    remedies = ["raise --alpha"]
    if options.dtype == "float32":
        remedies.append("use --dtype float64")
    if options.kind is not None:
        remedies += map(as_option, options.kind.remedies)
    if options.kind is not None and options.kind.tol is not None:
        remedies.append("raise --tol if less is enough")
    residuals = solution.stats.residuals
    left = f"the relative residual is still {residuals[-1]:.1e}; " if residuals else ""
    return f"{left}the model was written, but do not rely on it: {', or '.join(remedies)}."


def account(model: TableModel, variance: float) -> Iterator[str]:
    """How a model was fitted, and how good its leave-one-out predictions are."""
    estimator = model.estimator
    solution, loo = estimator.solution_, getattr(estimator, "loo_", None)
    stats = solution.stats
    products = f", {counted(stats.iterations, 'iteration')}" if stats.iterations else ""
    residual = f", relative residual {stats.residuals[-1]:.1e}" if stats.residuals else ""
    yield (
        f"{estimator.plan_.solver} ({solution.status.name}){products}{residual}, "
        f"{lasting(stats.seconds)}; {estimator.kernel} of {estimator.network!r}."
    )
    yield from _fitted(estimator)
    if hasattr(estimator, "scales_"):
        yield _columns(model)
    if loo is not None:
        score = (
            f"accuracy {100 * loo.accuracy[loo.best]:.2f} %"
            if loo.accuracy is not None
            else f"R2 {1 - loo.squared_error[loo.best] / variance:.4f}"
        )
        sample = "" if loo.rows is None else f" on a sample of {counted(len(loo.rows), 'row')}"
        place = {int(np.argmin(loo.alphas)): "smallest", int(np.argmax(loo.alphas)): "largest"}
        edge = f" (the {place[loo.best]} tried)" if loo.best in place and len(place) > 1 else ""
        yield f"alpha {loo.alphas[loo.best]:.3g}{edge}, leave-one-out {score}{sample}."


def _columns(model: TableModel) -> str:
    """Which columns matter most, by learned scales."""
    if (model.estimator.scales_ == 1.0).all():
        return "Scales of columns do not predict rows better that were left out: all are 1."
    shares = model.estimator.feature_importances_
    largest = np.argsort(-shares)[:5]
    names = model.encoder.feature_names
    parts = [f"{names[k]} {100 * shares[k]:.1f} %" for k in largest if shares[k] >= 0.001]
    return f"Shares of the columns in the slopes of predictions: {', '.join(parts)}."


def _fitted(estimator: Any) -> Iterator[str]:
    """What a Gaussian process was tuned to, or how an ensemble may be trained."""
    if hasattr(estimator, "noise_"):
        value = estimator.log_marginal_likelihood_value_
        likelihood = "" if value is None else f", log marginal likelihood {value:.6g}"
        yield (
            f"Network {estimator.network_!r}, standard deviation of the noise "
            f"{estimator.noise_**0.5:.4g}{likelihood}."
        )
    if hasattr(estimator, "largest_learning_rate_"):
        yield f"The largest stable learning rate is {estimator.largest_learning_rate_:.6g}."
