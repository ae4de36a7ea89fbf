"""A data set ready for an estimator, and how it is made from a name or a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from kernreg._wording import counted, listed
from kernreg.datasets.encoding import Encoder, kind_of
from kernreg.datasets.readers import Source, read
from kernreg.exceptions import InvalidInputError

__all__ = ["Dataset", "features_for", "load"]

Task = Literal["regression", "classification"]
MAX_AUTO_CLASSES = 20


@dataclass(frozen=True)
class Dataset:
    """Inputs and target, checked: finite, real, at least two rows.

    Parameters
    ----------
    name : str
        Short name.
    X : ndarray of shape (n, d)
        Features, float64 or float32, not scaled.
    y : ndarray of shape (n,)
        float64 for regression; labels (numbers, booleans or strings) for classification.
    task : {"regression", "classification"}
        What the target asks for.
    encoder : Encoder
        How the raw columns became features.
    target_name : str
        Name of the target.
    classes : ndarray or None
        The labels, sorted; None for regression.
    test_mask : ndarray of bool of shape (n, n_splits) or None
        Test rows of each split that the source prescribes.
    notes : tuple of str
        Decisions and oddities that the user should see.
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    task: Task
    encoder: Encoder
    target_name: str
    classes: np.ndarray | None = None
    test_mask: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of ``X``."""
        return self.encoder.feature_names


def load(
    name_or_path: str,
    target: str | None = None,
    task: Literal["auto", "regression", "classification"] = "auto",
) -> Dataset:
    """Load a scikit-learn set by name or a CSV, TSV, Parquet, NPZ or NPY file.

    Parameters
    ----------
    name_or_path : str
        ``breast_cancer``, ``diabetes``, ``digits``, ``iris``, ``wine``, or a path. NPZ files hold
        ``X`` and ``y`` (and optionally ``test_mask``), or ``X_train``, ``y_train``, ``X_test``
        and ``y_test``; images are flattened. The target of an NPY file is its last column.
    target : str, optional
        Column of the target; by default a column called target, y, label or class, otherwise
        the last one.
    task : {"auto", "regression", "classification"}
        ``"auto"`` takes text, booleans, and whole numbers with at most 20 values for classes.

    Returns
    -------
    Dataset

    Raises
    ------
    InvalidInputError
        For data that cannot be used, with the columns and the remedy named.

    Examples
    --------
    >>> data = load("iris")
    >>> data.X.shape, data.task, [str(c) for c in data.classes]
    ((150, 4), 'classification', ['setosa', 'versicolor', 'virginica'])
    """
    if task not in ("auto", "regression", "classification"):
        raise InvalidInputError(
            f"Unknown task {task!r}; expected auto, regression or classification."
        )
    source = read(str(name_or_path), target)
    rows = len(source.features)
    if rows < 2:
        raise InvalidInputError(f"{source.name} has {counted(rows, 'row')}; at least 2 are needed.")
    encoder = Encoder.fit(source.features)
    X = encoder.transform(source.features)
    y, found, task_note = _target(source, task)
    classes = np.unique(y) if found == "classification" else None
    notes = source.notes + encoder.notes + task_note + _oddities(X, encoder.feature_names)
    return Dataset(
        source.name,
        X,
        y,
        found,
        encoder,
        source.target_name or "target",
        classes,
        source.test_mask,
        notes,
    )


def features_for(
    encoder: Encoder, name_or_path: str, target: str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Features of new data for a model, and their target where the data have one.

    Parameters
    ----------
    encoder : Encoder
        Of the data that the model was fitted on.
    name_or_path : str
        As for :func:`load`.
    target : str, optional
        Name of the target that the model was fitted to; the data may lack it.

    Returns
    -------
    X : ndarray of shape (n, d)
    y : ndarray of shape (n,) or None
    """
    source = read(str(name_or_path), target, need_target=False)
    features, y = source.features, source.y
    if isinstance(features, np.ndarray) and y is None:
        # One column more than the model's: the target, where it was or else last.
        names = [f"column {j}" for j in range(features.shape[1])]
        if len(names) == len(encoder.columns) + 1:
            index = names.index(target) if target in names else -1
            features, y = np.delete(features, index, axis=1), features[:, index]
    return encoder.transform(features), y


def _target(source: Source, task: str) -> tuple[np.ndarray, Task, tuple[str, ...]]:
    y = source.y
    if y is None:
        raise InvalidInputError(f"{source.name} has no target.")
    name = source.target_name
    missing = int(pd.isna(y).sum()) if y.dtype.kind in "Ofc" else 0
    if missing:
        raise InvalidInputError(
            f"The target {name!r} is missing or NaN in {counted(missing, 'row')}; drop such rows."
        )
    text = y.dtype.kind in "US" or (y.dtype.kind == "O" and _is_text(y))
    if not text and y.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"The target {name!r} holds {kind_of(y.dtype)}; expected numbers or text."
        )
    if text:
        try:
            y = y.astype(str)
        except UnicodeDecodeError:
            raise InvalidInputError(
                f"The target {name!r} holds bytes that are no ASCII text; store it as text."
            ) from None
    if not text and not np.isfinite(y).all():
        raise InvalidInputError(f"The target {name!r} has infinite values; drop such rows.")
    values = np.unique(y)
    if len(values) == 1:
        raise InvalidInputError(
            f"The target {name!r} has the same value, {values[0]}, in all {len(y):,} rows: there "
            "is nothing to learn."
        )
    whole = text or y.dtype.kind == "b" or bool((y == np.round(y)).all())
    wanted = task if task != "auto" else source.task
    notes: tuple[str, ...] = ()
    if wanted is None:
        few = len(values) <= min(MAX_AUTO_CLASSES, max(2, len(y) // 2))
        classes = text or y.dtype.kind == "b" or (whole and few)
        wanted = "classification" if classes else "regression"
        notes = (f"The task is {wanted}: the target has {len(values):,} values; see --task.",)
    if wanted == "regression":
        if text:
            raise InvalidInputError(
                f"The target {name!r} holds text such as {str(y[0])!r}; regression needs numbers."
            )
        return y.astype(np.float64), "regression", notes
    if not whole:
        raise InvalidInputError(
            f"The target {name!r} has {len(values)} fractional values; classification needs text "
            "or whole numbers. Use --task regression."
        )
    if len(values) > len(y) / 2:
        raise InvalidInputError(
            f"The target {name!r} has {len(values)} classes in {len(y)} rows; most classes would "
            "have one row. Choose another target."
        )
    if y.dtype.kind == "f" and np.abs(y).max() < 2**53:
        y = y.astype(np.int64)
    return y, "classification", notes


def _is_text(y: np.ndarray) -> bool:
    return all(isinstance(v, str | bool | np.bool_) for v in y)


def _oddities(X: np.ndarray, names: tuple[str, ...]) -> tuple[str, ...]:
    notes: list[str] = []
    constant = np.flatnonzero(X.max(axis=0) == X.min(axis=0))
    if len(constant):
        shown = listed([names[j] for j in constant], most=5)
        notes.append(f"Constant columns, harmless: {len(constant):,} ({shown}).")
    copies = len(X) - len(_unique_rows(X))
    if copies:
        notes.append(f"Rows whose features repeat an earlier row: {copies:,}.")
    return tuple(notes)


def _unique_rows(X: np.ndarray) -> set[int]:
    return {hash(row.tobytes()) for row in np.ascontiguousarray(X)}
