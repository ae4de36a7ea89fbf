"""Where text goes: results to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kernreg.wording import lasting

__all__ = ["Lines", "as_option", "join_job", "keeping", "progress", "say_notes", "stderr", "stdout"]

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
    >>> as_option("raise alpha or use dtype float64")
    'raise --alpha or use --dtype float64'
    """
    text = re.sub(r"(?<= )(solver|dtype)='(\w+)'", r"--\1 \2", text)
    text = re.sub(r"(?<=raise )(alpha)\b|(?<=use )(dtype)(?= float)", r"--\1\2", text)
    return re.sub(r"(?<![\w'\"/-])max_(memory|bytes)\b", "--max-memory", text)


def join_job(device: str = "cpu") -> bool:
    """Join the job that torchrun started, if it did; whether this process prints and writes."""
    if os.environ.get("WORLD_SIZE", "1") == "1" and "kernreg.distributed" not in sys.modules:
        return True
    from kernreg import distributed

    distributed.initialize(device)
    stdout.quiet = stderr.quiet = distributed.rank() > 0
    return not stdout.quiet


def say_notes(notes: Iterable[str]) -> None:
    """What a user should know of the data, a line each."""
    for note in notes:
        stderr.print(f"[dim]note:[/] {escape(note)}")


@contextlib.contextmanager
def keeping(what: Callable[[], str]) -> Iterator[None]:
    """After Ctrl-C, say what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(what()) from error


@contextlib.contextmanager
def progress(shown: bool = True, what: str = "") -> Iterator[Callable[[int, int, str], None]]:
    """A bar on stderr; gives the function ``(done, total, description)`` that moves it.

    Where stderr is no terminal, work that lasts is told in a line every some seconds.
    """
    if shown and not stderr.is_terminal:
        with Lines(what).told() as lines:
            yield lines.move
        return
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
        task = bar.add_task(what, total=None)

        def move(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total or None, description=what)

        yield move


class Lines:
    """How far work is, in words.

    Parameters
    ----------
    what : str
        What is done at first.
    clock : callable
        Seconds.

    Examples
    --------
    >>> lines = Lines("reading", iter([0.0, 10.0, 10.0, 40.0, 40.0]).__next__)
    >>> str(lines)
    'reading: 10.0 s so far'
    >>> lines.move(0, 8, "kernels")
    >>> lines.move(2, 8, "kernels")
    >>> str(lines)
    'kernels: 2 of 8, 40.0 s so far, about 1.5 min more'

    Notes
    -----
    Steps that take less than a hundredth of the longest were done before, as after a kill, and say
    nothing about those to come.
    """

    first, every = 5.0, 15.0

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._last = clock()
        self._what, self._done, self._total = what, 0, 0
        self._steps, self._seconds, self._longest = 0, 0.0, 0.0

    def move(self, done: int, total: int, what: str) -> None:
        """Note a step."""
        now = self._clock()
        if done < self._done or total != self._total:
            self._steps, self._seconds, self._longest = 0, 0.0, 0.0
            self._last, self._done = (self._last if done else now), 0
        if done > self._done:
            taken = (now - self._last) / (done - self._done)
            if taken > 100.0 * self._longest:
                self._steps, self._seconds = 0, 0.0
            self._longest = max(self._longest, taken)
            if taken > 0.01 * self._longest or taken == self._longest:
                self._steps += done - self._done
                self._seconds += now - self._last
            self._last = now
        self._what, self._done, self._total = what, done, total

    def __str__(self) -> str:
        now = self._clock()
        parts = []
        if self._total:
            parts.append(f"{self._done:,} of {self._total:,}")
        parts.append(f"{lasting(now - self._began)} so far")
        if 0 < self._done < self._total and self._steps:
            left = self._seconds * (self._total - self._done) / self._steps
            parts.append(f"about {lasting(left)} more")
        return f"{self._what or 'at work'}: {', '.join(parts)}"

    @contextlib.contextmanager
    def told(self) -> Iterator[Lines]:
        """Print a line after some seconds, and again every some seconds."""
        over = threading.Event()

        def tell() -> None:
            pause = self.first
            while not over.wait(pause):
                stderr.print(f"note: {self}", markup=False)
                pause = self.every

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()
