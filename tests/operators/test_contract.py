"""Every operator keeps the same promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernreg import KernelOperator, nn
from kernreg.exceptions import InvalidInputError
from kernreg.operators import (
    MatrixOperator,
    Operator,
    PackedOperator,
    StreamedOperator,
    TileStore,
    distributed,
)
from tests.contracts.operator import OperatorContract
from tests.contracts.solver import gaussian_points, kernel_matrix

NET = nn.mlp(depth=2, b_std=0.1)


def kernel(n, dtype):
    return KernelOperator(NET, gaussian_points(n, 4), dtype=dtype)


class TestKernel(OperatorContract):
    streamed = True

    def make(self, n, dtype, folder):
        return kernel(n, dtype)


class TestReference(OperatorContract):
    streamed = True

    def make(self, n, dtype, folder):
        return KernelOperator(NET, gaussian_points(n, 4), dtype=dtype, backend="reference")


class TestPacked(OperatorContract):
    kept = True

    def make(self, n, dtype, folder):
        return PackedOperator(kernel(n, dtype))


class TestStreamed(OperatorContract):
    streamed = True

    def make(self, n, dtype, folder):
        return StreamedOperator(NET, gaussian_points(n, 4), dtype=dtype)


class TestStored(OperatorContract):
    reevaluates = False

    def make(self, n, dtype, folder):
        operator = kernel(n, dtype)
        store = TileStore.create(folder, operator, tile=16)
        store.write(operator)
        return store.operator()


@pytest.mark.filterwarnings("ignore:Panels and whole matrices:UserWarning")
class TestDistributed(OperatorContract):
    """In the only process of its job."""

    streamed = True

    def make(self, n, dtype, folder):
        return distributed.DistributedOperator(distributed._Member(kernel(n, dtype)), dtype)

    def worker(self, K):
        return K._member.operator(K.dtype)


class TestMatrix(OperatorContract):
    kept = True

    def make(self, n, dtype, folder):
        return MatrixOperator(kernel_matrix(n), dtype)


class Minimal(Operator):
    """A matrix with what the base class asks for, and nothing else."""

    symmetric = True
    device = torch.device("cpu")

    def __init__(self, matrix):
        self.matrix, self.shape, self.dtype = matrix, matrix.shape, matrix.dtype

    def tile(self, rows, cols, out=None):
        return MatrixOperator(self.matrix).tile(rows, cols, out)

    def rows(self, index):
        return MatrixOperator(self.matrix).rows(index)

    def diagonal(self):
        return self.matrix.diagonal()

    def times(self, columns):
        return torch.from_numpy(self.matrix).to(columns.dtype) @ columns

    def astype(self, dtype):
        if dtype not in ("float32", "float64"):
            raise InvalidInputError(f"expected float32 or float64, found {dtype}")
        return Minimal(self.matrix.astype(dtype))


class TestMinimal(OperatorContract):
    def make(self, n, dtype, folder):
        return Minimal(kernel_matrix(n).astype(dtype))

    def test_it_has_no_fingerprint(self, K):
        with pytest.raises(InvalidInputError, match="with a fingerprint, found Minimal"):
            K.fingerprint()


def test_what_is_missing_is_told():
    with pytest.raises(TypeError, match="abstract"):
        Operator()


@pytest.mark.parametrize("matrix", [np.ones((2, 3)), np.ones(4), np.ones((2, 2), complex)])
def test_what_is_no_matrix(matrix):
    with pytest.raises(InvalidInputError, match="square matrix of real numbers"):
        MatrixOperator(matrix)


def test_a_matrix_of_torch_gives_tensors():
    K = MatrixOperator(torch.eye(3, dtype=torch.float64))
    for found in (K.tile(slice(0, 2), slice(None)), K.rows([1]), K.diagonal(), K.to_dense()):
        assert isinstance(found, torch.Tensor)
