"""``kernreg explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
import typer

from kernreg import nn
from kernreg.cli.console import as_option, stdout
from kernreg.cli.inputs import check_data
from kernreg.cli.options import (
    Centres,
    Device,
    Drop,
    FloatName,
    Folder,
    Header,
    IdName,
    Impute,
    Kernel,
    MaxMemory,
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
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.sizes import parse_size

if TYPE_CHECKING:
    from kernreg.datasets import Dataset

__all__ = ["explain"]


def explain(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK|DATA",
            help="A network, e.g. 'mlp(depth=2)', or a data set as for baseline.",
        ),
    ],
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="With NETWORK: plan a fit to these data.")
    ] = None,
    target: Target = None,
    task: TaskOption = Task.auto,
    drop: Drop = None,
    id_name: IdName = None,
    impute: Impute = "auto",
    header: Header = True,
    max_memory: MaxMemory = "4GB",
    kernel: Kernel = "ntk",
    alpha: Annotated[
        str, typer.Option(help="With NETWORK and --data: the ridge, as for fit.")
    ] = "auto",
    scaling: ScalingName = "standard",
    solver: SolverName = "auto",
    dtype: FloatName = "float64",
    folder: Folder = None,
    centres: Centres = None,
    tol: Tolerance = None,
    device: Device = "cpu",
    seconds: Annotated[
        bool, typer.Option(help="With NETWORK and --data: predict times, by a short measurement.")
    ] = True,
) -> None:
    """Say what would be computed, by what, and at what cost, without doing it."""
    from kernreg.cli.networks import NAMES, for_data, looks_like_network, parse_network
    from kernreg.datasets.names import BUILTIN
    from kernreg.wording import did_you_mean

    ridges, budget = parse_alpha(alpha), parse_size(max_memory)
    check_choice("--kernel", kernel, ("ntk", "nngp"))
    check_choice("--scaling", scaling, ("standard", "common"))
    check_solver(solver, dtype)
    options = SolverOptions(solver, dtype, device, tol, centres, None, folder)
    kind = cast(Literal["auto"], task.value)
    tables = table_options(drop, id_name, impute, header)
    if looks_like_network(what) or (what in NAMES and not Path(what).exists()):
        network = parse_network(what)
        if data is None:
            text = _labelled(_network(network))
        else:
            options.check(ridges)
            check_data(data, "explain NETWORK --data DATA")
            from kernreg.datasets import load

            loaded = load(data, target, kind, **tables, max_memory=budget).training()
            network, scaled = for_data(network, loaded, scaling)
            text = _fit(network, loaded, kernel, scaled, max_memory, ridges, options, seconds)
    elif what in BUILTIN or Path(what).exists():
        check_data(what, "explain DATA")
        if data is not None:
            order = f"kernreg explain NETWORK --data {what}"
            raise InvalidInputError(
                f"{what} is data, and so --data {data!r} says nothing: leave it out, or write "
                f"`{order}`."
            )
        text = _labelled(_baseline(what, target, kind, max_memory, tables))
    else:
        raise InvalidInputError(
            f"{what!r} is no network such as mlp(depth=2), no file and no scikit-learn set; the "
            f"sets are {', '.join(BUILTIN)}.{did_you_mean(what, (*BUILTIN, *NAMES))}"
        )
    stdout.print(as_option(text), markup=False, soft_wrap=True)


def _labelled(lines: list[tuple[str, str]]) -> str:
    from kernreg.estimators.explain import labelled

    return labelled(lines)


def _network(network: nn.Layer) -> list[tuple[str, str]]:
    from kernreg import backends

    program = network.program()
    return [
        ("network", repr(network)),
        ("program", str(program)),
        ("cost", f"about {program.flops()} operations per kernel entry"),
        *(("backend", f"{name}: {reason or 'yes'}") for name, reason in backends.explain(program)),
    ]


def _fit(
    network: nn.Layer,
    loaded: Dataset,
    kernel: str,
    scaling: Literal["standard", "common", "channel"],
    max_memory: str,
    alpha: str | float | np.ndarray,
    options: SolverOptions,
    seconds: bool,
) -> str:
    from kernreg import KernelClassifier, KernelRegressor
    from kernreg.baseline.scaling import Scaler

    made = KernelRegressor if loaded.task == "regression" else KernelClassifier
    model = made(
        network,
        kernel=kernel,
        alpha=alpha,
        solver=options.made(loaded, parse_size(max_memory)),
        dtype=options.dtype,
        device=options.device,
        max_memory=max_memory,
    )
    # Iterations are counted on the spectrum that the fit will have.
    X = Scaler.fit(loaded.X, scaling, loaded.shape).transform(loaded.X)
    return str(model.explain(X, loaded.y, seconds=seconds))


def _baseline(
    data: str,
    target: str | None,
    task: Literal["auto"],
    max_memory: str,
    tables: dict[str, Any],
) -> list[tuple[str, str]]:
    from kernreg.baseline import Settings, splits
    from kernreg.baseline.grid import convolutions, networks
    from kernreg.baseline.outcome import plan_search
    from kernreg.baseline.scaling import scalings_for
    from kernreg.datasets import load
    from kernreg.wording import counted, listed

    loaded = load(data, target, task, **tables, max_memory=parse_size(max_memory))
    settings = Settings(max_memory=max_memory)
    train, test = splits(loaded, settings)[0]
    kinds = scalings_for("auto", loaded.X[train])
    names = loaded.feature_names
    rows = [
        (
            "data",
            f"{loaded.name}: {counted(len(loaded.X), 'row')}, {counted(len(names), 'feature')} "
            f"({listed(names, most=6)})",
        ),
        ("task", f"{loaded.task} of {loaded.target_name}"),
        (
            "split",
            f"{counted(len(train), 'training row')}, {counted(len(test), 'test row')}",
        ),
        ("scaling", " and ".join(kinds)),
    ]
    try:
        stages, fit = plan_search(loaded, settings, len(train))
    except MemoryBudgetError as error:
        rows.append(("plan", f"does not fit: {error}"))
    else:
        tried = networks(kinds) + convolutions(loaded.shape)
        kernels = [2 * len(tried), *(stage.keep for stage in stages)]
        for number, (stage, count) in enumerate(zip(stages, kernels, strict=False), start=1):
            text = f"{counted(stage.rows, 'row')}, {counted(count, 'kernel')}"
            rows.append((f"round {number}", text))
        rows.append(("scales", "one per column learned, kept if held-out rows say so"))
        rows.append(("fit", str(fit)))
    return rows + [("note", note) for note in loaded.notes]
