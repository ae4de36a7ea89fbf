"""``kernreg predict``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from kernreg.cli.console import join_job, progress, say_notes, stderr, stdout
from kernreg.cli.inputs import check_data
from kernreg.cli.options import (
    DataArgument,
    Overwrite,
)
from kernreg.cli.outputs import (
    PREDICTIONS,
    Output,
    check_outputs,
    is_model,
    is_stream,
    write_text,
)
from kernreg.exceptions import (
    InvalidInputError,
    ModelFileError,
)
from kernreg.wording import counted, listed

if TYPE_CHECKING:
    from kernreg.baseline import TableModel

__all__ = ["predict"]

ModelArgument = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model file, or the folder of a baseline.")
]


def predict(
    model: ModelArgument,
    data: DataArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV file to write; default stdout.")
    ] = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="Also write the decision value of every label.")
    ] = False,
    interval: Annotated[
        float | None,
        typer.Option(
            metavar="LEVEL",
            help="Also bounds that the target is within with this probability, 0.9 say.",
        ),
    ] = None,
    proba: Annotated[
        bool, typer.Option("--proba", help="Also write the probability of every label.")
    ] = False,
    id_name: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="COL", help="Column that names the rows; by default that of the model."
        ),
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether the first line has names; by default as in the data of the model.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Predict the target of each row; the score too, if the data hold the target.

    Each line has the number of its row, from 0, or its name by --id. The score counts rows that
    the model was fitted to as well; a note says how many these are.
    """
    writes = join_job()
    if out is not None and writes:
        check_outputs(
            [Output("--out", out, PREDICTIONS)],
            [("the data", data), ("the model", model)],
            overwrite,
        )
    if not model.exists() and not (model.parent / "zarr.json").exists():
        _check_order(model, data)
        raise FileNotFoundError(f"There is no model file {model}.")
    try:
        loaded = _load(model)
    except (ModelFileError, FileNotFoundError):
        _check_order(model, data)
        raise
    _check_wanted(loaded, scores, interval, proba)
    check_data(data, "predict MODEL DATA")
    rows = loaded.read(data, id_name=id_name, header=header)
    say_notes(rows.notes)
    names = ["row" if rows.ids is None else str(rows.id_name), f"predicted_{loaded.target_name}"]
    with progress(writes, "predicting"):
        predicted = loaded.predict(rows.X)
        columns = [range(len(predicted)) if rows.ids is None else rows.ids, predicted.tolist()]
        for name, values in _wanted(loaded, rows.X, scores, interval, proba):
            names.append(name)
            columns.append(values.tolist())
    if not writes:
        return
    _write(out, names, columns)
    if rows.y is not None:
        stderr.print(_score(loaded.task, predicted, rows.y), markup=False)
        say_notes(_doubts(loaded, rows.X, rows.y))


def _check_wanted(model: TableModel, scores: bool, interval: float | None, proba: bool) -> None:
    """Raise InvalidInputError for what the model cannot tell, before the data are read."""
    if scores and model.task == "regression":
        raise InvalidInputError(
            f"--scores is for labels, and the model predicts the numbers {model.target_name!r}: "
            "leave it out."
        )
    if interval is not None and not 0 < interval < 1:
        raise InvalidInputError(
            f"--interval is {interval:g}; expected a probability between 0 and 1, 0.9 say."
        )
    for _ in _wanted(model, model.row_of_means, False, interval, proba):
        pass


def _wanted(
    model: TableModel, X: np.ndarray, scores: bool, interval: float | None, proba: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and values of the columns that are asked for beside the prediction."""
    if scores:
        labels, values = model.scores(X)
        yield from zip((f"score_{label}" for label in labels), values.T, strict=True)
    if interval is not None:
        for name, bound in zip(("lower", "upper"), model.interval(X, interval), strict=True):
            yield f"{name}_{interval:g}", bound
    if proba:
        labels, values = model.probabilities(X)
        yield from zip((f"probability_{label}" for label in labels), values.T, strict=True)


def _write(out: Path | None, names: list[str], columns: list[Sequence[Any]]) -> None:
    """The predictions as a table, to a file or to stdout."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*columns, strict=True))
    if out is None:
        typer.echo(text.getvalue(), nl=False)
        return
    write_text(out, text.getvalue())
    told = stderr if is_stream(out) else stdout
    told.print(f"{counted(len(columns[0]), 'prediction')} written to {out}.", markup=False)


def _doubts(model: TableModel, X: np.ndarray, truth: np.ndarray) -> Iterator[str]:
    """What makes a score too low or too high."""
    strange = _unknown_labels(model, truth)
    if strange:
        yield (
            f"The target has values that are no labels of the model ({strange}), so these rows "
            "count as wrong."
        )
    known = model.count_known(X)
    if known:
        yield (
            f"The model was fitted to {known:,} of these {counted(len(X), 'row')}: the score says "
            "little about new ones."
        )


def _load(model: Path) -> TableModel:
    from kernreg.baseline import TableModel
    from kernreg.baseline.results import MODEL_FILE

    return TableModel.load(model / MODEL_FILE if model.is_dir() else model)


def _check_order(model: Path, data: str) -> None:
    """Raise InvalidInputError if the data are a model: both may be exchanged."""
    if Path(data).exists() and is_model(Path(data)):
        raise InvalidInputError(
            f"{model} is no model, but {data} is one: the model comes first, kernreg predict "
            f"{data} {model}."
        )


def _score(task: str, predicted: np.ndarray, truth: np.ndarray) -> str:
    """The score on the rows with a target, or why there is none."""
    import pandas as pd

    known = ~pd.isna(truth)
    rows = counted(int(known.sum()), "row") + ("" if known.all() else " with a target")
    if not known.any():
        return "note: No row has a target, so there is no score."
    predicted, truth = predicted[known], truth[known]
    numbers = _numbers(truth)
    if task == "classification":
        if numbers is not None and predicted.dtype.kind in "biuf":
            right = predicted.astype(np.float64) == numbers
        else:
            right = np.array(_texts(predicted)) == np.array(_texts(truth))
        return f"accuracy {100 * np.mean(right):.2f} % on {rows}"
    if numbers is None or not np.isfinite(numbers).all():
        return "note: The target does not hold finite numbers only, so there is no score."
    truth = numbers
    squared, variance = np.mean((truth - predicted) ** 2), np.var(truth)
    r2 = f"R2 {1 - squared / variance:.4f}, " if variance > 0 else ""
    return f"{r2}RMSE {squared**0.5:.4g} on {rows}"


def _unknown_labels(model: TableModel, truth: np.ndarray) -> str:
    """Targets that the model cannot predict."""
    import pandas as pd

    if model.task == "regression":
        return ""
    known = set(_texts(model.estimator.classes_))
    found = dict.fromkeys(_texts(truth[~pd.isna(truth)]))
    return listed([value for value in found if value not in known], most=5)


def _numbers(values: np.ndarray) -> np.ndarray | None:
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return None


def _texts(values: np.ndarray) -> list[str]:
    """Labels as text; 1.0 is 1, because a column with gaps is read as floats."""
    whole = values.dtype.kind == "f" and bool((values == np.round(values)).all())
    return [f"{v:.0f}" if whole else str(v) for v in values.tolist()]
