"""A fitted model as arrays and a JSON-ready header, and back."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier

from kernreg import nn
from kernreg.backends.sparse import SparseRows
from kernreg.estimators.checks import check_arrays, check_header, labels_of
from kernreg.estimators.loo import LeaveOneOut
from kernreg.exceptions import InvalidInputError
from kernreg.planning.plan import Candidate, Plan
from kernreg.solvers.preconditioners import LowPrecisionCholesky, Nystrom, RPCholesky
from kernreg.solvers.registry import SOLVERS
from kernreg.solvers.solution import Solution, Stats, Status

if TYPE_CHECKING:
    from kernreg.estimators.base import KernelModel

__all__ = ["from_state", "to_state"]


# Of leave-one-out, in the order of the fields.
_OF_ROWS = ("predictions", "rows", "targets", "weights", "group")


class UnknownClassError(Exception):
    """A file names a class of settings that nobody registered."""


def to_state(model: KernelModel) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays by name, and everything else as what JSON can hold."""
    params = model.get_params(deep=False)
    network = params.pop("network")
    if not isinstance(model.network_, nn.Layer):
        raise InvalidInputError(
            "a model file holds the description of a network, and this model's is a torch module: "
            "use pickle or joblib for it."
        )
    if "class_weight" in params:
        params["class_weight"] = _pairs(params["class_weight"])
    if isinstance(params.get("random_state"), np.random.RandomState):
        params["random_state"] = None  # where it stands means nothing to another process
    if params["dtype"] is not None:
        params["dtype"] = np.dtype(params["dtype"]).name
    rows, header = _rows_to_state(model.X_fit_)
    arrays = {
        **rows,
        "dual_coef": model.dual_coef_,
        "y_mean": np.asarray(model.y_mean_),
        "solution": model.solution_.value,
    }
    header |= {
        "class": type(model).__name__,
        "params": _encode(params),
        "network": json.loads(nn.to_json(network)) if isinstance(network, nn.Layer) else network,
        "fitted_kernel": model.kernel_,
        "fitted_network": json.loads(nn.to_json(model.network_)),
        "alpha": model.alpha_,
        "plan": _encode(model.plan_),
        "status": model.solution_.status.name,
        "stats": _encode(model.solution_.stats),
    }
    if model.loo_ is not None:
        header["loo_best"] = model.loo_.best
        for name in ("alphas", "squared_error", "accuracy", *_OF_ROWS):
            if getattr(model.loo_, name) is not None:
                arrays[f"loo_{name}"] = getattr(model.loo_, name)
    if hasattr(model, "scales_"):
        arrays |= {"scales": model.scales_, "importances": model.feature_importances_}
    if hasattr(model, "feature_names_in_"):
        header["feature_names"] = model.feature_names_in_.tolist()
    if hasattr(model, "classes_"):
        header["classes"] = _labels_to_json(model.classes_)
    own_arrays, own_header = model._own_state()
    arrays |= own_arrays
    header |= own_header
    # ascontiguousarray would make a vector of a number.
    return {name: np.array(array, order="C") for name, array in arrays.items()}, header


