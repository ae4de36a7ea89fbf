"""``kernreg fit`` and ``kernreg predict``."""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import numpy as np
import typer
from rich.markup import escape

from kernreg._wording import counted, lasting, listed
from kernreg.cli.console import join_job, stderr, stdout
from kernreg.cli.options import (
    Centres,
    DataArgument,
    Device,
    Drop,
    FloatName,
    Folder,
    Header,
    IdName,
    Impute,
    Kernel,
    MaxMemory,
    Network,
    ScalingName,
    SolverName,
    Target,
    Task,
    TaskOption,
    Tolerance,
    check_choice,
    check_solver,
    table_options,
)
from kernreg.cli.solvers import SolverOptions, parse_alpha
from kernreg.exceptions import InvalidInputError, KernregError, ModelFileError

if TYPE_CHECKING:
    from kernreg.baseline import TableModel
    from kernreg.linalg import TileStore

__all__ = ["fit", "predict"]

ModelArgument = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model file, or the folder of a baseline.")
]


def fit(
    context: typer.Context,
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="MODEL", help="File to write.")],
    network: Network = "mlp(depth=3)",
    kernel: Kernel = "ntk",
    alpha: Annotated[
        str,
        typer.Option(
            help="Ridge over mean diagonal; of several, 1e-4,1e-3 say, and of auto (1e-8 to 1) "
            "the best by leave-one-out, on at most 3,000 rows for auto."
        ),
    ] = "auto",
    target: Target = None,
    task: TaskOption = Task.auto,
    drop: Drop = None,
    id_name: IdName = None,
    impute: Impute = None,
    header: Header = True,
    scaling: ScalingName = "standard",
    solver: SolverName = "auto",
    dtype: FloatName = "float64",
    max_memory: MaxMemory = "4GB",
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="pcg, sketch: goes on from there after a kill."),
    ] = None,
    folder: Folder = None,
    centres: Centres = None,
    tol: Tolerance = None,
    device: Device = "cpu",
    store: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE",
            help="Tiles that gram wrote for these data, with its network, kernel and scaling.",
        ),
    ] = None,
) -> None:
    """Fit one network to all rows of a table and save the model."""
    from kernreg.baseline import fit_model
    from kernreg.baseline.scaling import Scaler
    from kernreg.cli.networks import parse_network
    from kernreg.cli.stores import read_note
    from kernreg.datasets import load
    from kernreg.linalg import TileStore
    from kernreg.linalg.budget import memory_budget

    check_choice("--kernel", kernel, ("ntk", "nngp"))
    check_choice("--scaling", scaling, ("standard", "common"))
    check_solver(solver, dtype)
    tables = table_options(drop, id_name, impute, header)
    parsed = parse_network(network)
    ridges = parse_alpha(alpha)
    options = SolverOptions(solver, dtype, device, tol, centres, checkpoint, folder)
    if store is not None:
        tiles = TileStore.open(store)
        _check_with_store(context, tiles, solver, ridges)
        options = replace(options, dtype=tiles.entries.name)
    options.check(ridges)
    writes = join_job(device)
    if writes:
        _check_writable(out)
        if checkpoint is not None:
            _check_writable(checkpoint, "--checkpoint")
    budget = memory_budget(max_memory)
    loaded = load(data, target, cast(Literal["auto"], task.value), **tables, max_memory=budget)
    # A store has the tiles of all rows.
    loaded = loaded.training() if store is None else loaded
    for note in loaded.notes:
        stderr.print(f"[dim]note:[/] {escape(note)}")
    scaled: Literal["standard", "common"] | Scaler = cast(Literal["standard"], scaling)
    if store is not None:
        parsed, kernel, scaled = read_note(tiles, loaded.X.shape[1])
    model = fit_model(
        loaded,
        np.arange(len(loaded.X)),
        parsed,
        kernel,
        ridges,
        scaled,
        budget,
        options.made(loaded, budget),
        dtype,
        verbose=stderr.is_terminal,
        device=device,
        store=store,
    )
    if writes:
        model.save(out)
    stdout.print(
        f"Fitted {counted(len(loaded.X), 'row')} of {loaded.name}; the model is in {out}.",
        markup=False,
    )
    for line in _account(model, float(np.var(loaded.y)) if loaded.task == "regression" else 0.0):
        stdout.print(line, markup=False)


