"""``kernreg gram``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from kernreg.cli.console import join_job, keeping, progress, say_notes, stdout
from kernreg.cli.inputs import check_data
from kernreg.cli.options import (
    DataArgument,
    Drop,
    Header,
    IdName,
    Impute,
    Kernel,
    Network,
    ScalingName,
    Target,
    Task,
    TaskOption,
    check_choice,
    table_options,
)
from kernreg.cli.outputs import STORE, Output, check_outputs
from kernreg.wording import counted

__all__ = ["gram"]


def gram(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="STORE", help="Folder of the tile store.")],
    network: Network = "mlp(depth=3)",
    kernel: Kernel = "ntk",
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32, float64 or bfloat16; default that of the store, float32 for a new one."
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            min=1, help="Rows and columns of a tile; default 1024, fewer for pooled images."
        ),
    ] = None,
    target: Target = None,
    task: TaskOption = Task.auto,
    drop: Drop = None,
    id_name: IdName = None,
    impute: Impute = "auto",
    header: Header = True,
    scaling: ScalingName = "standard",
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all tiles and check them; write nothing.")
    ] = False,
) -> None:
    """Write the kernel matrix of all rows of a table to disk, tile by tile.

    Half the matrix is kept. A run that was interrupted goes on where it stopped; a store of
    another network or other data is refused. `kernreg fit DATA --store STORE` solves with it.
    """
    from kernreg.cli.networks import for_data, parse_network

    check_choice("--kernel", kernel, ("ntk", "nngp"))
    check_choice("--scaling", scaling, ("standard", "common"))
    if dtype is not None:
        check_choice("--dtype", dtype, ("float32", "float64", "bfloat16"))
    parsed = parse_network(network)
    prints = join_job()
    tables = table_options(drop, id_name, impute, header)
    if prints:
        check_outputs([Output("--out", out, STORE)], [("the data", data), ("the network", network)])
    check_data(data, "gram DATA --network NETWORK")
    # Arguments are checked before torch is imported, which takes seconds.
    from kernreg import KernelOperator
    from kernreg.baseline.scaling import Scaler
    from kernreg.cli.stores import kept_dtype, written_note
    from kernreg.datasets import load
    from kernreg.distributed import from_first
    from kernreg.operators import TileStore, write_store

    loaded = load(data, target, cast(Literal["auto"], task.value), **tables)
    say_notes(loaded.notes)
    parsed, scaled = for_data(parsed, loaded, scaling)
    scaler = Scaler.fit(loaded.X, scaled, loaded.shape)
    X = scaler.transform(loaded.X)
    kind = from_first(lambda: dtype or kept_dtype(out))
    entries = "float64" if kind == "float64" else "float32"
    operator = KernelOperator(parsed, X, kernel=kernel, dtype=entries)
    if verify:
        store = TileStore.open(out)
        store.require(operator, kind, tile)
        count = store.verify(operator)
        stdout.print(f"{counted(count, 'tile')} of {out} checked: all are right.", markup=False)
        return
    noted = written_note(parsed, kernel, scaler)
    from_first(lambda: repr(TileStore.create(out, operator, dtype=kind, tile=tile, note=noted)))
    kept = f"finished tiles are in {out}: the same command goes on there."
    with keeping(lambda: kept), progress(prints) as move:
        store, written = write_store(
            out,
            operator,
            dtype=kind,
            tile=tile,
            callback=lambda step, total: move(step, total, "tiles"),
        )
    there = len(store.tiles()) - written
    stdout.print(
        f"Wrote {counted(written, 'tile')} of the {kernel} of {counted(len(X), 'row')} of "
        f"{loaded.name} to {out}" + (f"; {there:,} were there." if there else "."),
        markup=False,
    )
