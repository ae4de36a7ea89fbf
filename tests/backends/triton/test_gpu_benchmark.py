"""The checks of ``benchmarks/gpu.py``, interpreted: they pass, and they can fail."""

from __future__ import annotations

import pytest

from benchmarks import gpu
from tests.backends.compare import TRITON_DEVICE, needs_triton

pytestmark = needs_triton


@pytest.fixture(autouse=True)
def where_triton_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DEVICE", TRITON_DEVICE)


@pytest.mark.parametrize("precision", ["tf32x3", "float64"])
@pytest.mark.parametrize("kind", ["ordinary", "hostile"])
def test_checks_pass(kind: str, precision: str) -> None:
    X = gpu.rows(40, 7) if kind == "ordinary" else gpu.hostile(40, 7)
    found = gpu._check("relu 2", gpu.network("relu", 2), kind, X, precision)
    assert {c["template"] for c in found} == {
        *("gram", "gram, symmetric", "K @ V", "K @ V, symmetric"),
    }
    assert [c for c in found if not c["passed"]] == []


def test_checks_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound below float32 rounding is not met."""
    monkeypatch.setitem(gpu.BOUNDS, "tf32x3", 1e-9)
    found = gpu._check("relu 2", gpu.network("relu", 2), "ordinary", gpu.rows(40, 7), "tf32x3")
    assert not any(c["passed"] for c in found)


def test_limit_counts_operations() -> None:
    rates = {"float32": 1e12, "tf32": 2e12, "bf16": 4e12}
    layers = 2 * gpu.LAYER * 3 / 1e12
    assert gpu.limit(100, 3, "tf32x3", rates) == pytest.approx(600 / 2e12 + layers)
    assert gpu.limit(100, 3, "ieee", rates) == pytest.approx(200 / 1e12 + layers)
    assert gpu.limit(100, 3, "bf16x3", rates) == pytest.approx(600 / 4e12 + layers)


def test_times_stand_beside_limit_and_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of the report is there, from small work on the CPU and a clock that says 2."""
    done = []
    monkeypatch.setattr(gpu, "seconds", lambda run, repeat=5: done.append(run()) or 2.0)
    rates = {"float32": 1e12, "tf32": 2e12, "bf16": 4e12}
    found = gpu._gram(20, 3, 1, "tf32x3", rates, gpu.torch_relu_ntk)
    found += gpu._products(20, "tf32x3", rates, gpu.torch_relu_ntk)
    for work in ("gram", "K @ V"):
        names = {work, f"{work}, symmetric", f"torch, {work}", f"torch.compile, {work}"}
        assert names <= {row["work"] for row in found}
    assert len(done) >= 8
    limits = [row for row in found if "limit" in row]
    assert all(row["share"] == row["limit"] / 2.0 for row in limits)
    assert [row["symmetric_gain"] for row in limits if "symmetric" in row["work"]] == [1.0, 1.0]
