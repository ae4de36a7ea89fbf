"""Several processes as one job: how it starts, what they send, and errors that reach all of them.

Every function also works in a program of one process, where it sends nothing.
"""

from __future__ import annotations

import atexit
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from kernreg.exceptions import DistributedError, InvalidInputError

__all__ = [
    "agree",
    "by_rows",
    "described",
    "from_first",
    "handed_out",
    "initialize",
    "is_distributed",
    "join",
    "local_processes",
    "processes",
    "rank",
    "report",
    "share",
    "tell",
    "total",
]

# Seconds between signs of life, and how long a process may fail to give one.
_BEAT, _SILENCE = 1.0, 20.0
# Seconds that the processes of a job may start apart.
_START = 300.0
# Bytes of the message that each process gives about itself.
_MESSAGE = 512
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass
class _Job:
    rank: int
    size: int
    store: Any
    silence: float
    beats: dict[int, tuple[int, float]] = field(default_factory=dict)
    queues: int = 0
    failed: bool = False


_job: _Job | None = None


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
    Messages have no time limit: a process may compute for hours while the others wait. One that
    ends is noticed at once, as its connections close; one that hangs, or whose machine is lost, by
    its silence. An exception that nobody catches is reported to the other processes.

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
    try:
        server = dist.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=own == 0 and not elsewhere,
            wait_for_workers=False,
            timeout=timedelta(seconds=_START),
        )
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"kernreg/{attempt}", server)
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
        raise DistributedError(f"rank {own} cannot join the job: {error}") from error
    _job = _Job(own, size, store, silence)
    threading.Thread(target=_beat, args=(_job,), daemon=True).start()
    _report_uncaught()
    atexit.register(_leave)
    return True


def _await_start(store: Any, size: int) -> None:
    store.add("started", 1)
    end = time.monotonic() + _START
    while store.add("started", 0) < size:
        if time.monotonic() > end:
            raise DistributedError(
                f"only {store.add('started', 0)} of {size} processes started within {_START:.0f} "
                "seconds: see the logs of the others."
            )
        time.sleep(0.02)


def _beat(job: _Job) -> None:
    """Give signs of life until the process or the store ends."""
    while True:
        try:
            job.store.add(f"alive/{job.rank}", 1)
        except RuntimeError:
            return
        time.sleep(_BEAT)


def _report_uncaught() -> None:
    before = sys.excepthook

    def hook(kind: Any, error: BaseException, trace: Any) -> None:
        report(error)
        before(kind, error, trace)

    sys.excepthook = hook


def _leave() -> None:
    if _job is not None and _job.failed:
        # A message to a process that hangs would keep this one from ending.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    dist.destroy_process_group()


def is_distributed() -> bool:
    """Whether this process is one of several that joined a job."""
    return _job is not None


def rank() -> int:
    """Number of this process, from 0."""
    return 0 if _job is None else _job.rank


def processes() -> int:
    """How many processes the job has."""
    return 1 if _job is None else _job.size


def local_processes() -> int:
    """How many of them share this machine."""
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
    """Leave a message about an error that will end this process, for the other ones."""
    if _job is None or isinstance(error, DistributedError):
        return
    try:
        _job.store.set("error", described(error))
    except RuntimeError:
        return


def described(error: BaseException) -> str:
    """An error as the other processes are told of it."""
    return f"rank {rank()} failed with {type(error).__name__}: {error}"


