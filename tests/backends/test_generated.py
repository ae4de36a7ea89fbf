"""What generated backends prepare on a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernreg import nn
from kernreg.backends import generated
from kernreg.backends.base import Request
from kernreg.backends.generated import GeneratedBound
from kernreg.exceptions import MemoryBudgetError
from kernreg.operators import outputs
from tests.backends.compare import rows

NET = nn.mlp(depth=2, b_std=0.1)


def request(n: int = 9, m: int | None = None) -> Request:
    X1, X2 = torch.from_numpy(rows(n)), None if m is None else torch.from_numpy(rows(m, seed=1))
    return Request(NET.program(), X1, X2, np.dtype(np.float64))


def no_memory(*args: object, **kwargs: object) -> torch.Tensor:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory")


def test_rows_and_columns_of_a_symmetric_matrix_share_their_units() -> None:
    """But not their tables: columns have slots of their own."""
    bound = GeneratedBound(request())
    assert bound.rows.units.data_ptr() == bound.columns.units.data_ptr()
    assert torch.linalg.vector_norm(bound.rows.units, dim=1).sub(1).abs().max() <= 4e-16
    assert bound.rows.part(2, 5).table.data_ptr() == bound.rows.table[:, 2:].data_ptr()


def test_the_diagonal_of_different_data_lies_beyond_the_last_column() -> None:
    symmetric, other = GeneratedBound(request()), GeneratedBound(request(9, 4))
    assert symmetric.sizes(symmetric.rows, symmetric.columns, -3)[:4] == (9, 9, 5, -3)
    assert other.sizes(other.rows, other.columns, -3)[:4] == (9, 4, 5, 4)


def test_too_little_memory_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated.R, "unit_rows", no_memory)
    with pytest.raises(MemoryBudgetError, match=r"Rows and tables of 13 points .* use fewer rows"):
        GeneratedBound(request(9, 4))


def test_too_little_memory_for_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty", no_memory)
    with pytest.raises(MemoryBudgetError, match=r"shape \(5, 7\) does not fit .* KernelOperator"):
        outputs.as_output(None, (5, 7), np.dtype(np.float32), torch.device("cuda"))
    with pytest.raises(MemoryBudgetError, match=r"does not fit the free memory of cpu"):
        outputs.as_output(None, (2**40, 2**18), np.dtype(np.float32), torch.device("cpu"))
