"""The checks and times of ``benchmarks/gpu.py``, interpreted: they pass, and they can fail."""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import kernreg
from benchmarks import gpu, gpu_checks, gpu_device, gpu_times
from benchmarks.problems import network, rows, torch_relu_ntk
from kernreg.backends.derivatives import Differentiable
from tests.backends.compare import TRITON_DEVICE, needs_triton

pytestmark = needs_triton


@pytest.fixture(autouse=True)
def where_triton_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_device, "DEVICE", TRITON_DEVICE)


@pytest.mark.parametrize("precision", ["tf32x3", "float64"])
@pytest.mark.parametrize("kind", ["ordinary", "hostile"])
def test_checks_pass(kind: str, precision: str) -> None:
    X = rows(40, 7) if kind == "ordinary" else gpu_checks.hostile(40, 7)
    found = gpu_checks._check("relu 2", network("relu", 2), kind, X, precision)
    assert {c["template"] for c in found} == {
        *("gram", "gram, symmetric", "K @ V", "K @ V, symmetric"),
    }
    assert [c for c in found if not c["passed"]] == []


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_gradients_pass_and_can_fail(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = ("relu 2", network("relu", 2), "ordinary", rows(40, 7), precision)
    assert [c["passed"] for c in gpu_checks._gradients(*case)] == [True, True]
    made = []

    def wrong(*args: Any) -> Differentiable:
        """Right on the CPU, which comes first."""
        made.append(Differentiable(*args[:5]))
        if len(made) > 1:
            made[-1].units = [2.0 * unit for unit in made[-1].units]
        return made[-1]

    monkeypatch.setattr("kernreg.operators.pull_back.derivatives_of", wrong)
    assert gpu_checks._gradients(*case)[0]["passed"] is False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A clock that says 2 s of everything, and what it timed."""
    done: list[Any] = []
    monkeypatch.setattr(gpu_device, "seconds", lambda run, repeat=5: done.append(run()) or 2.0)
    monkeypatch.setattr(gpu_device, "wall", lambda run, repeat=3: done.append(run()) or 2.0)
    return done


RATES = {"float32": 1e12, "tf32": 2e12, "bf16": 4e12}


def broken(X: torch.Tensor, depth: int) -> torch.Tensor:
    raise RuntimeError("not on this GPU")


def test_a_peer_that_fails_has_no_time_but_a_reason(clock: list[Any]) -> None:
    found = gpu_times._gram(20, 3, 1, "tf32x3", RATES, broken)
    (row,) = [row for row in found if row["work"].startswith("torch.compile")]
    assert row["seconds"] is None
    assert row["failed"] == "RuntimeError('not on this GPU')"


def test_report_is_json_whatever_is_in_it() -> None:
    report = {"checks": [{"error": float("inf"), "passed": False}], "pair": (1.0, float("nan"))}
    text = json.dumps(gpu.finite(report), allow_nan=False)
    assert json.loads(text) == {"checks": [{"error": None, "passed": False}], "pair": [1.0, None]}


@pytest.fixture
def jax(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in that computes by NumPy; what is asked of it is all there in JAX."""
    module = ModuleType("jax")
    module.__spec__ = ModuleSpec("jax", None)
    module.numpy = np
    module.jit = lambda run: run
    module.block_until_ready = lambda value: value
    module.default_backend = lambda: "gpu"
    monkeypatch.setitem(sys.modules, "jax", module)
    monkeypatch.setitem(sys.modules, "neural_tangents", None)
    find = importlib.util.find_spec
    known = {"jax": module.__spec__, "neural_tangents": None}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: known[name] if name in known else find(name)
    )
    return module


def test_jax(jax: ModuleType, clock: list[Any]) -> None:
    X = torch.from_numpy(rows(20, 3))
    (row,) = gpu_times._jax(X, {"work": "gram", "n": 40, "depth": 2})
    assert (row["work"], row["seconds"]) == ("JAX, gram", 2.0 * (40 / 20) ** 2)
    net = network("relu", 2)
    want = kernreg.gram(net, X, backend="reference").numpy()
    # On the diagonal each of two layers loses the angle below sqrt(2 eps).
    bound = 2 * np.sqrt(2 * np.finfo(np.float32).eps)
    assert np.abs(clock[0] - want).max() <= bound * want.max()


def test_jax_without_a_gpu(
    jax: ModuleType, clock: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_device, "DEVICE", "cuda")
    jax.default_backend = lambda: "cpu"
    (row,) = gpu_times._jax(torch.from_numpy(rows(20, 3)), {"work": "gram", "n": 40, "depth": 2})
    assert row["seconds"] is None
    assert "JAX computes on cpu" in row["failed"]


def test_checks_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound below float32 rounding is not met."""
    monkeypatch.setitem(gpu_checks.BOUNDS, "tf32x3", 1e-9)
    found = gpu_checks._check("relu 2", network("relu", 2), "ordinary", rows(40, 7), "tf32x3")
    assert not any(c["passed"] for c in found)


def test_limit_counts_operations() -> None:
    layers = 2 * gpu_times.LAYER * 3 / 1e12
    assert gpu_times.limit(100, 3, "tf32x3", RATES) == pytest.approx(600 / 2e12 + layers)
    assert gpu_times.limit(100, 3, "ieee", RATES) == pytest.approx(200 / 1e12 + layers)
    assert gpu_times.limit(100, 3, "bf16x3", RATES) == pytest.approx(600 / 4e12 + layers)


def test_times_stand_beside_limit_and_peers(clock: list[Any]) -> None:
    """Every row of the report is there, from small work on the CPU and a clock that says 2."""
    found = gpu_times._gram(20, 3, 1, "tf32x3", RATES, torch_relu_ntk)
    found += gpu_times._products(20, "tf32x3", RATES, torch_relu_ntk)
    for work in ("gram", "K @ V"):
        names = {work, f"{work}, symmetric", f"torch, {work}", f"torch.compile, {work}"}
        assert names <= {row["work"] for row in found}
    assert len(clock) >= 8
    limits = [row for row in found if "limit" in row]
    assert all(row["share"] == row["limit"] / 2.0 for row in limits)
    assert [row["symmetric_gain"] for row in limits if "symmetric" in row["work"]] == [1.0, 1.0]
