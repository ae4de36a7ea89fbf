"""Operators over an explicit matrix that define what the base class asks for, and count."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from kernreg.operators import Operator


class DenseOperator(Operator):
    """Serves tiles of a float64 matrix, rounded to ``dtype``; counts the panels it serves."""

    symmetric = True
    streamed = True
    device = torch.device("cpu")

    def __init__(self, matrix, dtype="float64"):
        self.matrix = np.asarray(matrix, dtype=np.float64)
        self.shape = self.matrix.shape
        self.dtype = np.dtype(dtype)
        self.panels = 0

    def __repr__(self):
        return f"{type(self).__name__} {self.shape}"

    def fingerprint(self):
        return hashlib.sha256(np.ascontiguousarray(self.matrix).data).hexdigest()

    def lower_panel(self, i0, i1, out=None):
        out = np.empty((i1 - i0, i1), dtype=self.dtype) if out is None else out
        assert out.shape == (i1 - i0, i1)
        assert out.flags.c_contiguous
        assert out.dtype == self.dtype
        self.panels += 1
        out[...] = self.matrix[i0:i1, :i1]
        return out

    def tile(self, rows, cols, out=None):
        if out is None:
            return self.matrix[rows, cols].astype(self.dtype)
        assert out.dtype == self.dtype
        out[...] = self.matrix[rows, cols]
        return out

    def rows(self, index):
        out = np.empty((len(index), self.shape[1]), dtype=self.dtype)
        self.tile(np.asarray(index), slice(None), out)
        return out

    def part(self, rows, columns, out=None):
        block = self.matrix[rows][:, columns].astype(self.dtype)
        if out is None:
            return block
        out[...] = block
        return out

    def take(self, index):
        return DenseOperator(self.matrix[index][:, index], self.dtype)

    def times(self, columns):
        return torch.from_numpy(self.to_dense()).to(columns.dtype) @ columns

    def diagonal(self):
        return self.matrix.diagonal().astype(self.dtype)

    def to_dense(self, out=None):
        if out is None:
            return self.matrix.astype(self.dtype)
        out[...] = self.matrix
        return out

    def astype(self, dtype):
        return DenseOperator(self.matrix, dtype)


class PointOperator(DenseOperator):
    """The kernel (1 + <x, x'>/d)^2 from its points: tiles are computed, never stored."""

    def __init__(self, X, dtype="float64"):
        self.X = np.asarray(X)
        self.shape = (len(X), len(X))
        self.dtype = np.dtype(dtype)
        self.panels = 0

    def lower_panel(self, i0, i1, out=None):
        self.panels += 1
        return self.tile(slice(i0, i1), slice(0, i1), out)

    def tile(self, rows, cols, out=None):
        X = self.X.astype(self.dtype, copy=False)
        out = np.empty((len(X[rows]), len(X[cols])), dtype=self.dtype) if out is None else out
        np.matmul(X[rows], X[cols].T, out=out)
        out /= X.shape[1]
        out += 1
        return np.multiply(out, out, out=out)

    def to_dense(self, out=None):
        out = np.empty(self.shape, dtype=self.dtype) if out is None else out
        self.lower_panel(0, len(out), out)
        return out

    def part(self, rows, columns, out=None):
        shape = len(self.X[rows]), len(self.X[columns])
        out = np.empty(shape, dtype=self.dtype) if out is None else out
        self.tile(rows, columns, out)
        return out

    def take(self, index):
        return PointOperator(self.X[index], self.dtype)

    def diagonal(self):
        return ((1 + np.sum(self.X**2, axis=1) / self.X.shape[1]) ** 2).astype(self.dtype)

    def fingerprint(self):
        return hashlib.sha256(np.ascontiguousarray(self.X).data).hexdigest()

    def astype(self, dtype):
        return PointOperator(self.X, dtype)


class WatchedOperator(DenseOperator):
    """Notes how many columns each product has, also those of its copies in other types."""

    def __init__(self, matrix, dtype="float64", widths=None):
        super().__init__(matrix, dtype)
        self.widths = [] if widths is None else widths

    def times(self, columns):
        self.widths.append(columns.shape[1])
        return super().times(columns)

    def astype(self, dtype):
        return WatchedOperator(self.matrix, dtype, self.widths)
