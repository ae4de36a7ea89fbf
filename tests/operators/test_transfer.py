"""Results that travel to host memory by panels, without a GPU: what computes stands for one."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import kernreg
from kernreg import KernelOperator, nn
from kernreg.backends import bind
from kernreg.backends.base import CPU, Part, Request
from kernreg.exceptions import MemoryBudgetError
from kernreg.operators import transfer
from tests.backends.compare import KERNELS, needs_triton, on

NET = nn.mlp(depth=2, b_std=0.1)
# Dropout makes the diagonal differ from what its neighbours tend to.
DROPOUT = nn.serial(nn.Dense(b_std=0.1), nn.Relu(), nn.Dropout(0.7), nn.Dense())
N, D = 300, 5
PARTS = [(0, N, 0, N), (0, N, 7, 90), (130, 270, 130, 270), (3, 4, 0, N), (64, 128, 200, N)]


def rows(n: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, D)))


class Computes:
    """A bound program that counts, or that finds no memory when it is told so."""

    def __init__(self, bound: Any, fails: Callable[[Part], bool] = lambda part: False) -> None:
        self.bound, self.fails, self.parts = bound, fails, []

    def fill(self, part: Part, out: dict[str, torch.Tensor]) -> None:
        self.parts.append(part)
        if self.fails(part):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        self.bound.fill(part, out)


class Late:
    """Both queues do nothing before the host waits, and then no more than they must."""

    def __init__(self) -> None:
        self.computed: list[Callable[[], None]] = []
        self.copies: list[tuple[int, Callable[[], None]]] = []
        self.done = {"compute": 0, "copy": 0}

    def compute(self, work: Callable[[], None]) -> None:
        self.computed.append(work)

    def copy(self, work: Callable[[], None]) -> int:
        self.copies.append((len(self.computed), work))
        return len(self.copies)

    def wait(self, copied: int) -> None:
        while self.done["copy"] < copied:
            after, work = self.copies[self.done["copy"]]
            self.run_computed(after)
            work()
            self.done["copy"] += 1

    def run_computed(self, count: int) -> None:
        while self.done["compute"] < count:
            self.computed[self.done["compute"]]()
            self.done["compute"] += 1


class Ahead(Late):
    """Computes at once and copies late: a panel may be overwritten that has not been copied."""

    def compute(self, work: Callable[[], None]) -> None:
        super().compute(work)
        self.run_computed(len(self.computed))


def made(
    part: tuple[int, int, int, int],
    queues: transfer.Queues,
    *,
    net: nn.Layer = NET,
    other: torch.Tensor | None = None,
    kernels: tuple[str, ...] = KERNELS,
    fails: Callable[[Part], bool] = lambda part: False,
) -> tuple[dict[str, np.ndarray], Computes]:
    """A part by panels into the middle of larger arrays, nothing of which may change."""
    _, bound = bind(Request(net.program(), rows(N), other, np.dtype(np.float64)), "reference")
    computes = Computes(bound, fails)
    cut = Part(*part)
    shape = (cut.i1 - cut.i0, cut.j1 - cut.j0)
    frames = {k: np.full((shape[0] + 2, shape[1] + 2), 7.0) for k in kernels}
    inside = {
        k: torch.from_numpy(frame)[1:-1, 1:-1].fill_(torch.nan) for k, frame in frames.items()
    }
    transfer.fill_host(computes, cut, inside, symmetric=other is None, device=CPU, queues=queues)
    found = {k: values.numpy().copy() for k, values in inside.items()}
    for kernel, frame in frames.items():
        inside[kernel].fill_(7.0)
        assert (frame == 7.0).all()
    return found, computes


def whole(net: nn.Layer = NET, other: torch.Tensor | None = None) -> dict[str, np.ndarray]:
    values = kernreg.gram(net, rows(N), other, kernel=KERNELS, backend="reference")
    return {k: v.numpy() for k, v in zip(KERNELS, values, strict=True)}


@pytest.fixture(autouse=True)
def small_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 64 rows: five for the whole matrix."""
    monkeypatch.setattr(transfer, "PANEL_BYTES", 1)


