"""Kernels of modules keep what every operator promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernreg.finite import EmpiricalOperator
from tests.contracts.operator import OperatorContract


def network(outputs: int = 2) -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 9), torch.nn.Tanh(), torch.nn.LayerNorm(9), torch.nn.Linear(9, outputs)
    )


def rows(n: int, dtype: str) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((n, 4)).astype(dtype)


class Contract(OperatorContract):
    outputs: str | int = "mean"
    kernel, method = "ntk", "structured"
    streamed = True
    # A derivative is a chain of products, and a kernel a sum over the parameters.
    entry_error = 512

    def make(self, n, dtype, folder):
        f = network().to(getattr(torch, dtype))
        options = {"outputs": self.outputs, "method": self.method}
        return EmpiricalOperator(f, rows(n, dtype), kernel=self.kernel, **options)


class TestStructured(Contract):
    pass


class TestJacobian(Contract):
    method = "jacobian"


class TestProducts(Contract):
    method, fused = "products", True


class TestOneOutput(Contract):
    outputs = 1


class TestValues(Contract):
    kernel = "nngp"


class TestFull(Contract):
    outputs, streamed = "full", False

    def make(self, n, dtype, folder):
        f = network(1 if n == 1 else 2).to(getattr(torch, dtype))
        return EmpiricalOperator(f, rows(-(-n // 2), dtype), outputs="full", method=self.method)


class TestKept(Contract):
    kept = True

    @pytest.fixture(autouse=True)
    def _type(self, request):
        self.reevaluates = "float32" not in request.node.name

    def make(self, n, dtype, folder):
        return super().make(n, dtype, folder).keep()
