"""Signs of life of a process, whatever it computes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import warnings
from collections.abc import Callable
from typing import Any

import psutil

__all__ = ["BEAT", "alive", "end", "start"]

BEAT = 1.0
"""Seconds between signs of life."""


def alive(rank: int) -> str:
    """Where in the store the signs of life of a process are counted."""
    return f"alive/{rank}"


def start(connect: Callable[[], Any], rank: int) -> int:
    """Fork a child that gives signs of life until this process ends; returns its number.

    Parameters
    ----------
    connect : callable
        Gives a connection to the store of the job; called in the child.
    rank : int
        Of this process.

    Notes
    -----
    A thread would not do: LAPACK under SciPy holds Python's lock for as long as it computes. A new
    interpreter would load torch once more, some 150 MB and seconds for each process. The child of a
    fork shares what is loaded; it has one thread, uses nothing but its own connection, and keeps
    no file of the parent open.
    """
    parent = os.getpid()
    with warnings.catch_warnings():
        # Python 3.12 warns of locks that other threads hold: the child needs none of those.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            _detach()
            _beat(connect(), psutil.Process(parent), alive(rank))
        finally:
            os._exit(0)
    return child


def end(child: int) -> None:
    """Stop the signs of life."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _detach() -> None:
    # A key that interrupts the parent is for the parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    for number in map(int, os.listdir("/dev/fd")):
        # The one of the listing itself is closed already.
        with contextlib.suppress(OSError):
            if number > 2:
                os.close(number)


def _beat(store: Any, parent: psutil.Process, key: str) -> None:
    """Count up as long as the parent lives, but not while it is stopped."""
    with contextlib.suppress(RuntimeError, psutil.NoSuchProcess):
        while os.getppid() == parent.pid:
            if parent.status() != psutil.STATUS_STOPPED:
                store.add(key, 1)
            time.sleep(BEAT)
