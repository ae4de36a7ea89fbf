"""How a job of several processes starts, and how each knows that the others live."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from kernreg.distributed import heartbeat
from kernreg.exceptions import DistributedError, InvalidInputError

__all__ = [
    "Job",
    "current",
    "described",
    "initialize",
    "is_distributed",
    "local_processes",
    "processes",
    "rank",
    "report",
    "share",
    "wait",
]

# Seconds that a process may fail to give a sign of life.
_SILENCE = 20.0
# Seconds that the processes of a job may start apart.
_START = 300.0
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass
class Job:
    """The job as one of its processes sees it.

    Parameters
    ----------
    rank, size : int
        Number of this process, and how many there are.
    store : Store
        Keys and counters that all processes see.
    silence : float
        Seconds without a sign of life after which a process counts as lost.
    child : int
        The process that gives the signs of life of this one.
    """

    rank: int
    size: int
    store: Any
    silence: float
    child: int
    queues: int = 0
    failed: bool = False
    _beats: dict[int, tuple[int, float]] = field(default_factory=dict)
    _next: float = 0.0

    def count(self, key: str, step: int) -> int:
        """Raise a counter that all processes share; returns what it is then.

        Raises
        ------
        DistributedError
            If the store is lost.
        """
        try:
            return int(self.store.add(key, step))
        except RuntimeError as error:
            raise self.lost(self.reason()) from error

    def require_others(self) -> None:
        """Look, at most once in a beat, whether all others live and have reported no error.

        Raises
        ------
        DistributedError
            If not.
        """
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + heartbeat.BEAT
        silent = self._silent(self.silence)
        error = self._reported()
        if error is not None:
            raise self.lost(error)
        if silent:
            raise self.lost(
                f"rank {silent[0]} has given no sign of life for {self.silence:g} seconds"
            )

    def reason(self) -> str:
        """Why a connection was closed."""
        error = self._reported()
        if error is not None:
            return error
        self._silent(0.0)
        time.sleep(2.5 * heartbeat.BEAT)
        silent = self._silent(2 * heartbeat.BEAT)
        name = f"rank {silent[0]}" if silent else "a process"
        return f"{name} ended without a message (killed, or out of memory?)"

    def lost(self, reason: str) -> DistributedError:
        """The error of a job that cannot go on."""
        self.failed = True
        return DistributedError(
            f"{reason}: see its log. Start the job again; what it had stored is used again."
        )

    def _silent(self, seconds: float) -> list[int]:
        """Processes whose last new sign of life is older than that."""
        now, found = time.monotonic(), []
        for other in range(self.size):
            try:
                count = self.store.add(heartbeat.alive(other), 0)
            except RuntimeError:
                # The store is in the process of rank 0.
                return [0]
            before, since = self._beats.get(other, (-1, now))
            if count != before:
                self._beats[other] = (count, now)
            elif now - since > seconds and other != self.rank:
                found.append(other)
        return found

    def _reported(self) -> str | None:
        """The error that ended another process, if it said so."""
        try:
            return str(self.store.get("error").decode()) if self.store.check(["error"]) else None
        except RuntimeError:
            return "rank 0 ended without a message (killed?)"


_job: Job | None = None


def initialize(device: str = "cpu", *, silence: float = _SILENCE) -> bool:
    """Join the job that ``torchrun`` started; do nothing if it did not start this process.

    Parameters
    ----------
    device : str
        ``"cuda"`` gives this process the GPU of its number on this machine, and NCCL for sums.
    silence : float
        Seconds without a sign of life after which a process counts as lost.

    Returns
    -------
    bool
        Whether there are several processes.

    Raises
    ------
    InvalidInputError
        If variables of the environment are missing.
    DistributedError
        If not all processes start.

    Notes
    -----
    Call it before data are read: signs of life come from a forked child, which would keep them.

    Messages have no time limit: a process may compute for hours while the others wait. One that
    ends is noticed at once, as its connections close; one that is stopped, or whose machine is
    lost, by its silence. One that runs but never ends is not noticed: it looks like one that
    computes. An exception that nobody catches is reported to the other processes.

    Examples
    --------
    >>> initialize(), rank(), processes()
    (False, 0, 1)
    """
    global _job
    if _job is not None or os.environ.get("WORLD_SIZE", "1") == "1":
        return _job is not None
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise InvalidInputError(
            f"WORLD_SIZE is set but {', '.join(missing)} not: start the processes with torchrun."
        )
    own, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # Where torchrun itself keeps the store, it outlives rank 0.
    elsewhere = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    gpu = torch.device(device).type == "cuda"
    child = None
    try:
        store = _connect(serve=own == 0 and not elsewhere)
        child = heartbeat.start(lambda: _connect(serve=False), own)
        _await_start(store, size)
        if gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpu else "gloo",
            store=store,
            rank=own,
            world_size=size,
            timeout=timedelta(days=30),
        )
    except (RuntimeError, ValueError) as error:
        if child is not None:
            heartbeat.end(child)
        raise DistributedError(f"rank {own} cannot join the job: {error}") from error
    _job = Job(own, size, store, silence, child)
    _report_uncaught()
    atexit.register(_leave)
    return True


def _connect(serve: bool) -> Any:
    """A connection to the store of the job."""
    server = dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=serve,
        wait_for_workers=False,
        timeout=timedelta(seconds=_START),
    )
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"kernreg/{attempt}", server)


def _await_start(store: Any, size: int) -> None:
    """Wait for the first sign of life of every process."""
    end = time.monotonic() + _START
    for other in range(size):
        while not store.add(heartbeat.alive(other), 0):
            if time.monotonic() > end:
                raise DistributedError(
                    f"rank {other} did not start within {_START:.0f} seconds: see its log."
                )
            time.sleep(0.02)


def _report_uncaught() -> None:
    before = sys.excepthook

    def hook(kind: Any, error: BaseException, trace: Any) -> None:
        report(error)
        before(kind, error, trace)

    sys.excepthook = hook


def _leave() -> None:
    if _job is None:
        return
    heartbeat.end(_job.child)
    if _job.failed:
        # A message to a process that hangs would keep this one from ending.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    dist.destroy_process_group()


def current() -> Job | None:
    """The job that this process joined, if it did."""
    return _job


def is_distributed() -> bool:
    """Whether this process is one of several that joined a job.

    Examples
    --------
    >>> is_distributed()  # until initialize() joins a job
    False
    """
    return _job is not None


def rank() -> int:
    """Number of this process, from 0.

    Examples
    --------
    >>> rank()
    0
    """
    return 0 if _job is None else _job.rank


def processes() -> int:
    """How many processes the job has.

    Examples
    --------
    >>> processes()
    1
    """
    return 1 if _job is None else _job.size


def local_processes() -> int:
    """How many of them share this machine.

    Examples
    --------
    >>> local_processes()
    1
    """
    return 1 if _job is None else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def share(count: int, index: int | None = None) -> tuple[int, int]:
    """Range of ``count`` things that a process sees to; this one if ``index`` is left out.

    Examples
    --------
    >>> share(10)
    (0, 10)
    """
    index = rank() if index is None else index
    return count * index // processes(), count * (index + 1) // processes()


def report(error: BaseException) -> None:
    """Leave a message about an error that will end this process, for the other ones.

    Examples
    --------
    >>> try:
    ...     int("one")
    ... except ValueError as error:
    ...     report(error)  # reaches nobody in a program of one process
    """
    if _job is None or isinstance(error, DistributedError):
        return
    try:
        _job.store.set("error", described(error))
    except RuntimeError:
        return


def described(error: BaseException) -> str:
    """An error as the other processes are told of it.

    Examples
    --------
    >>> described(ValueError("no such file"))
    'rank 0 failed with ValueError: no such file'
    """
    return f"rank {rank()} failed with {type(error).__name__}: {error}"


def wait(start: Callable[[], Any]) -> None:
    """Send or receive a message, and wait for its end as long as all processes live.

    Parameters
    ----------
    start : callable
        Starts the message; returns what tells whether it has ended.

    Raises
    ------
    DistributedError
        If a process was lost.
    """
    assert _job is not None
    if _job.failed:
        raise DistributedError("the job has lost a process: start it again.")
    try:
        work = start()
        pause = 0.0
        while not work.is_completed():
            time.sleep(pause)
            pause = min(0.01, pause + 1e-5)
            _job.require_others()
        work.wait()
    except RuntimeError as error:
        if isinstance(error, DistributedError):
            raise
        raise _job.lost(_job.reason()) from error
