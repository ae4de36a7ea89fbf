"""Rows for a model that is fitted already, read with the types that it knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kernreg.datasets.dataset import Layout
from kernreg.datasets.encoding import Encoder
from kernreg.datasets.readers import numbers_of, read, read_table
from kernreg.datasets.text import stripped
from kernreg.exceptions import InvalidInputError
from kernreg.wording import counted, did_you_mean, listed

__all__ = ["NewRows", "new_rows"]


@dataclass(frozen=True)
class NewRows:
    """Rows for a model.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Features.
    y : ndarray of shape (n,) or None
        The target where the data have it, NaN or None where it is missing.
    ids : ndarray of shape (n,) or None
        Names of the rows.
    id_name : str or None
        Of the column that they come from.
    notes : tuple of str
        What the user should see.

    Examples
    --------
    >>> import tempfile
    >>> from kernreg.datasets import load
    >>> frame = pd.DataFrame({"id": ["a", "b"], "size": [1.0, 2.0], "y": [2.5, 3.5]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/table.csv"
    ...     frame.to_csv(path, index=False)
    ...     data = load(path, id_name="id")
    ...     found = new_rows(data.encoder, path, "y", data.layout)
    >>> found.ids.tolist(), found.X.tolist(), found.y.tolist()
    (['a', 'b'], [[1.0], [2.0]], [2.5, 3.5])
    """

    X: np.ndarray
    y: np.ndarray | None = None
    ids: np.ndarray | None = None
    id_name: str | None = None
    notes: tuple[str, ...] = ()


def new_rows(
    encoder: Encoder,
    name_or_path: str,
    target: str | None = None,
    layout: Layout | None = None,
    *,
    id_name: str | None = None,
    header: bool | None = None,
    max_memory: int | None = None,
) -> NewRows:
    """Rows for a model, read with the types that it knows.

    Parameters
    ----------
    encoder : Encoder
        Of the data that the model was fitted on.
    name_or_path : str
        As for :func:`load`.
    target : str, optional
        Name of the target that the model was fitted to; the data may lack it.
    layout : Layout, optional
        Of the data that the model was fitted on.
    id_name : str, optional
        Column that names the rows; that of the layout, if the data have it.
    header : bool, optional
        Whether the first line of a text file has names; as in the layout. Where this file or that
        of the layout has none, columns are taken in the order of the layout.
    max_memory : int, optional
        As for :func:`load`.

    Raises
    ------
    InvalidInputError
        For data that lack a column, or hold something else in it than a model can take.

    Examples
    --------
    >>> import tempfile
    >>> from kernreg.datasets import load
    >>> frame = pd.DataFrame({"size": [1, 2, 4], "colour": ["red", "blue", "red"], "y": [2, 3, 5]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     known, later = f"{folder}/known.csv", f"{folder}/later.csv"
    ...     frame.to_csv(known, index=False)
    ...     frame[["colour", "size"]][:1].to_csv(later, index=False)  # in another order
    ...     data = load(known)
    ...     found = new_rows(data.encoder, later, "y", data.layout)
    >>> data.feature_names, found.X.tolist(), found.y
    (('size', 'colour=blue', 'colour=red'), [[1.0, 0.0, 1.0]], None)
    """
    known = layout or Layout()
    named = known.header if header is None else header
    table = read_table(str(name_or_path), header=named)
    if table is None:
        return _new_arrays(encoder, str(name_or_path), target, id_name, max_memory)
    name, frame, notes = table
    if not (named and known.header):
        frame = _placed(frame, name, known, target, encoder)
    double = [str(n) for n in frame.columns[frame.columns.duplicated()].unique()]
    used = {c.name for c in encoder.columns}
    ids_from = id_name if id_name is not None else known.id_name
    if id_name is not None and id_name not in frame.columns:
        raise InvalidInputError(
            f"{name_or_path} has no id column {id_name!r}; its columns are "
            f"{listed(frame.columns, 12)}.{did_you_mean(id_name, list(map(str, frame.columns)))}"
        )
    double = [n for n in double if n in used or n in (ids_from, target)]
    if double:
        raise InvalidInputError(f"{name_or_path}: column names occur twice: {', '.join(double)}.")
    X = encoder.transform(frame)
    expected = {*known.names, *used, *encoder.left_out, target, ids_from}
    extra = [n for n in map(str, frame.columns) if n not in expected]
    if extra and known.names:
        notes = [
            *notes,
            f"ignored {counted(len(extra), 'column')} that the model does not know "
            f"({listed(extra)})",
        ]
    ids = None
    if ids_from in frame.columns:
        ids = frame[ids_from].astype(object).where(frame[ids_from].notna(), "").to_numpy()
    elif known.id_name is not None:
        notes = [*notes, f"there is no id column {known.id_name!r}, so rows are numbered"]
    notes = [*notes, *(note[0].lower() + note[1:-1] for note in encoder.filled(frame))]
    y = None
    if target in frame.columns:
        y = _truth(frame[target], encoder, known)
    return NewRows(X, y, ids, ids_from, (f"{name}: {'; '.join(notes)}.",) if notes else ())


def _new_arrays(
    encoder: Encoder,
    data: str,
    target: str | None,
    id_name: str | None,
    max_memory: int | None,
) -> NewRows:
    source = read(
        data,
        target,
        id_name=id_name,
        need_target=False,
        max_memory=max_memory,
        features=[c.name for c in encoder.columns],
    )
    features, y = source.features, source.y
    if isinstance(features, np.ndarray) and y is None:
        # One column more than the model's: the target, where it was or else last.
        names = [f"column {j}" for j in range(features.shape[1])]
        if len(names) == len(encoder.columns) + len(encoder.left_out) + 1:
            index = names.index(target) if target in names else -1
            features, y = np.delete(features, index, axis=1), features[:, index]
    return NewRows(encoder.transform(features), y, source.ids, id_name)


def _placed(
    frame: pd.DataFrame, name: str, layout: Layout, target: str | None, encoder: Encoder
) -> pd.DataFrame:
    """Names for columns that have none, by their order."""
    width, used = frame.shape[1], [c.name for c in encoder.columns]
    for names in (list(layout.names), [n for n in layout.names if n != target], used):
        if len(names) == width:
            return frame.set_axis(names, axis=1)
    raise InvalidInputError(
        f"{name} has {counted(width, 'column')} without names; expected {len(layout.names)} as in "
        f"the data that the model was fitted on ({listed(layout.names)}), or these without "
        f"{target!r}."
    )


def _truth(column: pd.Series, encoder: Encoder, layout: Layout) -> np.ndarray:
    """The target of new rows, read as what the model predicts; missing as NaN or None."""
    if layout.labels_are_text:
        return np.array(stripped(column).to_pylist(), dtype=object)
    if isinstance(column.dtype, pd.ArrowDtype):
        text = stripped(column)
        numbers = numbers_of(text, encoder.commas)
        return np.array(text.to_pylist(), dtype=object) if numbers is None else numbers
    if pd.api.types.is_numeric_dtype(column.dtype) and column.isna().any():
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    values = column.to_numpy()
    return values if values.dtype.kind in "biufc" else column.astype(object).to_numpy()