def agree(error: Exception | None = None, what: str = "") -> None:
    """Find out whether all processes got here, without an error and for the same thing.

    Parameters
    ----------
    error : Exception, optional
        What went wrong in this process; it is raised.
    what : str
        What must be the same in all processes.

    Raises
    ------
    DistributedError
        If another process has an error, or another ``what``.
    """
    if _job is not None:
        text = f"={what}" if error is None else f"!{described(error)}"
        mine = torch.zeros(_MESSAGE, dtype=torch.uint8)
        data = text.encode()[:_MESSAGE]
        mine[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        all_ = [torch.empty_like(mine) for _ in range(_job.size)]
        _wait(lambda: dist.all_gather(all_, mine, async_op=True))
        if error is None:
            _require_equal(
                [bytes(one.tolist()).rstrip(b"\0").decode(errors="replace") for one in all_]
            )
    if error is not None:
        raise error


def _require_equal(texts: list[str]) -> None:
    failures = [text[1:] for text in texts if text.startswith("!")]
    if failures:
        raise DistributedError(failures[0])
    for other, text in enumerate(texts):
        if text != texts[0]:
            raise DistributedError(
                f"the processes do different things: rank 0 {texts[0][1:]}, rank {other} "
                f"{text[1:]}. Run the same program on the same data everywhere."
            )


def tell(value: Any = None) -> Any:
    """The value of rank 0, in every process."""
    if _job is None:
        return value
    data = np.frombuffer(pickle.dumps(value, protocol=5) if not rank() else b"", dtype=np.uint8)
    size = torch.tensor([len(data)])
    _broadcast(size, 0)
    buffer = (
        torch.from_numpy(data.copy()) if not rank() else torch.empty(int(size), dtype=torch.uint8)
    )
    _broadcast(buffer, 0)
    return value if not rank() else pickle.loads(buffer.numpy().tobytes())


def from_first(work: Callable[[], Any]) -> Any:
    """The result of ``work``, done by rank 0 alone, in every process.

    Raises
    ------
    DistributedError
        If rank 0 failed; there, its own error.
    """
    value, error = None, None
    if rank() == 0:
        try:
            value = work()
        except Exception as found:
            error = found
    agree(error)
    return tell(value)


def by_rows(count: int, work: Callable[[int, int], NDArray[Any]]) -> NDArray[Any]:
    """``work(0, count)``, each process its share of the rows; all of them get all rows.

    Parameters
    ----------
    count : int
        How many rows.
    work : callable
        ``work(start, stop)`` gives an array of ``stop - start`` rows.

    Raises
    ------
    DistributedError
        If another process failed.
    """
    if count < processes() or _job is None:
        return work(0, count)
    error = None
    try:
        part = work(*share(count))
    except Exception as found:
        error = found
    agree(error, f"computes {count} rows")
    result = np.empty((count, *part.shape[1:]), dtype=part.dtype)
    start, stop = share(count)
    result[start:stop] = part
    join(torch.from_numpy(result))
    return result


def total(values: Tensor) -> None:
    """Overwrite ``values`` of rank 0 with the sum over all processes."""
    if _job is not None:
        _wait(lambda: dist.reduce(values, 0, async_op=True))


def join(values: Tensor) -> None:
    """Fill all rows of ``values``, where each process has filled its :func:`share`."""
    for source in range(processes()):
        start, stop = share(len(values), source)
        if start < stop:
            _broadcast(values[start:stop], source)


def handed_out(count: int) -> Iterator[int]:
    """Numbers below ``count``, each to one process only: to whichever asks next."""
    if _job is None:
        yield from range(count)
        return
    _job.queues += 1
    key = f"queue/{_job.queues}"
    while (number := _job.store.add(key, 1) - 1) < count:
        yield number


def _broadcast(values: Tensor, source: int) -> None:
    if _job is not None:
        _wait(lambda: dist.broadcast(values, source, async_op=True))


def _wait(start: Callable[[], Any]) -> None:
    """Send or receive a message, and wait for its end as long as all processes live."""
    assert _job is not None
    if _job.failed:
        raise DistributedError("the job has lost a process: start it again.")
    try:
        work = start()
        _poll(_job, work)
        work.wait()
    except RuntimeError as error:
        if isinstance(error, DistributedError):
            raise
        raise _lost(_job, _reason(_job)) from error


def _poll(job: _Job, work: Any) -> None:
    pause, check = 0.0, time.monotonic() + _BEAT
    while not work.is_completed():
        time.sleep(pause)
        pause = min(0.01, pause + 1e-5)
        if time.monotonic() > check:
            check += _BEAT
            silent = _silent(job, job.silence)
            if silent:
                raise _lost(
                    job, f"rank {silent[0]} has given no sign of life for {job.silence:g} seconds"
                )


def _silent(job: _Job, seconds: float) -> list[int]:
    """Processes whose last new sign of life is older than that."""
    now, found = time.monotonic(), []
    for other in range(job.size):
        try:
            count = job.store.add(f"alive/{other}", 0)
        except RuntimeError:
            # The store is in the process of rank 0.
            return [0]
        before, since = job.beats.get(other, (-1, now))
        if count != before:
            job.beats[other] = (count, now)
        elif now - since > seconds and other != job.rank:
            found.append(other)
    return found


def _reason(job: _Job) -> str:
    """Why a connection was closed."""
    try:
        if job.store.check(["error"]):
            return str(job.store.get("error").decode())
    except RuntimeError:
        return "rank 0 ended without a message (killed?)"
    _silent(job, 0.0)
    time.sleep(2.5 * _BEAT)
    silent = _silent(job, 2 * _BEAT)
    name = f"rank {silent[0]}" if silent else "a process"
    return f"{name} ended without a message (killed, or out of memory?)"


def _lost(job: _Job, reason: str) -> DistributedError:
    job.failed = True
    return DistributedError(
        f"{reason}: see its log. Start the job again; what it had stored is used again."
    )
