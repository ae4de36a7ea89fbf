"""Where text goes: results to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["as_option", "join_job", "progress", "stderr", "stdout"]

stdout = Console(highlight=False, emoji=False)
stderr = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def as_option(text: str) -> str:
    """A message of the library as the command line says it: arguments are options.

    Examples
    --------
    >>> as_option("allow 6 MB by max_memory"), as_option("raise --max-memory")
    ('allow 6 MB by --max-memory', 'raise --max-memory')
    >>> as_option("use solver='cholesky', dtype='float32'")
    'use --solver cholesky, --dtype float32'
    """
    text = re.sub(r"(?<= )(solver|dtype)='(\w+)'", r"--\1 \2", text)
    return re.sub(r"(?<![\w'\"/-])max_(memory|bytes)\b", "--max-memory", text)


def join_job(device: str = "cpu") -> bool:
    """Join the job that torchrun started, if it did; whether this process prints and writes."""
    from kernreg import distributed

    distributed.initialize(device)
    stdout.quiet = stderr.quiet = distributed.rank() > 0
    return not stdout.quiet


@contextlib.contextmanager
def progress(shown: bool = True) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on stderr; gives the function ``(done, total, description)`` that moves it."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=stderr,
        transient=True,
        disable=not shown,
    )
    with bar:
        task = bar.add_task("", total=None)

        def move(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        yield move
