"""A progress bar for long fits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["progress"]


@contextlib.contextmanager
def progress(text: str, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Give a solver callback that moves a bar on stderr, or None if nothing is to be shown."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(text), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(text, total=None)

        def callback(step: int, total: int) -> None:
            bar.update(task, completed=step, total=total)

        yield callback