def close(got: np.ndarray, want: np.ndarray) -> bool:
    """Within what two evaluations of an entry in other tiles may differ by: 1e-10 each."""
    return bool((np.abs(got - want) <= 2e-10 * want.max()).all())


@pytest.mark.parametrize("queues", [transfer.InOrder, Late, Ahead])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("net", [NET, DROPOUT], ids=["mlp", "dropout"])
def test_parts(part: tuple[int, ...], queues: Any, net: nn.Layer) -> None:
    """Whatever order the device takes that waits and queues allow."""
    got, _ = made(part, queues(), net=net)
    i0, i1, j0, j1 = part
    for kernel, want in whole(net).items():
        assert close(got[kernel], want[i0:i1, j0:j1])
        if (i0, i1) == (j0, j1):
            np.testing.assert_array_equal(got[kernel], got[kernel].T)
            exact = kernreg.diag(net, rows(N), kernel).numpy()[i0:i1]
            np.testing.assert_array_equal(np.diag(got[kernel]), exact)


@pytest.mark.parametrize("queues", [transfer.InOrder, Late, Ahead])
def test_other_columns(queues: Any) -> None:
    other = rows(90, seed=1)
    got, computes = made((0, N, 0, 90), queues(), other=other)
    for kernel, want in whole(other=other).items():
        assert close(got[kernel], want)
    assert len(computes.parts) == 5


def test_half_of_a_symmetric_matrix_is_computed() -> None:
    _, computes = made((0, N, 0, N), transfer.InOrder())
    entries = sum((p.i1 - p.i0) * (p.j1 - p.j0) for p in computes.parts)
    assert entries == sum((i1 - i0) * i1 for i0, i1 in transfer.panel_bounds(N, 64))


@pytest.mark.parametrize("at", [0, 64, 200, 290])
def test_a_panel_without_memory_is_halved(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has arrived stays; what had not is made again."""
    monkeypatch.setattr(transfer, "PANEL_BYTES", 8 * N * 128)
    lack = lambda part: part.i1 - part.i0 > 64 and part.i1 > at  # noqa: E731
    queues = transfer.InOrder()
    got, computes = made((0, N, 0, N), queues, kernels=("ntk",), fails=lack)
    assert close(got["ntk"], whole()["ntk"])
    np.testing.assert_array_equal(got["ntk"], got["ntk"].T)
    # The third panel has 44 rows and fits; the first has arrived by the time it is reached.
    begun = [p.i0 for p in computes.parts if p.i1 - p.i0 == 128]
    assert begun == ([0] if at < 128 else [0, 128] if at < 256 else [0, 128, 128])
    assert [p.i0 for p in computes.parts if p.i1 - p.i0 == 64 and p.j0 == 0][:1] == (
        [0] if at < 256 else []
    )


def test_room_that_is_not_there_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """An allocator that has 100 rows left; and the memory of the first attempt is given back."""
    monkeypatch.setattr(transfer, "PANEL_BYTES", 8 * N * 256)
    asked: list[int] = []
    alive: list[weakref.ref] = []

    class Room(transfer._Room):
        def __init__(self, outs: Any, numbers: int, device: torch.device) -> None:
            assert not any(ref() for ref in alive[:-1])
            asked.append(numbers)
            alive.append(weakref.ref(self))
            if sum(asked[-2:]) > 2 * 100 * N:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            super().__init__(outs, numbers, device)

    monkeypatch.setattr(transfer, "_Room", Room)
    got, _ = made((0, N, 0, N), transfer.InOrder(), kernels=("ntk",))
    assert close(got["ntk"], whole()["ntk"])
    assert asked == [256 * N, 128 * N, 64 * N, 64 * N]


def test_not_even_one_tile() -> None:
    with pytest.raises(MemoryBudgetError, match=r"64 rows of 300 kernel entries.*use fewer col"):
        made((0, N, 0, N), transfer.InOrder(), fails=lambda part: part.i0 >= 128)


def test_other_errors_wait_for_what_is_under_way() -> None:
    """Memory must not be given back while a copy writes to it."""

    class Waits(Late):
        waited = 0

        def wait(self, copied: int) -> None:
            self.waited = max(self.waited, copied)
            super().wait(copied)

        def compute(self, work: Callable[[], None]) -> None:
            if len(self.computed) == 3:
                raise RuntimeError("launch failed")
            super().compute(work)

    queues = Waits()
    with pytest.raises(RuntimeError, match="launch failed"):
        made((0, N, 0, N), queues)
    assert queues.waited == len(queues.copies) == 3


def test_streams_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy is queued after all that was computed, on a stream of its own, and then marked."""
    log: list[str] = []

    class Stream:
        def __init__(self, device: torch.device, name: str = "copies") -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            log.append(f"{self.name} wait for {other.name}")

        def record_event(self) -> Stream:
            log.append(f"mark {self.name}")
            return self

        def synchronize(self) -> None:
            log.append(f"host waits for {self.name}")

        def __enter__(self) -> None:
            log.append(f"enter {self.name}")

        def __exit__(self, *args: object) -> None:
            log.append(f"leave {self.name}")

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(device, "computes"))
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    queues = transfer.GpuQueues(torch.device("cuda:1"))
    queues.compute(lambda: log.append("compute"))
    queues.wait(queues.copy(lambda: log.append("copy")))
    assert log == [
        "compute",
        "copies wait for computes",
        *("enter copies", "copy", "leave copies"),
        *("mark copies", "host waits for copies"),
    ]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Outputs in host memory are taken for ones of another device than the rows'."""
    seen: list[tuple[int, ...]] = []

    def by_panels(bound: Any, part: Part, outs: Any, **options: Any) -> None:
        seen.append((part.i1 - part.i0, part.j1 - part.j0))
        there = options["device"]
        queues = transfer.InOrder() if there == CPU else transfer.GpuQueues(there)
        transfer.fill_host(bound, part, outs, queues=queues, **options)

    for module in (kernreg.operators.dense, kernreg.operators.kernel):
        monkeypatch.setattr(module, "fill", by_panels)
    return seen


