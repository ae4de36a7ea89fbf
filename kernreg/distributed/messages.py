"""What the processes of a job send to each other."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from kernreg.distributed.job import Job, current, described, processes, rank, share, wait
from kernreg.exceptions import DistributedError

__all__ = ["agree", "by_rows", "from_first", "handed_out", "join", "tell", "total"]

# Bytes of the message that each process gives about itself.
_MESSAGE = 512


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

    Examples
    --------
    >>> agree(what="reads 100 rows")
    >>> agree(ValueError("no such file"))
    Traceback (most recent call last):
    ...
    ValueError: no such file
    """
    job = current()
    if job is not None:
        text = f"={what}" if error is None else f"!{described(error)}"
        mine = torch.zeros(_MESSAGE, dtype=torch.uint8)
        data = text.encode()[:_MESSAGE]
        mine[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        all_ = [torch.empty_like(mine) for _ in range(job.size)]
        wait(lambda: dist.all_gather(all_, mine, async_op=True))
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
    """The value of rank 0, in every process.

    Examples
    --------
    >>> tell({"alpha": 0.1})
    {'alpha': 0.1}
    """
    if current() is None:
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

    Examples
    --------
    >>> from_first(lambda: sum(range(5)))
    10
    """
    value, error = None, None
    if rank() == 0:
        try:
            value = work()
        except Exception as found:
            error = found
    agree(error)
    return tell(value)


def by_rows(
    count: int, work: Callable[[int, int], NDArray[Any]], *inputs: NDArray[Any]
) -> NDArray[Any]:
    """``work(0, count)``, each process its share of the rows; all of them get all rows.

    Parameters
    ----------
    count : int
        How many rows.
    work : callable
        ``work(start, stop)`` gives an array of ``stop - start`` rows.
    *inputs : ndarray
        What the rows are computed from; must be the same in all processes, bit by bit.

    Raises
    ------
    DistributedError
        If another process failed, or has other inputs.

    Examples
    --------
    >>> by_rows(3, lambda start, stop: np.arange(start, stop))
    array([0, 1, 2])
    """
    if count < processes() or current() is None:
        return work(0, count)
    part, error = np.empty(0), None
    try:
        part = work(*share(count))
    except Exception as found:
        error = found
    agree(error, f"computes {count} rows of inputs {_digest(inputs)}")
    result = np.empty((count, *part.shape[1:]), dtype=part.dtype)
    start, stop = share(count)
    result[start:stop] = part
    join(torch.from_numpy(result))
    return result


def _digest(inputs: tuple[NDArray[Any], ...]) -> str:
    digest = hashlib.sha256()
    for one in inputs:
        digest.update(f"{one.dtype} {one.shape}".encode())
        digest.update(np.ascontiguousarray(one).data)
    return digest.hexdigest()[:16]


def total(values: Tensor) -> None:
    """Overwrite ``values`` of rank 0 with the sum over all processes.

    Examples
    --------
    >>> values = torch.ones(2)
    >>> total(values)
    >>> values  # of one process
    tensor([1., 1.])
    """
    if current() is not None:
        wait(lambda: dist.reduce(values, 0, async_op=True))


def join(values: Tensor) -> None:
    """Fill all rows of ``values``, where each process has filled its :func:`share`.

    Examples
    --------
    >>> start, stop = share(3)
    >>> values = torch.zeros(3)
    >>> values[start:stop] = torch.arange(start, stop) + 1.0
    >>> join(values)
    >>> values
    tensor([1., 2., 3.])
    """
    for source in range(processes()):
        start, stop = share(len(values), source)
        if start < stop:
            _broadcast(values[start:stop], source)


@contextlib.contextmanager
def handed_out(count: int) -> Iterator[Iterator[int]]:
    """Numbers below ``count``, each to one process only: to whichever asks next.

    Where one process leaves the context, by an error, no process gets another number.

    Raises
    ------
    DistributedError
        If a process was lost meanwhile.

    Examples
    --------
    >>> with handed_out(3) as numbers:
    ...     print(*numbers)
    0 1 2
    """
    job = current()
    if job is None:
        yield iter(range(count))
        return
    job.queues += 1
    key = f"queue/{job.queues}"
    try:
        yield _next_numbers(job, key, count)
    finally:
        if not job.failed:
            job.count(key, count)


def _next_numbers(job: Job, key: str, count: int) -> Iterator[int]:
    while (number := job.count(key, 1) - 1) < count:
        yield number
        job.require_others()


def _broadcast(values: Tensor, source: int) -> None:
    if current() is not None:
        wait(lambda: dist.broadcast(values, source, async_op=True))
