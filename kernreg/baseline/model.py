"""A model for raw tables in one file: columns, scaling and the fitted estimator."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from safetensors import SafetensorError

import kernreg
from kernreg.baseline.scaling import Kind, Scaler
from kernreg.datasets import Column, Dataset, Encoder, Layout, NewRows, new_rows
from kernreg.datasets.target import Task
from kernreg.exceptions import InvalidInputError, ModelFileError
from kernreg.operators.budget import memory_budget
from kernreg.operators.store.disk import atomic
from kernreg.operators.store.records import Damaged, parse, read_record, write_record
from kernreg.solvers.base import Solver

__all__ = ["TableModel", "estimator_class", "fit_model"]

_ESTIMATORS = {
    ("ridge", "regression"): "KernelRegressor",
    ("ridge", "classification"): "KernelClassifier",
    ("gp", "regression"): "GaussianProcessRegressor",
    ("gp", "classification"): "GaussianProcessClassifier",
    ("ensemble", "regression"): "EnsembleRegressor",
}
_KEY = "kernreg.table"
_VERSIONS = (1, 2, 3)


@dataclass(frozen=True, eq=False)
class TableModel:
    """A fitted estimator with what it needs to read raw data.

    Parameters
    ----------
    estimator : KernelModel
        Fitted on scaled features.
    scaler : Scaler
        From features to the estimator's inputs.
    encoder : Encoder
        From the raw table to features.
    task : {"regression", "classification"}
        What is predicted.
    target_name : str
        Name of the target.
    layout : Layout
        How the raw table was laid out.

    Examples
    --------
    >>> from kernreg.datasets import load
    >>> data = load("iris")
    >>> model = fit_model(data, np.arange(0, 150, 3), "mlp(depth=1)", "ntk", 1e-3, "standard")
    >>> model.task, str(model.predict(data.X[:1])[0])
    ('classification', 'setosa')
    >>> labels, values = model.scores(data.X[:2])
    >>> labels, values.shape
    (('setosa', 'versicolor', 'virginica'), (2, 3))
    """

    estimator: Any
    scaler: Scaler
    encoder: Encoder
    task: Task
    target_name: str
    layout: Layout = field(default_factory=Layout)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Predict from features, shape (n, d), as a :class:`~kernreg.datasets.Dataset` has them."""
        return np.asarray(self.estimator.predict(self.scaler.transform(X)))

    def scores(self, X: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        """Decision values of every label for features of shape (n, d).

        The largest value of a row is that of the predicted label.

        Returns
        -------
        labels : tuple of str
        values : ndarray of shape (n, n_labels)

        Raises
        ------
        InvalidInputError
            For a regression, which has no labels.
        """
        if self.task == "regression":
            raise InvalidInputError(
                f"The model predicts the numbers {self.target_name!r}; scores are for labels."
            )
        values = np.asarray(self.estimator.decision_function(self.scaler.transform(X)))
        if values.ndim == 1:
            values = np.stack([-values, values], axis=1)
        return tuple(str(label) for label in self.estimator.classes_), values

    def probabilities(self, X: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        """Probability of every label for features of shape (n, d).

        Returns
        -------
        labels : tuple of str
        values : ndarray of shape (n, n_labels)

        Raises
        ------
        InvalidInputError
            For a regression, which has no labels.
        """
        if self.task == "regression":
            raise InvalidInputError(
                f"The model predicts the numbers {self.target_name!r}; probabilities are for "
                "labels. Ask for an interval."
            )
        values = np.asarray(self.estimator.predict_proba(self.scaler.transform(X)))
        return tuple(str(label) for label in self.estimator.classes_), values

    def interval(self, X: np.ndarray, level: Any) -> tuple[np.ndarray, np.ndarray]:
        """Bounds that a new target is within with probability ``level``.

        Parameters
        ----------
        X : ndarray of shape (n, d)
            Features.
        level : float or sequence of float
            Between 0 and 1.

        Returns
        -------
        lower, upper : ndarray of shape (n,)
            Of several levels the first axis.

        Raises
        ------
        InvalidInputError
            For a classification, an ensemble, or if the model cannot tell.
        """
        if self.task == "classification":
            raise InvalidInputError(
                f"The model predicts labels of {self.target_name!r}; intervals are for numbers. "
                "Ask for probabilities."
            )
        if not hasattr(self.estimator, "predict_interval"):
            raise InvalidInputError(
                "The model is an ensemble of networks, whose spread is no interval for new "
                "targets: fit with --model gp, or without --model."
            )
        lower, upper = self.estimator.predict_interval(self.scaler.transform(X), level)
        return np.asarray(lower), np.asarray(upper)

    @property
    def row_of_means(self) -> np.ndarray:
        """The means of the features, shape (1, d): a row that any model can be tried on."""
        return self.scaler.mean[None]

    def read(self, data: str, *, id_name: str | None = None, header: bool | None = None) -> NewRows:
        """The rows of a set's name or a file, with features of shape (n, d).

        Raises
        ------
        InvalidInputError
            If there are none, or they are not what the model was fitted on.
        """
        rows = new_rows(
            self.encoder,
            data,
            self.target_name,
            self.layout,
            id_name=id_name,
            header=header,
            max_memory=memory_budget(),
        )
        if len(rows.X) == 0:
            raise InvalidInputError(f"{data} has no rows.")
        return rows

    def predict_data(self, data: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Predictions for a set's name or a file, and the true targets if it has them."""
        rows = self.read(data)
        return self.predict(rows.X), rows.y

    def count_known(self, X: np.ndarray) -> int:
        """How many rows have exactly the features of a row that the model was fitted to."""
        known = {row.tobytes() for row in self.estimator.X_fit_ + 0.0}  # -0.0 is 0.0
        return sum(row.tobytes() in known for row in self.scaler.transform(X) + 0.0)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file, which :func:`kernreg.load` reads as well.

        The file is complete or absent.

        Raises
        ------
        OSError
            If the folder is missing or not writable.
        """
        target = Path(path)
        if not target.parent.is_dir():
            raise FileNotFoundError(f"Cannot save to {target}: there is no folder {target.parent}.")
        try:
            with atomic(target) as draft:
                self.estimator.save(draft)
                texts, arrays, _ = read_record(draft)
                mode = draft.stat().st_mode
                write_record(draft, arrays, texts | {_KEY: json.dumps(self._state())})
                draft.chmod(mode)
        except (OSError, SafetensorError) as error:
            cause = error.__cause__ or error  # the estimator's message names the draft
            reason = getattr(cause, "strerror", None) or cause
            raise OSError(f"Cannot save to {target}: {reason}. Nothing was written.") from error

    def _state(self) -> dict[str, Any]:
        return {
            "version": _VERSIONS[-1],
            "task": self.task,
            "target": self.target_name,
            "columns": [asdict(column) for column in self.encoder.columns],
            "commas": self.encoder.commas,
            "fills": self.encoder.fills,
            "empty": self.encoder.left_out,
            "prose": self.encoder.prose,
            "names": self.layout.names,
            "header": self.layout.header,
            "id": self.layout.id_name,
            "labels_are_text": self.layout.labels_are_text,
            "scaling": self.scaler.kind,
            "mean": self.scaler.mean.tolist(),
            "scale": self.scaler.scale.tolist(),
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TableModel:
        """Read a file that :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ModelFileError
            If it is truncated, foreign, or a model saved from Python, without columns and scaling.
        """
        estimator = kernreg.load(path)
        try:
            text = read_record(path)[0].get(_KEY)
        except Damaged as error:
            raise ModelFileError(f"{path} cannot be read: {error}.") from error
        if text is None:
            raise ModelFileError(
                f"{path} is a bare estimator, without the columns and the scaling of its data: use "
                "kernreg.load and predict in Python, or make the model by `kernreg fit`."
            )
        try:
            return cls._from_state(estimator, parse(text))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(f"{path} is damaged or was edited: {error!r}.") from error

    @classmethod
    def _from_state(cls, estimator: Any, state: dict[str, Any]) -> TableModel:
        version = state["version"]
        _expect(version in _VERSIONS, f"version {_VERSIONS[-1]}", version)
        if version == 1:
            state = _of_version_1(estimator, state)
        if version < 3:
            names = ("name", "categories", "fill")
            columns = [dict(zip(names, c, strict=True)) for c in state["columns"]]
            state = state | {"columns": columns}
        encoder, layout = _encoder_from(state), _layout_from(state)
        task, width = state["task"], len(encoder.feature_names)
        made = [getattr(kernreg, name) for (_, of), name in _ESTIMATORS.items() if of == task]
        _expect(task in get_args(Task) and type(estimator) in made, "the estimator's task", task)
        found = estimator.n_features_in_
        _expect(width == found, f"columns that give {found} features", width)
        kind = state["scaling"]
        _expect(kind in get_args(Kind), f"a scaling of {get_args(Kind)}", kind)
        mean, scale = (np.array(state[name], dtype=np.float64) for name in ("mean", "scale"))
        for part in (mean, scale):
            fits = part.shape == (width,) and bool(np.isfinite(part).all())
            _expect(fits, f"{width} finite numbers for the scaling", part)
        _expect((scale > 0).all(), "positive scales", scale)
        target = str(state["target"])
        return cls(estimator, Scaler(kind, mean, scale), encoder, task, target, layout)


def _of_version_1(estimator: Any, state: dict[str, Any]) -> dict[str, Any]:
    """The state of a model from before text was read as what it was in training."""
    labels = getattr(estimator, "classes_", None)
    return state | {
        "columns": [[name, values, None] for name, values in state["columns"]],
        "commas": None,
        "fills": False,
        "empty": [],
        "names": [],
        "header": True,
        "id": None,
        "labels_are_text": labels is not None and labels.dtype.kind == "U",
    }


def _encoder_from(state: dict[str, Any]) -> Encoder:
    columns = []
    for one in state["columns"]:
        column = Column(**one)
        name, categories, fill = column.name, column.categories, column.fill
        texts = categories is None or all(isinstance(c, str) for c in categories)
        _expect(isinstance(name, str) and texts, "names and categories of text", name)
        filled = fill is None or (not column.indicated and bool(np.isfinite(fill)))
        _expect(filled, "finite numbers for what is missing", fill)
        _expect(isinstance(column.date, str | None), "a format of dates", column.date)
        flags = isinstance(column.placed, bool) and isinstance(column.flagged, bool)
        _expect(flags, "true or false", (column.placed, column.flagged))
        columns.append(replace(column, categories=categories and tuple(categories)))
    commas, fills, empty = state["commas"], state["fills"], tuple(state["empty"])
    _expect(commas in (None, "decimal", "thousands"), "a meaning of commas", commas)
    prose = tuple(map(str, state.get("prose", ())))
    return Encoder(tuple(columns), commas, bool(fills), tuple(map(str, empty)), prose)


def _layout_from(state: dict[str, Any]) -> Layout:
    names, id_name = state["names"], state["id"]
    known = isinstance(names, list) and all(isinstance(name, str) for name in names)
    _expect(known, "names of columns", names)
    _expect(id_name is None or isinstance(id_name, str), "the name of a column", id_name)
    return Layout(tuple(names), bool(state["header"]), id_name, bool(state["labels_are_text"]))


def _expect(holds: bool | np.bool_, what: str, found: Any) -> None:
    if not holds:
        raise ValueError(f"expected {what}, found {found}")


def fit_model(
    data: Dataset,
    rows: np.ndarray,
    network: Any,
    kernel: str,
    alpha: str | float | np.ndarray,
    scaling: Kind | Scaler,
    max_memory: int | None = None,
    solver: str | Solver = "auto",
    dtype: str = "float64",
    *,
    kind: str = "ridge",
    verbose: bool = False,
    **options: Any,
) -> TableModel:
    """Scale some rows of a data set and fit an estimator to them.

    Parameters
    ----------
    data : Dataset
        The data.
    rows : ndarray of int
        Rows to fit.
    network : Layer
        The network.
    kernel : {"nngp", "ntk"}
        Its kernel.
    alpha : "auto", float or ndarray
        Ridge relative to the mean diagonal, or several to choose from by leave-one-out.
    scaling : {"standard", "common", "channel"} or Scaler
        Scaling of the inputs, chosen on the rows or known.
    max_memory : int, optional
        Bytes.
    solver, dtype
        As for the estimators.
    kind : {"ridge", "gp", "ensemble"}, default="ridge"
        Kernel ridge regression, a Gaussian process, or an infinite ensemble.
    verbose : bool, default=False
        Show a bar during this fit.
    **options : object
        Further parameters of the estimators.

    Examples
    --------
    >>> from kernreg.datasets import load
    >>> data = load("diabetes")
    >>> rows = np.arange(100)
    >>> model = fit_model(data, rows, "mlp(depth=1)", "nngp", 1.0, "standard")
    >>> type(model.estimator).__name__, model.predict(data.X[100:103]).shape
    ('KernelRegressor', (3,))
    """
    if isinstance(scaling, Scaler):
        scaler = scaling
    else:
        scaler = Scaler.fit(data.X[rows], scaling, data.shape)
    parameters = {"train" if kind == "ensemble" else "kernel": kernel, "alpha": alpha}
    estimator = estimator_class(kind, data.task)(
        network,
        **parameters,
        solver=solver,
        dtype=dtype,
        max_memory=max_memory,
        verbose=verbose,
        **options,
    )
    estimator.fit(scaler.transform(data.X[rows]), data.y[rows])
    estimator.set_params(verbose=0)
    return TableModel(estimator, scaler, data.encoder, data.task, data.target_name, data.layout)


def estimator_class(kind: str, task: Task) -> Any:
    """The estimator of a kind of model.

    Raises
    ------
    InvalidInputError
        If there is none for the task.

    Examples
    --------
    >>> estimator_class("gp", "classification").__name__
    'GaussianProcessClassifier'
    """
    if (kind, task) not in _ESTIMATORS:
        raise InvalidInputError(
            f"There is no model of kind {kind!r} for {task}: leave --model out."
        )
    return getattr(kernreg, _ESTIMATORS[kind, task])
