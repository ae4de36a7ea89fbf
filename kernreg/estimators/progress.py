"""A progress bar for long fits."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

__all__ = ["Callback", "heard_by", "iterations", "progress"]

Callback = Callable[..., None] | None
"""Moves a bar: ``callback(step, total)``, or with a note behind the bar as third argument."""

_Listener = Callable[[int, int, str], None] | None
_listener: ContextVar[_Listener] = ContextVar("listener", default=None)


@contextlib.contextmanager
def heard_by(listener: _Listener) -> Iterator[None]:
    """Tell ``(step, total, text)`` of every fit to a function, instead of showing a bar."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


@contextlib.contextmanager
def progress(text: str, shown: bool) -> Iterator[Callback]:
    """Give a solver callback that moves a bar on stderr, or None if nothing is to be shown."""
    heard = _listener.get()
    if heard is not None:
        heard(0, 0, text)
        yield lambda step, total, note="": heard(step, total, f"{text} {note}".strip())
        return
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(text), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    after = (TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, *after, console=Console(stderr=True)) as bar:
        task = bar.add_task(text, total=None, note="")

        def callback(step: int, total: int, note: str = "") -> None:
            bar.update(task, completed=step, total=total, note=note)

        yield callback


def iterations(callback: Callback, tol: float | None) -> Callable[[Any], None] | None:
    """A callback of iterations that moves a bar by the digits of the residual that are gained.

    Parameters
    ----------
    callback : callable or None
        Of :func:`progress`.
    tol : float or None
        Relative residual at which the bar is full; None for a solver that does not iterate.

    Examples
    --------
    >>> from kernreg.solvers import Progress
    >>> iterations(print, 1e-8)(Progress(iteration=12, residual=1e-6))
    75 100 iteration 12, residual 1.0e-06
    """
    if callback is None or tol is None:
        return None

    def after(now: Any) -> None:
        gained = math.log(min(1.0, max(now.residual, tol))) / math.log(tol)
        note = f"iteration {now.iteration}, residual {now.residual:.1e}"
        callback(round(100 * gained), 100, note)

    return after
