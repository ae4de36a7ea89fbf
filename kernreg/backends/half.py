"""Products with a symmetric matrix of which the lower half is kept, by the C++ engine."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from kernreg import config
from kernreg.backends.cpu import instruction_set, load_extension

__all__ = ["multiplies", "multiply_half"]

# More vectors than these are faster as a product of matrices.
_VECTORS = 16


def multiplies(lines: Tensor) -> bool:
    """Whether the engine multiplies vectors of shape (t, n), and is the faster way for so many."""
    return lines.is_cpu and len(lines) <= _VECTORS and load_extension()[0] is not None


def multiply_half(panels: Iterable[tuple[int, Tensor]], lines: Tensor) -> Tensor:
    """What panels, and by symmetry their columns, give to ``lines @ K``.

    Parameters
    ----------
    panels : iterable of (int, Tensor)
        A first row ``i0``, and the rows from there on up to and including the square on the
        diagonal, of shape (rows, i0 + rows); float32 or float64.
    lines : Tensor of shape (t, n)
        Vectors.

    Returns
    -------
    Tensor of shape (t, n)
        In float64, in which all sums are; the same on any number of threads.
    """
    engine, _ = load_extension()
    assert engine is not None
    # The imaginary part of a conjugate counts as contiguous, and is negated when it is read.
    source = lines.to(torch.float64).contiguous().resolve_neg()
    total = torch.zeros_like(source)
    for i0, panel in panels:
        arrays = panel.numpy(), i0, source.numpy(), total.numpy()
        engine.multiply_half(instruction_set(), *arrays, config.num_threads())
    return total
