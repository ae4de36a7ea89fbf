"""What backends promise of every matrix, as tests to inherit; a subclass sets ``backend``.

A part is worked out from the same numbers wherever it is cut, but sums of inner products may be
ordered otherwise: entries move by rounding, 200 units are far above what five terms add up to.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernreg import nn
from kernreg.backends.base import Backend, Bound, Part, Request
from kernreg.exceptions import InvalidInputError
from tests.backends.compare import KERNELS, hard_rows, rows

EPS = np.finfo(np.float64).eps
NET = nn.serial(nn.Dense(1.3, 0.2), nn.Relu(), nn.Dense(), nn.Gelu(), nn.Dense(0.9, 0.1))


class BackendContract:
    backend: Backend
    device = "cpu"
    elsewhere: str | None = "meta"
    dtypes = ("float64", "float32")

    def bind(self, X1, X2=None, net=NET, dtype="float64") -> Bound:
        data = [None if X is None else torch.as_tensor(X).to(self.device) for X in (X1, X2)]
        return self.backend.bind(Request(net.program(), *data, np.dtype(dtype), exact=True))

    def room(self, n1, n2, dtype="float64") -> torch.Tensor:
        kind = getattr(torch, dtype)
        return torch.full((n1, n2), torch.nan, dtype=kind, device=self.device)

    def fill(self, bound, part, kernels=KERNELS, dtype="float64"):
        out = {k: self.room(part.i1 - part.i0, part.j1 - part.j0, dtype) for k in kernels}
        bound.fill(part, out)
        return {k: v.cpu().numpy() for k, v in out.items()}

    def whole(self, X1, X2=None, **options):
        n1, n2 = len(X1), len(X1 if X2 is None else X2)
        dtype = options.get("dtype", "float64")
        return self.fill(self.bind(X1, X2, **options), Part(0, n1, 0, n2), dtype=dtype)

    def test_symmetric_to_the_last_bit(self):
        for dtype in self.dtypes:
            for X in (rows(), hard_rows()):
                bound = self.bind(X, dtype=dtype)
                found = self.fill(bound, Part(0, len(X), 0, len(X)), dtype=dtype)
                for kernel, K in found.items():
                    np.testing.assert_array_equal(K, K.T)
                    diagonal = bound.diagonal(kernel).astype(dtype)
                    np.testing.assert_array_equal(np.diag(K), diagonal)

    def test_other_rows_than_columns(self):
        X = rows(9)
        whole, block = self.whole(X), self.whole(X[:4], X[4:])
        for kernel in KERNELS:
            scale = np.abs(whole[kernel]).max()
            close = {"rtol": 0, "atol": 200 * EPS * scale}
            np.testing.assert_allclose(block[kernel], whole[kernel][:4, 4:], **close)

    def test_parts_of_the_whole(self):
        X = rows(9)
        bound, whole = self.bind(X), self.whole(X)
        for part in (Part(0, 4, 0, 9), Part(3, 9, 2, 7), Part(8, 9, 8, 9), Part(0, 9, 0, 1)):
            found = self.fill(bound, part)
            for kernel in KERNELS:
                want = whole[kernel][part.i0 : part.i1, part.j0 : part.j1]
                scale = np.abs(whole[kernel]).max()
                np.testing.assert_allclose(found[kernel], want, rtol=0, atol=200 * EPS * scale)

    def test_one_kernel_is_the_same_as_both(self):
        X = rows(7)
        bound, both = self.bind(X), self.whole(X)
        for kernel in KERNELS:
            alone = self.fill(bound, Part(0, 7, 0, 7), (kernel,))
            np.testing.assert_array_equal(alone[kernel], both[kernel])

    def test_one_row(self):
        found, whole = self.whole(rows(9)[:1]), self.whole(rows(9))
        for kernel in KERNELS:
            np.testing.assert_allclose(found[kernel], whole[kernel][:1, :1], rtol=200 * EPS)

    def test_nothing_is_wanted(self):
        bound = self.bind(rows())
        for part in (Part(2, 2, 0, 9), Part(0, 9, 5, 5), Part(9, 9, 9, 9)):
            found = self.fill(bound, part)
            assert all(K.size == 0 for K in found.values())

    def test_rows_in_memory_as_they_come(self):
        X, whole = rows(), self.whole(rows())
        wide = torch.as_tensor(np.repeat(X, 2, axis=1)).to(self.device)[:, ::2]
        columns = torch.as_tensor(np.ascontiguousarray(X.T)).to(self.device).T
        for data in (wide, columns):
            assert not data.is_contiguous()
            for kernel, K in self.whole(data).items():
                np.testing.assert_array_equal(K, whole[kernel])

    def test_nothing_beside_the_part_is_touched(self):
        bound, whole = self.bind(rows()), self.whole(rows())
        frame = self.room(15, 20)
        bound.fill(Part(0, 9, 0, 9), {"ntk": frame[3:12, 5:14]})
        found = frame.cpu().numpy()
        np.testing.assert_array_equal(found[3:12, 5:14], whole["ntk"])
        assert np.isnan(found).sum() == 15 * 20 - 81

    @pytest.mark.parametrize("part", [(0, 10, 0, 9), (-1, 3, 0, 9), (4, 2, 0, 9), (0, 9, 0, 10)])
    def test_parts_beyond_the_matrix(self, part):
        bound = self.bind(rows())
        with pytest.raises(InvalidInputError, match="expected a part of a 9 x 9 matrix"):
            bound.fill(Part(*part), {"ntk": self.room(9, 9)})

    def test_room_that_does_not_fit(self):
        bound = self.bind(rows())
        for out in (self.room(8, 9), self.room(9, 18)[:, ::2], self.room(9, 9).T):
            with pytest.raises(InvalidInputError, match=r"expected room of shape \(9, 9\)"):
                bound.fill(Part(0, 9, 0, 9), {"nngp": out})

    def test_a_device_that_it_does_not_compute_on(self):
        if self.elsewhere is not None:
            assert self.backend.supports(NET.program(), torch.device(self.elsewhere))

    def test_name(self):
        from kernreg.backends.registry import BACKENDS

        assert type(BACKENDS[self.backend.name]) is type(self.backend)
