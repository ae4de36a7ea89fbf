"""A nonlinearity without closed form, by Hermite coefficients per row or a series in the angle."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kernreg.backends.cuda.source import CudaWriter
from kernreg.backends.rows import Row
from kernreg.backends.statements import CUDA, TRITON, Instruction
from kernreg.backends.tiles import State, Translator
from kernreg.backends.triton.source import TritonWriter
from kernreg.exceptions import BackendError
from kernreg.ir.pair import Dual
from kernreg.numerics.angle import AngleSeries
from kernreg.numerics.hermite import parity
from kernreg.numerics.octaves import coefficients_at

__all__ = ["inverse", "write_expansion"]


def write_expansion(
    t: Translator,
    expansion: int | AngleSeries | None,
    fn: Dual,
    x: State,
    after: Row,
    dot: Tensor,
    dst: int,
) -> None:
    """Write the instruction and the tables of a nonlinearity.

    Parameters
    ----------
    t : Translator
        Takes them.
    expansion : int or AngleSeries or None
        Length of the Hermite series, or a series in the angle.
    fn : Dual
        The nonlinearity.
    x : State
        What it is applied to.
    after : Row
        Rows behind it.
    dot : Tensor
        The factor that it puts on ``tau`` of rows.
    dst : int
        Where the result goes.
    """
    if expansion is None:
        raise BackendError(t.analysis.reason or "no series")
    write = _angles if isinstance(expansion, AngleSeries) else _series
    write(t, expansion, fn, x, after, dot, dst)  # type: ignore[arg-type]


def _series(
    t: Translator, terms: int, fn: Dual, x: State, after: Row, dot: Tensor, dst: int
) -> None:
    t.emit("series", dst, x.slot, c=t.constants([parity(fn)]), n=terms)
    coefficients = coefficients_at(fn, x.row.s, terms)
    orders = torch.arange(terms, dtype=torch.float64)
    columns = coefficients * inverse(after.s)[:, None]
    slope = (columns * columns) @ orders
    t.both(torch.cat([columns.T, _share(dot, slope)[None]]))


def _angles(
    t: Translator, series: AngleSeries, fn: Dual, x: State, after: Row, dot: Tensor, dst: int
) -> None:
    _, terms, nodes, _ = series.coefficients.shape
    start = t.constants([parity(fn), *series.coefficients.ravel().tolist()])
    t.emit("angles", dst, x.slot, b=nodes, c=start, n=terms)
    parallel = series.coefficients[1].sum(axis=0)  # all T_m are 1 at angle 0
    s, at = np.unique(x.row.s.numpy(), return_inverse=True)
    weights = series.weights(s)
    slope = torch.from_numpy(((weights @ parallel) * weights).sum(axis=1)[at])
    columns = np.concatenate([weights, weights @ series.embedding.T], axis=1)[at].T
    columns = columns * (after.s > 0).numpy()
    t.both(torch.cat([torch.from_numpy(columns), _share(dot, slope)[None]]))


def inverse(s: Tensor) -> Tensor:
    """``1 / s``, and 0 where nothing is left of a row."""
    return torch.where(s < 1e-300, 0.0, 1.0 / s)


def _share(wanted: Tensor, found: Tensor) -> Tensor:
    """Root of the factor that makes the derivative of a row with itself what it is for rows."""
    return torch.where(found > 0, torch.sqrt(wanted / found), 1.0)


@TRITON.of("series")
def _triton_series(w: TritonWriter, i: Instruction) -> None:
    w.comment("Nonlinearity by its Hermite coefficients")
    w.call(i.dst, "series", w.state(i.a), f"consts + {i.c}", w.tables(i.x, i.y), str(i.n))


@TRITON.of("angles")
def _triton_angles(w: TritonWriter, i: Instruction) -> None:
    w.comment("Nonlinearity by a series in the angle")
    width = max(16, 1 << (i.b - 1).bit_length())
    args = [w.state(i.a), f"arc(gap{i.a})", f"consts + {i.c}", w.tables(i.x, i.y)]
    w.call(i.dst, "angles", *args, f"{i.n}", f"{i.b}", f"{width}")


@TRITON.of("profile")
def _triton_profile(w: TritonWriter, i: Instruction) -> None:
    w.comment("Many layers as a series in the angle")
    angle = f"rho{i.a}, gap{i.a}, arc(gap{i.a})"
    w.call(i.dst, "profile", angle, f"consts + {i.c}", f"{i.n}")


@CUDA.of("series")
def _cuda_series(w: CudaWriter, i: Instruction) -> None:
    w.call(i.dst, "series_step", w.state(i.a), w.tables(i.x, i.y), f"consts[{i.c}]", f"{i.n}")


@CUDA.of("angles")
def _cuda_angles(w: CudaWriter, i: Instruction) -> None:
    args = [w.state(i.a), w.tables(i.x, i.y), f"consts + {i.c}", f"{i.n}", f"{i.b}"]
    w.call(i.dst, "angles_step", *args)


@CUDA.of("profile")
def _cuda_profile(w: CudaWriter, i: Instruction) -> None:
    w.call(i.dst, "profile_step", w.state(i.a), f"consts + {i.c}", f"{i.n}")