@needs_triton
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gram_and_operator(dtype: str, elsewhere: list[tuple[int, ...]]) -> None:
    X = rows(150).numpy()
    bound = 5e-6 if dtype == "float32" else 1e-10
    K = kernreg.gram(NET, X, kernel=KERNELS, dtype=dtype, **on("triton"))
    for kernel in KERNELS:
        values = getattr(K, kernel)
        want = kernreg.gram(NET, torch.from_numpy(X), kernel=kernel, backend="reference").numpy()
        assert np.abs(values - want).max() <= bound * want.max()
        np.testing.assert_array_equal(values, values.T)
    operator = KernelOperator(NET, X, dtype=dtype, **on("triton"))
    out = np.empty((150, 150), dtype=dtype)
    assert operator.to_dense(out) is out
    np.testing.assert_array_equal(out, K.ntk)
    part = operator.tile(slice(10, 140), slice(0, 120))
    assert np.abs(part - want[10:140, :120]).max() <= bound * want.max()
    assert len(elsewhere) >= 3


def test_a_product_by_panels_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    X, V = rows(N).numpy(), rows(N, seed=3).numpy()
    operator = KernelOperator(NET, X, backend="reference")
    expected = operator @ V
    bound_rows = Computes(operator._bound, lambda part: part.i1 - part.i0 > 40)
    operator._made = ("reference", bound_rows)
    bound = 1e-10 * (np.abs(whole()["ntk"]) @ np.abs(V))
    assert (np.abs(operator @ V - expected) <= 2 * bound).all()
    assert max(p.i1 - p.i0 for p in bound_rows.parts[-3:]) <= 40
    operator._made = ("reference", Computes(bound_rows.bound, lambda part: True))
    with pytest.raises(MemoryBudgetError, match="product with 5 columns does not fit"):
        operator @ V


def test_rows_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(MemoryBudgetError, match=r"X1 of shape \(300, 5\) does not fit"):
        KernelOperator(NET, rows(N), device="cpu")
