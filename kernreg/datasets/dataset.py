"""A data set ready for an estimator, and how it is made from a name or a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from kernreg.datasets.columns import Fill
from kernreg.datasets.encoding import Encoder
from kernreg.datasets.problems import all_of
from kernreg.datasets.readers import Source, read
from kernreg.datasets.target import Task, decide_target
from kernreg.exceptions import InvalidInputError
from kernreg.wording import counted, listed

__all__ = ["Dataset", "Layout", "load"]


@dataclass(frozen=True)
class Layout:
    """How a table was laid out, for later tables that are to be read alike.

    Parameters
    ----------
    names : tuple of str
        All columns, in order; none for arrays.
    header : bool
        Whether its first line had the names.
    id_name : str or None
        The column that names the rows.
    labels_are_text : bool
        Whether the target is text, also where a later file has numbers in it.

    Examples
    --------
    >>> from kernreg.datasets import load
    >>> layout = load("iris").layout
    >>> layout.names[:2], layout.header, layout.labels_are_text
    (('sepal length (cm)', 'sepal width (cm)'), True, True)
    """

    names: tuple[str, ...] = ()
    header: bool = True
    id_name: str | None = None
    labels_are_text: bool = False


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
    ids : ndarray of shape (n,) or None
        Names of the rows.
    layout : Layout
        How the source was laid out.
    shape : tuple of int or None
        Of the images that rows hold; None for tables.

    Examples
    --------
    >>> data = load("diabetes")
    >>> data.task, data.X.shape, data.y[:3].tolist()
    ('regression', (442, 10), [151.0, 75.0, 141.0])
    >>> data.feature_names[:4], data.classes, data.target_name
    (('age', 'sex', 'bmi', 'bp'), None, 'target')
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
    ids: np.ndarray | None = None
    layout: Layout = field(default_factory=Layout)
    shape: tuple[int, ...] | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of ``X``."""
        return self.encoder.feature_names

    def training(self) -> Dataset:
        """The rows for training, where the source prescribes one split; all rows otherwise."""
        if self.test_mask is None:
            return self
        if self.test_mask.shape[1] > 1:
            splits = self.test_mask.shape[1]
            note = f"All rows are used: {self.name} has {splits} test splits, none of them chosen."
            return replace(self, notes=(*self.notes, note))
        kept = ~self.test_mask[:, 0]
        note = (
            f"Only the {counted(int(kept.sum()), 'row')} for training are used; {self.name} holds "
            f"{counted(int((~kept).sum()), 'test row')} as well."
        )
        return replace(
            self,
            X=self.X[kept],
            y=self.y[kept],
            test_mask=None,
            ids=None if self.ids is None else self.ids[kept],
            notes=(*self.notes, note),
        )


def load(
    name_or_path: str,
    target: str | None = None,
    task: Literal["auto", "regression", "classification"] = "auto",
    *,
    drop: Sequence[str] = (),
    id_name: str | None = None,
    impute: Fill | None = None,
    header: bool = True,
    max_memory: int | None = None,
) -> Dataset:
    """Load a scikit-learn set by name or a CSV, TSV, Parquet, NPZ, NPY or svmlight file.

    Parameters
    ----------
    name_or_path : str
        ``breast_cancer``, ``diabetes``, ``digits``, ``iris``, ``wine``, or a path. NPZ files hold
        ``X`` and ``y`` (and optionally ``test_mask``), or ``X_train``, ``y_train``, ``X_test``
        and ``y_test``; images become rows whose ``shape`` is kept. The target of an NPY file is its
        last column, that of an svmlight file (``.svm``, ``.svmlight``, ``.libsvm``) its labels.
    target : str, optional
        Column of the target; by default a column called target, y, label or class, otherwise
        the last one.
    task : {"auto", "regression", "classification"}
        ``"auto"`` takes text, booleans, and whole numbers with at most 20 values for classes.
    drop : sequence of str
        Columns to leave out.
    id_name : str, optional
        Column that names the rows; no feature.
    impute : {"mean", "median", "auto"}, optional
        Fill missing numbers by this value of their column, and make missing text a category; or
        make the most of every column, see :meth:`Encoder.fit`. Gaps are refused if left out.
    header : bool, default=True
        Whether the first line of a text file has the names of the columns. Without it they are
        0, 1, ...
    max_memory : int, optional
        Bytes that the arrays of an NPZ, NPY or svmlight file may take.

    Returns
    -------
    Dataset

    Raises
    ------
    InvalidInputError
        For data that cannot be used, with the columns and the remedies named, all in one message.
    MemoryBudgetError
        If arrays are larger than ``max_memory``; before they are read.

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
    source = read(
        str(name_or_path),
        target,
        drop=drop,
        id_name=id_name,
        header=header,
        max_memory=max_memory,
    )
    rows = len(source.features)
    if rows < 2:
        raise InvalidInputError(f"{source.name} has {counted(rows, 'row')}; at least 2 are needed.")
    wanted = source.task if task == "auto" else task

    def encoded() -> tuple[Encoder, np.ndarray]:
        # Pixels keep their places, so that gaps in images get no features of their own.
        gaps = None if source.shape is not None and impute == "auto" else impute
        encoder = Encoder.fit(source.features, gaps, source.commas)
        return encoder, encoder.transform(source.features)

    def decided() -> tuple[np.ndarray, Task, str]:
        if source.y is None:
            raise InvalidInputError(f"{source.name} has no target.")
        return decide_target(source.y, source.target_name, wanted)

    steps: list[Any] = all_of(encoded, decided)
    (encoder, X), (y, found, task_note) = steps
    notes = (
        *source.notes,
        *encoder.notes,
        *encoder.filled(source.features),
        *([task_note] if task_note else []),
        *_oddities(source, X, encoder.feature_names),
    )
    return Dataset(
        source.name,
        X,
        y,
        found,
        encoder,
        source.target_name or "target",
        np.unique(y) if found == "classification" else None,
        source.test_mask,
        notes,
        source.ids,
        Layout(source.names, header, id_name, y.dtype.kind == "U"),
        source.shape,
    )


def _oddities(source: Source, X: np.ndarray, names: tuple[str, ...]) -> tuple[str, ...]:
    notes: list[str] = []
    constant = np.flatnonzero(X.max(axis=0) == X.min(axis=0))
    if len(constant):
        shown = listed([names[j] for j in constant], most=5)
        notes.append(f"Constant columns, harmless: {len(constant):,} ({shown}).")
    copies = len(X) - len(_unique_rows(X))
    if copies:
        notes.append(f"Rows whose features repeat an earlier row: {copies:,}.")
    if isinstance(source.features, pd.DataFrame):
        numbering = [
            name
            for name in source.features.columns
            if re.fullmatch(r"(?i)(.*[_ ])?(id|index|nr|row)", str(name)) and name in names
            if _numbers_rows(X[:, names.index(name)])
        ]
        notes += [
            f"The column {name!r} seems to number the rows and is used as a feature; say --id "
            f"{name} to keep it beside the predictions only."
            for name in numbering
        ]
    return tuple(notes)


def _numbers_rows(values: np.ndarray) -> bool:
    return bool((values == np.round(values)).all()) and len(np.unique(values)) == len(values)


def _unique_rows(X: np.ndarray) -> set[int]:
    return {hash(row.tobytes()) for row in np.ascontiguousarray(X)}
