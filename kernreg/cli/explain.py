"""``kernreg explain``."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, cast

import numpy as np
import typer

from kernreg.cli.console import stdout
from kernreg.cli.models import _alpha
from kernreg.cli.options import MaxMemory, Target, Task, TaskOption

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
    max_memory: MaxMemory = "4GB",
    alpha: Annotated[
        str, typer.Option(help="With NETWORK and --data: the ridge, as for fit.")
    ] = "auto",
) -> None:
    """Say what would be computed, by what, and at what cost; compute nothing."""
    from kernreg.cli.networks import looks_like_network, parse_network

    ridges = _alpha(alpha)
    kind = cast(Literal["auto"], task.value)
    if looks_like_network(what):
        text = _network(parse_network(what), data, target, kind, max_memory, ridges)
    else:
        text = _data(what, target, kind, max_memory)
    stdout.print(text, markup=False, soft_wrap=True)


def _network(
    network: object,
    data: str | None,
    target: str | None,
    task: Literal["auto"],
    max_memory: str,
    alpha: float | np.ndarray,
) -> str:
    from kernreg import KernelClassifier, KernelRegressor
    from kernreg.datasets import load

    if data is None:
        from kernreg import backends

        program = network.program()  # type: ignore[attr-defined]
        rows = [f"network   {network!r}", f"program   {program}"]
        rows.append(f"cost      about {program.flops()} operations per kernel entry")
        for name, reason in backends.explain(program):
            rows.append(f"backend   {name}: {reason or 'yes'}")
        return "\n".join(rows)
    loaded = load(data, target, task)
    kind = KernelRegressor if loaded.task == "regression" else KernelClassifier
    model = kind(network, alpha=alpha, dtype="float64", max_memory=max_memory)
    return str(model.explain(loaded.X, loaded.y))


def _data(data: str, target: str | None, task: Literal["auto"], max_memory: str) -> str:
    from kernreg.baseline import Settings, splits
    from kernreg.baseline.grid import networks
    from kernreg.baseline.run import plan_search
    from kernreg.baseline.scaling import scalings_for
    from kernreg.datasets import load

    loaded = load(data, target, task)
    settings = Settings(max_memory=max_memory)
    train, test = splits(loaded, settings)[0]
    stages, fit = plan_search(loaded, settings, len(train))
    kinds = scalings_for("auto", loaded.X[train])
    count = 2 * len(networks(kinds))
    rounds = [f"{stages[0].rows} rows, {count} kernels"]
    for before, stage in itertools.pairwise(stages):
        rounds.append(f"{stage.rows} rows, {before.keep} kernels")
    names = loaded.feature_names
    rows = [
        f"data      {loaded.name}: {len(loaded.X)} rows, {len(names)} features "
        f"({', '.join(names[:6])}{', ...' if len(names) > 6 else ''})",
        f"task      {loaded.task} of {loaded.target_name}",
        f"split     {len(train)} training rows, {len(test)} test rows",
        f"scaling   {' and '.join(kinds)}",
        *(f"round {i}   {text}" for i, text in enumerate(rounds, start=1)),
        *(f"fit       {line}" for line in str(fit).splitlines()),
        *(f"note      {note}" for note in loaded.notes),
    ]
    return "\n".join(rows)
