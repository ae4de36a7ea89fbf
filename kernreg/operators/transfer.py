"""Kernel matrices that are made on a device and wanted in host memory, by panels of rows.

While a panel is worked out, the one before it travels, so that the device holds two panels and
never the whole matrix.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from kernreg.backends.base import CPU, Bound, Part
from kernreg.exceptions import MemoryBudgetError
from kernreg.operators.budget import PANEL_BYTES
from kernreg.operators.outputs import within_memory
from kernreg.operators.panels import panel_bounds

__all__ = ["GpuQueues", "InOrder", "Queues", "fill", "fill_host"]

logger = logging.getLogger(__name__)

# The fewest rows of a panel: the tiles of a GPU would be half empty below.
_TILE = 64


class Queues(Protocol):
    """Two orders of work on a device, one that computes and one that copies."""

    def compute(self, work: Callable[[], None]) -> None:
        """Do this after all that was computed before."""
        ...

    def copy(self, work: Callable[[], None]) -> Any:
        """Do this after all computed so far; returns what :meth:`wait` waits for."""
        ...

    def wait(self, copied: Any) -> None:
        """Until a copy is complete."""
        ...


class InOrder:
    """One thing after the other, for a device that is the host itself."""

    def compute(self, work: Callable[[], None]) -> None:
        work()

    def copy(self, work: Callable[[], None]) -> None:
        work()

    def wait(self, copied: None) -> None:
        pass


class GpuQueues:
    """The current stream of a GPU, which computes, and another one, which copies."""

    def __init__(self, device: torch.device) -> None:
        self._computes = torch.cuda.current_stream(device)
        self._copies = torch.cuda.Stream(device)

    def compute(self, work: Callable[[], None]) -> None:
        work()

    def copy(self, work: Callable[[], None]) -> torch.cuda.Event:
        self._copies.wait_stream(self._computes)
        with torch.cuda.stream(self._copies):
            work()
        return self._copies.record_event()

    def wait(self, copied: torch.cuda.Event) -> None:
        copied.synchronize()


def fill(
    bound: Bound, part: Part, outs: Mapping[str, Tensor], *, symmetric: bool, device: torch.device
) -> None:
    """Write a part of a kernel matrix, on the device of its rows or in host memory.

    Parameters
    ----------
    bound : Bound
        What makes the entries.
    part : Part
        Which rows and columns.
    outs : mapping of str to Tensor
        Where to write each kernel.
    symmetric : bool
        Whether rows and columns of the whole matrix are the same points.
    device : torch.device
        Of the rows.

    Raises
    ------
    MemoryBudgetError
        If the device has no room for what the work needs besides ``outs``.
    """
    if any(out.device != device for out in outs.values()):
        queues: Queues = GpuQueues(device) if device.type == "cuda" else InOrder()
        fill_host(bound, part, outs, symmetric=symmetric, device=device, queues=queues)
        return
    with within_memory(
        f"The work on {part.i1 - part.i0} rows does not fit the free memory of {device}: use "
        "fewer rows at once, or device='cpu'."
    ):
        bound.fill(part, outs)


def fill_host(
    bound: Bound,
    part: Part,
    outs: Mapping[str, Tensor],
    *,
    symmetric: bool,
    device: torch.device,
    queues: Queues,
) -> None:
    """:func:`fill` where ``outs`` are in host memory.

    Notes
    -----
    Two panels of up to 64 MiB on the device, and as much in page-locked host memory. A panel that
    does not fit is halved, down to the rows of one tile. Of a symmetric part the device makes the
    lower half, which the host mirrors while the next panel is on its way.
    """
    half = symmetric and (part.i0, part.i1) == (part.j0, part.j1)
    size = sum(out.element_size() for out in outs.values())
    rows = _rounded(PANEL_BYTES // (size * max(1, part.j1 - part.j0)))
    done = part.i0
    while done < part.i1:
        lack = None
        try:
            for end in _panels(bound, part, done, rows, outs, half, device, queues):
                done = end
        except torch.cuda.OutOfMemoryError as error:
            lack = error.with_traceback(None)  # whose frames hold the memory of the panels
        if lack is None:
            return
        if rows == _TILE:
            raise MemoryBudgetError(
                f"{rows} rows of {part.j1 - part.j0} kernel entries do not fit the free memory of "
                f"{device}: use fewer columns, dtype float32 or device='cpu'."
            ) from lack
        rows = _rounded(rows // 2)
        logger.info("%s is short of memory: panels of %d rows from row %d on", device, rows, done)


def _rounded(rows: int) -> int:
    return max(_TILE, rows // _TILE * _TILE)


def _panels(
    bound: Bound,
    part: Part,
    start: int,
    rows: int,
    outs: Mapping[str, Tensor],
    half: bool,
    device: torch.device,
    queues: Queues,
) -> Iterator[int]:
    """Deliver panels from row ``start`` on; yields where each ends once it is in ``outs``."""
    bounds = [(start + a, start + b) for a, b in panel_bounds(part.i1 - start, rows)]
    numbers = min(rows, part.i1 - start) * (part.j1 - part.j0)
    # A third panel would wait for the first one to be delivered, and so shares its room.
    rooms = [_Room(outs, numbers, device) for _ in bounds[:2]]
    flying: list[tuple[_Room, Part, Any]] = []
    try:
        for k, (i0, i1) in enumerate(bounds):
            room, panel = rooms[k % 2], Part(i0, i1, part.j0, i1 if half else part.j1)
            queues.compute(partial(room.compute, bound, panel, half))
            flying.append((room, panel, queues.copy(partial(room.copy, panel))))
            if len(flying) == 2:
                yield _deliver(*flying.pop(0), part, outs, half, queues)
        yield _deliver(*flying.pop(0), part, outs, half, queues)
    finally:
        # Nothing may still write to memory that is given back.
        for _, _, copied in flying:
            queues.wait(copied)


class _Room:
    """Memory for one panel of each kernel, on the device and in the host."""

    def __init__(self, outs: Mapping[str, Tensor], numbers: int, device: torch.device) -> None:
        locked = device.type == "cuda"
        self._device = {
            k: torch.empty(numbers, dtype=out.dtype, device=device) for k, out in outs.items()
        }
        self._host = {
            k: torch.empty(numbers, dtype=out.dtype, device=CPU, pin_memory=locked)
            for k, out in outs.items()
        }

    def compute(self, bound: Bound, panel: Part, half: bool) -> None:
        views = _views(self._device, panel)
        if not half:
            bound.fill(panel, views)
            return
        left = panel.i0 - panel.j0
        if left:
            low = {k: v[:, :left] for k, v in views.items()}
            bound.fill(Part(panel.i0, panel.i1, panel.j0, panel.i0), low)
        corner = {k: v[:, left:] for k, v in views.items()}
        bound.fill(Part(panel.i0, panel.i1, panel.i0, panel.i1), corner)

    def copy(self, panel: Part) -> None:
        made = _views(self._device, panel)
        for kernel, target in _views(self._host, panel).items():
            target.copy_(made[kernel], non_blocking=True)

    def arrived(self, panel: Part) -> dict[str, Tensor]:
        return _views(self._host, panel)


def _views(flat: Mapping[str, Tensor], panel: Part) -> dict[str, Tensor]:
    shape = (panel.i1 - panel.i0, panel.j1 - panel.j0)
    return {k: v[: shape[0] * shape[1]].view(shape) for k, v in flat.items()}


def _deliver(
    room: _Room,
    panel: Part,
    copied: Any,
    part: Part,
    outs: Mapping[str, Tensor],
    half: bool,
    queues: Queues,
) -> int:
    """Bring a panel that has arrived to where it belongs; returns its end."""
    queues.wait(copied)
    a, b = panel.i0 - part.i0, panel.i1 - part.i0
    for kernel, values in room.arrived(panel).items():
        outs[kernel][a:b, : values.shape[1]] = values
        if half:
            outs[kernel][:a, a:b] = values[:, :a].T
    return panel.i1