def predict(
    model: ModelArgument,
    data: DataArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV file to write; default stdout.")
    ] = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="Also write the decision value of every label.")
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
) -> None:
    """Predict the target of each row; the score too, if the data hold the target.

    Each line has the number of its row, from 0, or its name by --id. The score counts rows that
    the model was fitted to as well; a note says how many these are.
    """
    writes = join_job()
    if out is not None and writes:
        _check_writable(out)
    try:
        loaded = _load(model)
    except (ModelFileError, FileNotFoundError) as error:
        if not _is_model(Path(data)):
            raise
        raise InvalidInputError(
            f"{model} is no model, but {data} is one: the model comes first, kernreg predict "
            f"{data} {model}."
        ) from error
    if scores and loaded.task == "regression":
        raise InvalidInputError(
            f"--scores is for labels, and the model predicts the numbers {loaded.target_name!r}: "
            "leave it out."
        )
    rows = loaded.read(data, id_name=id_name, header=header)
    for note in rows.notes:
        stderr.print(f"[dim]note:[/] {escape(note)}")
    predicted = loaded.predict(rows.X)
    names = ["row" if rows.ids is None else str(rows.id_name), f"predicted_{loaded.target_name}"]
    columns = [range(len(predicted)) if rows.ids is None else rows.ids, predicted.tolist()]
    if scores:
        labels, values = loaded.scores(rows.X)
        names += [f"score_{label}" for label in labels]
        columns += values.T.tolist()
    if not writes:
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*columns, strict=True))
    if out is None:
        typer.echo(text.getvalue(), nl=False)
    else:
        _write(out, text.getvalue())
        stdout.print(f"{counted(len(predicted), 'prediction')} written to {out}.", markup=False)
    if rows.y is not None:
        stderr.print(_score(loaded.task, predicted, rows.y), markup=False)
        strange = _unknown_labels(loaded, rows.y)
        if strange:
            stderr.print(
                f"note: The target has values that are no labels of the model ({strange}), so "
                "these rows count as wrong.",
                markup=False,
            )
        known = loaded.count_known(rows.X)
        if known:
            stderr.print(
                f"note: The model was fitted to {known:,} of these "
                f"{counted(len(predicted), 'row')}: the score says little about new ones.",
                markup=False,
            )


def _load(model: Path) -> TableModel:
    from kernreg.baseline import TableModel
    from kernreg.baseline.results import MODEL_FILE

    return TableModel.load(model / MODEL_FILE if model.is_dir() else model)


def _is_model(path: Path) -> bool:
    try:
        _load(path)
    except (KernregError, OSError):
        return False
    return True


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


def _account(model: TableModel, variance: float) -> Iterator[str]:
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


def _check_with_store(
    context: typer.Context, store: TileStore, solver: str, alpha: str | float | np.ndarray
) -> None:
    """Raise InvalidInputError for what a store settles, or cannot serve."""
    settled = ("network", "kernel", "scaling", "dtype", "device")
    # By name, as typer may bring a click of its own.
    sources = {name: context.get_parameter_source(name) for name in settled}
    given = [name for name, source in sources.items() if source and source.name != "DEFAULT"]
    if given:
        raise InvalidInputError(
            f"--{given[0]} and --store do not go together, as a store is of one network, kernel "
            f"and scaling, with entries in host memory: leave --{given[0]} out."
        )
    if solver in ("restricted", "sketch"):
        raise InvalidInputError(
            f"--solver {solver} reads rows by number, which a store does not give: use cholesky, "
            "pcg or out-of-core, or leave --store out."
        )
    if store.dtype != "float64" and (np.ndim(alpha) or solver == "eigh"):
        raise InvalidInputError(
            f"{store.path} holds {store.dtype} entries, too coarse for leave-one-out at small "
            "ridges and for --solver eigh: give --alpha a number and another solver, or write a "
            "store by `kernreg gram --dtype float64`."
        )


def _check_writable(path: Path, option: str = "--out") -> None:
    """Find out before the work that its result cannot be stored."""
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder; name a file with {option}.")
    probe = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be written: {error.strerror or error}. Name another file with {option}."
        ) from error


def _write(path: Path, text: str) -> None:
    from kernreg.linalg.disk import atomic

    with atomic(path) as draft:
        draft.write_text(text, encoding="utf-8")
