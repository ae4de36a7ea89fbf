"""Whether the parts of a model that was read from a file can belong to one model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.estimators.targets import Members

__all__ = ["check_arrays", "check_header", "check_members", "check_numbers", "labels_of"]

_FLOATS = ("float32", "float64")
_OF_RIDGES = ("loo_alphas", "loo_squared_error", "loo_accuracy")
# Bytes that labels may take whatever they hold.
_ROOM = 2**20


def check_arrays(arrays: dict[str, NDArray[Any]]) -> None:
    """Raise ValueError unless training rows, coefficients and leave-one-out values are numbers."""
    for name in ("X_fit", "dual_coef", "y_mean", "solution"):
        values = arrays[name]
        _expect(values.dtype.name in _FLOATS, f"{name} of type float32 or float64", values.dtype)
        holds = values.size > 0 or (name == "X_fit" and "X_fit_start" in arrays)  # sparse zeros
        _expect(holds, f"numbers in {name}", values.shape)
    for name in ("X_fit", "dual_coef", "y_mean"):
        _expect(np.isfinite(arrays[name]).all(), "finite numbers", f"NaN or infinity in {name}")
    size = arrays["dual_coef"].size
    _expect(arrays["solution"].size == size, f"{size} numbers in solution", arrays["solution"].size)
    for name in set(arrays) & {*_OF_RIDGES, "loo_predictions"}:
        _expect(arrays[name].dtype.kind == "f", f"numbers in {name}", arrays[name].dtype)
    if {"loo_targets", "loo_weights", "loo_group"} <= set(arrays):
        predictions, group = arrays["loo_predictions"], arrays["loo_group"]
        check_numbers(arrays["loo_targets"], (len(group), *predictions.shape[1:]))
        check_numbers(arrays["loo_weights"], group.shape[:1])
        fits = group.ndim == 1 and group.dtype.kind == "i" and len(group) > 0
        fits = fits and group.min() >= 0 and group.max() < len(predictions)
        _expect(fits, f"numbers of {len(predictions)} predictions", group.shape)
    if {"scales", "importances"} & set(arrays):
        for name in ("scales", "importances"):
            check_numbers(arrays[name], arrays["X_fit"].shape[1:])
        _expect((arrays["scales"] > 0).all(), "positive scales", arrays["scales"].min())
    shapes = {arrays[name].shape for name in set(arrays) & set(_OF_RIDGES)}
    fits = len(shapes) <= 1 and all(len(shape) == 1 for shape in shapes)
    _expect(fits, "a leave-one-out value for each ridge", shapes)


def check_numbers(values: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raise ValueError unless an array holds finite numbers in a shape; -1 is any size."""
    fits = values.ndim == len(shape) and all(
        size in (-1, found) for size, found in zip(shape, values.shape, strict=True)
    )
    _expect(fits, f"an array of shape {shape}", values.shape)
    _expect(values.dtype == np.float64, "numbers of type float64", values.dtype)
    _expect(np.isfinite(values).all(), "finite numbers", "NaN or infinity")


def check_members(members: Members, rows: int, outputs: int) -> None:
    """Raise ValueError unless targets before equal rows became one fit so many rows and outputs."""
    group = members.group
    _expect(group.ndim == 1 and group.dtype.kind == "i", "numbers of rows", group.dtype)
    fits = len(group) > 0 and set(np.unique(group).tolist()) == set(range(rows))
    _expect(fits, f"numbers of {rows} rows", len(group))
    check_numbers(members.values, (len(group), outputs))
    check_numbers(members.weights, group.shape)
    _expect((members.weights > 0).all(), "positive weights", members.weights.min(initial=1))


def check_header(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Raise ValueError unless what a header counts is what the arrays hold."""
    outputs = int(np.prod(arrays["dual_coef"].shape[1:], dtype=np.int64))
    if "classes" in header:
        labels = header["classes"]["values"]
        fits = isinstance(labels, list) and all(
            isinstance(x, bool | int | float | str) for x in labels
        )
        _expect(fits, "class labels that are numbers or texts", labels)
        wanted = 2 if outputs == 1 else outputs
        _expect(len(labels) == wanted, f"{wanted} class labels", len(labels))
        _expect(len(set(map(repr, labels))) == len(labels), "different class labels", "equal ones")
    if "feature_names" in header:
        names, width = header["feature_names"], header.get("sparse")
        width = arrays["X_fit"].shape[1] if width is None else width
        _expect(isinstance(names, list) and all(isinstance(n, str) for n in names), "names", names)
        _expect(len(names) == width, f"{width} feature names", len(names))
    for alpha in np.ravel(np.asarray(header["alpha"], dtype=np.float64)):
        _expect(math.isfinite(alpha) and alpha >= 0, "a ridge of at least 0", alpha)
    if "loo_best" in header:
        best, count = header["loo_best"], len(arrays["loo_alphas"])
        fits = isinstance(best, int) and 0 <= best < count
        _expect(fits, f"the number of one of {count} ridges", best)


def labels_of(name: Any, values: list[Any]) -> NDArray[Any]:
    """Class labels of a type that does not take far more memory than they need."""
    kind = np.dtype(name)
    _expect(kind.kind in "biufUO", "labels that are numbers or texts", name)
    room = _ROOM + 16 * sum(len(value) for value in values if isinstance(value, str))
    wide = kind.itemsize * len(values) > room + 8 * len(values)
    _expect(not wide, "a type as wide as the labels", name)
    labels = np.array(values, dtype=kind)
    _expect(labels.tolist() == values, f"labels of type {name}", values)
    return labels


def _expect(holds: bool | np.bool_, what: str, found: Any) -> None:
    if not holds:
        raise ValueError(f"expected {what}, found {str(found)[:60]}")