def _rows_to_state(X: Any) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Training rows as arrays, and the number of columns of sparse ones."""
    if not isinstance(X, SparseRows):
        return {"X_fit": X}, {}
    values, start, features, columns = X.parts()
    return {"X_fit": values, "X_fit_start": start, "X_fit_features": features}, {"sparse": columns}


def _rows_from_state(arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> Any:
    """Inverse of :func:`_rows_to_state`."""
    if "sparse" not in header:
        return arrays["X_fit"]
    parts = arrays["X_fit"], arrays["X_fit_start"], arrays["X_fit_features"]
    return SparseRows.from_parts(*parts, int(header["sparse"]))


def from_state(
    cls: type[KernelModel], arrays: dict[str, NDArray[Any]], header: dict[str, Any]
) -> KernelModel:
    """Inverse of :func:`to_state`; the caller has seen to the functions that networks name."""
    check_arrays(arrays)
    check_header(header, arrays)
    network, params = header["network"], _decode(header["params"])
    if isinstance(params.get("class_weight"), tuple):
        params["class_weight"] = dict(params["class_weight"])
    model = cls(
        network=nn.from_json(json.dumps(network), trusted=True)
        if isinstance(network, dict)
        else network,
        **params,
    )
    model._validate_params()
    model.network_ = nn.from_json(json.dumps(header["fitted_network"]), trusted=True)
    model.kernel_ = header.get("fitted_kernel", model.kernel)
    model.X_fit_ = _rows_from_state(arrays, header)
    model.dual_coef_ = arrays["dual_coef"]
    model.y_mean_ = arrays["y_mean"][()]
    shapes = (len(model.X_fit_), *np.shape(model.y_mean_))
    if model.X_fit_.ndim != 2 or model.dual_coef_.shape != shapes:
        raise ValueError("data and coefficients do not belong together")
    model.network_.program()  # raises where a layer cannot stand on the input
    model.n_features_in_ = model.X_fit_.shape[1]
    model.alpha_ = header["alpha"]
    model.plan_ = _decode(header["plan"])
    model.solution_ = Solution(
        arrays["solution"], Status[header["status"]], _decode(header["stats"])
    )
    model.loo_ = None
    if "loo_best" in header:
        model.loo_ = LeaveOneOut(
            arrays["loo_alphas"],
            arrays["loo_squared_error"],
            arrays.get("loo_accuracy"),
            header["loo_best"],
            arrays["loo_predictions"],
            *(arrays.get(f"loo_{name}") for name in _OF_ROWS[1:]),
        )
    if "scales" in arrays:
        model.scales_, model.feature_importances_ = arrays["scales"], arrays["importances"]
    if "feature_names" in header:
        model.feature_names_in_ = np.array(header["feature_names"], dtype=object)
    if is_classifier(model):
        model.classes_ = _labels_from_json(header["classes"])
    model._restore(arrays, header)
    return model


def _encode(value: Any) -> Any:
    """A frozen dataclass of plain settings (a solver, say) as nested dictionaries."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if _classes().get(type(value).__name__) is not type(value):
            raise InvalidInputError(
                f"{value!r} cannot be written to a model file: expected a solver or preconditioner "
                "of kernreg, or a solver that kernreg.solvers.registry.register made known"
            )
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return {
            "class": type(value).__name__,
            "fields": {k: _encode(v) for k, v in fields.items()},
        }
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(k): _encode(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InvalidInputError(
        f"a parameter {value!r} cannot be written to a model file: set it to a number, a text or "
        "None before saving"
    )


def _decode(value: Any) -> Any:
    """Inverse of :func:`_encode` for plans, stats and solvers; lists become tuples."""
    if isinstance(value, dict) and set(value) == {"class", "fields"}:
        fields = {k: _decode(v) for k, v in value["fields"].items()}
        if value["class"] not in (known := _classes()):
            raise UnknownClassError(
                f"it was fitted with {value['class']}, which is not known here: import the module "
                "that registers it before loading, or the file was edited"
            )
        return known[value["class"]](**fields)
    if isinstance(value, dict):
        return {k: _decode(v) for k, v in value.items()}
    if isinstance(value, list):
        return tuple(_decode(v) for v in value)
    return value


def _classes() -> dict[str, Any]:
    """What a file may name; no solver of a user takes the place of another class."""
    own = (Candidate, Plan, Stats, LowPrecisionCholesky, Nystrom, RPCholesky)
    return {cls.__name__: cls for cls in (*SOLVERS.values(), *own)}


def _pairs(weights: Any) -> Any:
    """Weights of classes as pairs, since labels need not be text."""
    if not isinstance(weights, Mapping):
        return weights
    return [[_encode(label), float(weight)] for label, weight in weights.items()]


def _labels_to_json(labels: NDArray[Any]) -> dict[str, Any]:
    """Class labels (numbers, booleans or strings) with their type."""
    values = labels.tolist()
    if labels.dtype.kind not in "biufUO" or not all(
        isinstance(v, bool | int | float | str) for v in values
    ):
        raise InvalidInputError(
            f"Class labels of type {labels.dtype} cannot be saved; use numbers or strings."
        )
    try:
        labels_of(labels.dtype.str, values)
    except ValueError:  # a type for far longer texts
        labels = np.array(values)
    return {"dtype": labels.dtype.str, "values": values}


def _labels_from_json(state: Mapping[str, Any]) -> NDArray[Any]:
    """Inverse of :func:`_labels_to_json`."""
    return labels_of(state["dtype"], state["values"])
