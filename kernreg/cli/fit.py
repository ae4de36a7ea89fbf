"""``kernreg fit``."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import numpy as np
import typer
from rich.markup import escape

from kernreg.cli.console import (
    join_job,
    keeping,
    progress,
    say_notes,
    stderr,
    stdout,
)
from kernreg.cli.fitted import account, left_by_interruption, what_is_unsolved
from kernreg.cli.inputs import check_data
from kernreg.cli.models import (
    KINDS,
    LearningRate,
    ModelName,
    ModelOptions,
    Noise,
    Steps,
    Time,
    Tune,
)
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
    MaxMemory,
    Network,
    Overwrite,
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
from kernreg.cli.outputs import (
    CHECKPOINT,
    FACTOR,
    MODEL,
    Output,
    check_outputs,
    place,
)
from kernreg.cli.solvers import SolverOptions, parse_alpha
from kernreg.exceptions import (
    ConvergenceWarning,
    InvalidInputError,
)
from kernreg.sizes import parse_size
from kernreg.wording import counted

if TYPE_CHECKING:
    from kernreg import nn
    from kernreg.baseline import TableModel
    from kernreg.baseline.scaling import Kind, Scaler
    from kernreg.datasets import Dataset
    from kernreg.operators import TileStore

__all__ = ["fit"]


def fit(
    context: typer.Context,
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="MODEL", help="File to write.")],
    kind: ModelName = "ridge",
    network: Network = "mlp(depth=3)",
    kernel: Annotated[
        str | None, typer.Option(help="ntk or nngp; nngp for gp if left out, else ntk.")
    ] = None,
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
    impute: Impute = "auto",
    header: Header = True,
    scaling: ScalingName = "standard",
    scales: Annotated[
        bool, typer.Option("--scales", help="Learn a scale for each column, by gradients.")
    ] = False,
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
    noise: Noise = None,
    tune: Tune = None,
    time: Time = None,
    steps: Steps = None,
    learning_rate: LearningRate = None,
    overwrite: Overwrite = False,
) -> None:
    """Fit one network to all rows of a table and save the model."""
    from kernreg.cli.networks import parse_network

    given = ModelOptions(kind, noise, tune, time, steps, learning_rate)
    kernel = kernel or given.kernel
    _check_words(kind, kernel, scaling)
    if scales:
        _check_scales(kind, store)
    check_solver(solver, dtype)
    tables = table_options(drop, id_name, impute, header)
    parsed = parse_network(network)
    ridges = parse_alpha(alpha)
    options = SolverOptions(solver, dtype, device, tol, centres, checkpoint, folder)
    budget = parse_size(max_memory)
    tiles = None
    if store is not None:
        from kernreg.operators import TileStore

        tiles = TileStore.open(store)
        _check_with_store(context, tiles, options, ridges)
        options = replace(options, dtype=tiles.entries.name)
    options.check(ridges)
    alpha_given = _was_given(context, "alpha")
    given.check(ridges, alpha_given, solver, options.dtype, stored=tiles is not None)
    writes = join_job(device)
    if writes:
        outputs = [
            Output("--out", out, MODEL),
            Output("--checkpoint", checkpoint, CHECKPOINT),
            Output("--folder", folder, FACTOR),
        ]
        inputs = [("the data", data), ("the network", network), ("the store", store)]
        check_outputs(outputs, inputs, overwrite)
    check_data(data, "fit DATA --network NETWORK")
    # Arguments are checked before torch is imported, which takes seconds.
    from kernreg.baseline import fit_model
    from kernreg.datasets import load

    loaded = load(data, target, cast(Literal["auto"], task.value), **tables, max_memory=budget)
    # A store has the tiles of all rows.
    loaded = loaded.training() if tiles is None else loaded
    say_notes(loaded.notes)
    parsed, kernel, scaled = _on_data(parsed, kernel, scaling, loaded, tiles)
    parameters = given.parameters(loaded.task, store)
    if scales:
        parameters["scale"] = "ard"
    kept = partial(left_by_interruption, out, checkpoint, folder)
    with keeping(kept), _followed(writes):
        model = fit_model(
            loaded,
            np.arange(len(loaded.X)),
            parsed,
            kernel,
            given.alpha(ridges),
            scaled,
            budget,
            options.made(loaded, budget),
            dtype,
            kind=kind,
            device=device,
            **parameters,
        )
        if writes:
            model.save(place(out))
    _tell(model, loaded, out, options)


def _check_words(kind: str, kernel: str, scaling: str) -> None:
    """Raise InvalidInputError for a word that an option does not know."""
    check_choice("--model", kind, KINDS)
    check_choice("--kernel", kernel, ("ntk", "nngp"))
    check_choice("--scaling", scaling, ("standard", "common"))


def _check_scales(kind: str, store: Path | None) -> None:
    """Raise InvalidInputError for a model that learns no scales."""
    if kind != "ridge" or store is not None:
        raise InvalidInputError(
            "--scales is for --model ridge without --store: leave one of them out. `kernreg "
            "baseline` learns scales, too."
        )


def _was_given(context: typer.Context, name: str) -> bool:
    """Whether an option is on the command line."""
    source = context.get_parameter_source(name)
    # By name, as typer may bring a click of its own.
    return bool(source and source.name != "DEFAULT")


def _check_with_store(
    context: typer.Context,
    store: TileStore,
    options: SolverOptions,
    alpha: str | float | np.ndarray,
) -> None:
    """Raise InvalidInputError for what a store settles, or cannot serve."""
    settled = ("network", "kernel", "scaling", "dtype", "device")
    given = [name for name in settled if _was_given(context, name)]
    if given:
        raise InvalidInputError(
            f"--{given[0]} and --store do not go together, as a store is of one network, kernel "
            f"and scaling, with entries in host memory: leave --{given[0]} out."
        )
    from kernreg.solvers.registry import gives_errors

    if options.kind is not None and options.kind.needs_parts:
        raise InvalidInputError(
            f"--solver {options.solver} reads rows by number, which a store does not give: use "
            "cholesky, pcg or out-of-core, or leave --store out."
        )
    if store.dtype != "float64" and (np.ndim(alpha) or gives_errors(options.kind, free=True)):
        raise InvalidInputError(
            f"{store.path} holds {store.dtype} entries, too coarse for leave-one-out at small "
            "ridges and for --solver banded or eigh: give --alpha a number and another solver, or "
            "write a store by `kernreg gram --dtype float64`."
        )


def _on_data(
    network: nn.Layer, kernel: str, scaling: str, loaded: Dataset, store: TileStore | None
) -> tuple[nn.Layer, str, Kind | Scaler]:
    """Network, kernel and scaling for the rows at hand, or those that a store is of."""
    from kernreg.cli.networks import for_data
    from kernreg.cli.stores import read_note

    if store is not None:
        return read_note(store, loaded.X.shape[1])
    network, scaled = for_data(network, loaded, scaling)
    return network, kernel, scaled


@contextlib.contextmanager
def _followed(shown: bool) -> Iterator[None]:
    """Show how far a fit is, and not what is told of it afterwards."""
    from kernreg.estimators.progress import heard_by

    with progress(shown, "fitting") as move, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what_is_unsolved says it
        with heard_by(move if shown else None):
            yield


def _tell(model: TableModel, loaded: Dataset, out: Path, options: SolverOptions) -> None:
    """Say what was fitted, and exit with 1 if it is not what was asked for."""
    stdout.print(
        f"Fitted {counted(len(loaded.X), 'row')} of {loaded.name}; the model is in {out}.",
        markup=False,
    )
    for line in account(model, float(np.var(loaded.y)) if loaded.task == "regression" else 0.0):
        stdout.print(line, markup=False)
    unsolved = what_is_unsolved(model, options)
    if unsolved:
        stderr.print(f"[bold red]not converged:[/] {escape(unsolved)}")
        raise typer.Exit(1)
