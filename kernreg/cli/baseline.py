"""``kernreg baseline``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from kernreg.cli.console import keeping, progress, say_notes, stdout
from kernreg.cli.inputs import check_data
from kernreg.cli.options import (
    DataArgument,
    Drop,
    Header,
    IdName,
    Impute,
    MaxMemory,
    Overwrite,
    Scaling,
    Seed,
    Target,
    Task,
    TaskOption,
    table_options,
)
from kernreg.cli.outputs import RESULTS, Output, check_outputs
from kernreg.sizes import parse_size
from kernreg.wording import significant

if TYPE_CHECKING:
    from kernreg.baseline import Outcome

__all__ = ["baseline"]


def baseline(
    data: DataArgument,
    target: Target = None,
    task: TaskOption = Task.auto,
    drop: Drop = None,
    id_name: IdName = None,
    impute: Impute = "auto",
    header: Header = True,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Output folder; default kernreg-NAME.")
    ] = None,
    max_memory: MaxMemory = "4GB",
    seed: Seed = 0,
    max_rows: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Training rows at most.")
    ] = None,
    folds: Annotated[int, typer.Option(min=1, help="Test splits to repeat everything on.")] = 1,
    scaling: Annotated[Scaling, typer.Option(help="Scaling of the inputs.")] = Scaling.auto,
    scales: Annotated[
        bool, typer.Option(help="Whether to learn a scale for each column, too.")
    ] = True,
    competitors: Annotated[
        bool, typer.Option(help="Whether to fit models of other libraries, to compare with.")
    ] = True,
    quick: Annotated[bool, typer.Option("--quick", help="A smaller search.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Find the best infinitely wide network for a table, and report how good it is.

    Searches depth, nonlinearity, weight scales, kernel and ridge by closed-form leave-one-out on
    training rows, learns one scale per column where that helps, compares the winner on test rows
    with kernels of distances, ridge, forests and boosting, and writes report.html, results.json,
    results.csv, predictions.csv and model.safetensors.
    """
    check_data(data, "baseline DATA")
    tables = table_options(drop, id_name, impute, header)
    budget = parse_size(max_memory)
    # Arguments are checked before torch is imported, which takes seconds.
    from kernreg.baseline import Settings, run
    from kernreg.baseline.results import comparison, metric, output_folder, write
    from kernreg.datasets import load
    from kernreg.report import render
    from kernreg.report.render import duration, format_score

    loaded = load(data, target, cast(Literal["auto"], task.value), **tables, max_memory=budget)
    say_notes(loaded.notes)
    settings = Settings(
        folds, seed, max_rows, max_memory, scaling.value, quick, scales, competitors
    )
    folder = out or Path(f"kernreg-{loaded.name}")
    check_outputs([Output("--out", folder, RESULTS)], [("the data", data)], overwrite)
    kept = "nothing was written, and no part of a search can be kept; --quick searches less."
    with keeping(lambda: kept), output_folder(folder) as draft:
        with progress() as move:
            outcome = run(loaded, settings, move)
        write(outcome, draft, render(outcome))
    name = metric(outcome)
    summary = Table(title=escape(f"{loaded.name}: test {name}"), title_justify="left")
    for heading in ("model", "settings"):
        summary.add_column(heading)
    for heading in (f"test {name}", "leave-one-out", "rows", "fit"):
        summary.add_column(heading, justify="right", no_wrap=True)
    rows = comparison(outcome)
    best = format_score(
        max((r["test"] for r in rows if np.isfinite(r["test"])), default=None), name
    )
    for row in rows:
        spread = "" if row["test_std"] is None else f" ± {format_score(row['test_std'], name)}"
        summary.add_row(
            escape(row["model"]),
            escape(row["description"]),
            format_score(row["test"], name) + spread,
            format_score(row["leave_one_out"], name),
            f"{row['rows']:,}",
            duration(row["seconds"]),
            style="bold" if format_score(row["test"], name) == best else "",
        )
    stdout.print(summary)
    for line in _uncertainty(outcome):
        stdout.print(line, markup=False)
    searched = sum(sum(fold.seconds.values()) for fold in outcome.folds)
    stdout.print(
        f"{duration(searched)} in all. The report is in {folder / 'report.html'}.", markup=False
    )


def _uncertainty(outcome: Outcome) -> Iterator[str]:
    """How sure the chosen network is of the test rows, and how right, over the folds."""
    from kernreg.baseline.uncertainty import LEVEL, Intervals, Probabilities

    found = [fold.uncertainty for fold in outcome.folds]
    intervals = [f for f in found if isinstance(f, Intervals)]
    probabilities = [f for f in found if isinstance(f, Probabilities)]
    if intervals:
        covered = float(np.mean([f.covered for f in intervals]))
        width = significant(float(np.mean([f.width for f in intervals])))
        yield (
            f"Intervals of {LEVEL:.0%} of the network cover {covered:.1%} of the test rows; their "
            f"mean width is {width}."
        )
    if probabilities:
        loss = float(np.mean([f.log_loss for f in probabilities]))
        error = float(np.mean([f.calibration_error for f in probabilities]))
        yield (
            f"Probabilities of the network have a log-loss of {loss:.3f} and an expected "
            f"calibration error of {error:.3f}."
        )
