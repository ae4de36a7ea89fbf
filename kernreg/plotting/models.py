"""What displays ask of a fitted model, alone or at the end of a pipeline."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from kernreg.exceptions import InvalidInputError

__all__ = [
    "at_time",
    "column_of",
    "last_step",
    "model_of",
    "numbers_of",
    "one_target",
    "predict_options",
    "require_std",
]

Floats = NDArray[np.float64]


def numbers_of(name: str, values: Any) -> Floats:
    """Finite numbers as an array."""
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInputError(f"expected {name} as an array of numbers.") from None
    if not np.isfinite(found).all():
        raise InvalidInputError(f"expected finite numbers in {name}, found {found.ravel()[:5]}.")
    return found


def model_of(estimator: Any) -> Any:
    """The model at the end of pipelines."""
    while isinstance(estimator, Pipeline):
        estimator = estimator[-1]
    return estimator


def last_step(estimator: Any, rows: Any) -> tuple[Any, Any]:
    """The model at the end of pipelines, and the rows as it sees them."""
    while isinstance(estimator, Pipeline):
        rows = estimator[:-1].transform(rows) if len(estimator) > 1 else rows
        estimator = estimator[-1]
    return estimator, rows


def predict_options(estimator: Any) -> set[str]:
    """Arguments that ``predict`` takes."""
    predict = getattr(model_of(estimator), "predict", None)
    return set() if predict is None else set(inspect.signature(predict).parameters)


def require_std(estimator: Any) -> None:
    """Raise InvalidInputError unless a model predicts standard deviations."""
    if "return_std" not in predict_options(estimator):
        raise InvalidInputError(
            f"{type(model_of(estimator)).__name__} predicts no standard deviations: fit "
            "GaussianProcessRegressor or EnsembleRegressor."
        )


def at_time(estimator: Any, time: Any) -> dict[str, Any]:
    """The argument of ``predict`` for a time, if one is asked for."""
    if time is None:
        return {}
    if "time" not in predict_options(estimator):
        raise InvalidInputError(
            f"{type(model_of(estimator)).__name__} is not trained over time: fit EnsembleRegressor."
        )
    return {"time": time}


def column_of(X: Any, d: int, feature: int | str) -> tuple[int, str]:
    """Place and name of a feature."""
    names = [str(name) for name in X.columns] if hasattr(X, "columns") else []
    if isinstance(feature, str):
        if feature not in names:
            raise InvalidInputError(
                f"expected the name of a column of X, found {feature!r}: "
                + (f"it has {', '.join(names[:10])}." if names else "X has no names.")
            )
        return names.index(feature), feature
    if not 0 <= feature < d:
        raise InvalidInputError(f"expected a feature from 0 to {d - 1}, found {feature!r}.")
    return int(feature), names[feature] if names else "input" if d == 1 else f"feature {feature}"


def one_target(values: Any, target: int, axis: int) -> Floats:
    """One target, of values that have an axis for several or none."""
    found = np.asarray(values, dtype=np.float64)
    count = found.shape[axis] if found.ndim > axis else 1
    if not 0 <= target < count:
        raise InvalidInputError(f"expected a target from 0 to {count - 1}, found {target!r}.")
    return np.take(found, target, axis=axis) if found.ndim > axis else found
