"""A spatial program bound to images."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.base import Bound, Part, Request
from kernreg.backends.planes.job import (
    ALL_PAIRS,
    LOWER_PAIRS,
    SAME_IMAGE,
    Engine,
    Tables,
    tables_of,
)
from kernreg.backends.planes.stages import Unsupported, plan
from kernreg.backends.planes.tail import Covariance, Tail
from kernreg.backends.planes.translate import Block, Translator
from kernreg.backends.reference import Evaluated, PairState
from kernreg.backends.tiles import Machine
from kernreg.backends.torch_backend import ReferenceBackend
from kernreg.exceptions import BackendError, BackendWarning
from kernreg.ir import operations as ir
from kernreg.ir.program import Program

__all__ = ["PlanesBound", "unsupported"]

_TABLE_BYTES = 2**25
"""Of the tables of a block of images."""
_KEPT_BYTES = 2**29
_MOST_IMAGES = 256
# Gaps between images, and ratios of their lengths, at which a pair is left to float64: of gaps
# beyond, an error of 1e-7 is one of 5e-6 in what a kink hands on.
_CLOSE, _APART = 1e-4, 16.0
_SAMPLE = 3
# Each layer adds to the tangent kernel, whose last digit in float32 then counts: 3e-8 a layer.
_MOST_LAYERS = 160
# Lengths of images that differ by more are not left to float32.
_SPREAD = 1e6
# Variances further from their unit are not left to float32.
_RANGE = 1e16


def unsupported(program: Program) -> str | None:
    """Why planes cannot run a program that says of which shape its images are; None if they can."""
    assert program.shape is not None
    try:
        plan(program, program.shape[:-1])
    except Unsupported as reason:
        return str(reason)
    return None


class PlanesBound:
    """Images are prepared block by block, when pairs of them are asked for.

    Parameters
    ----------
    request : Request
        What is wanted.
    machine : Machine
        What the extension offers.
    run : callable
        Its function for planes.
    """

    def __init__(self, request: Request, machine: Machine, run: Callable[..., None]) -> None:
        assert request.program.shape is not None
        *sizes, channels = request.program.shape
        self._params, self._symmetric = request.program.params, request.symmetric
        data = [request.X1] if request.X2 is None else [request.X1, request.X2]
        self._images = [X.reshape(len(X), *sizes, channels) for X in data]
        try:
            self._plan = plan(request.program, tuple(sizes))
        except Unsupported as reason:
            raise BackendError(str(reason)) from None
        self._tail, self._machine = Tail(self._plan, self._params), machine
        self._sizes: dict[int, float] = {}
        self._terms: dict[int, int] = {}
        self._prepared: OrderedDict[tuple[int, int], Tables] = OrderedDict()
        self._request, self._run = request, run
        self._reference: Bound | None = None
        self._own: dict[tuple[int, int], tuple[list[R.Row], Tensor]] = {}
        sample = torch.cat([_some(X) for X in self._images]).to(torch.float64)
        self.arithmetic = self._choose(sample, request.dtype)
        # Pools take distances within images from those between them.
        pools = any(isinstance(op, ir.Mix) and op.shared is not None for op in self._plan.ops)
        landed = len(self._plan.grids) > 1 or not self._tail.linear
        self._subtracts = pools and landed and self.arithmetic == np.float32
        self._exact: PlanesBound | None = None
        self._check_range()

    def _choose(self, sample: Tensor, wanted: np.dtype) -> np.dtype:
        """The arithmetic, units near the variances of some images, and the length of blocks."""
        wide, run = np.dtype(np.float64), self._run
        self._engine = Engine(self._plan, wide, run)
        survey = len(self._plan.grids) == 1  # else pools within images are worked out on the way
        found = self._translate(sample, wide, {}, survey)
        self._sizes = {key: max(top, 1e-300) for key, (top, _) in found.seen.items()}
        slots = found.left_out * self._plan.grids[0].table
        slots += sum(max(map(len, s.tables)) * s.grid.table for s in found.block.stages)
        self._step = max(1, min(_MOST_IMAGES, _TABLE_BYTES // (8 * slots)))
        if np.dtype(wanted) == wide or _layers(self._plan.ops) > _MOST_LAYERS:
            return wide
        size = sample.flatten(1).norm(dim=1)
        if float(size.max()) > _SPREAD * float(size[size > 0].min() if bool(size.any()) else 1.0):
            return wide
        self._engine = Engine(self._plan, np.dtype(np.float32), run)
        return np.dtype(np.float32)

    def _check_range(self) -> None:
        """Look at the block of the largest image: what would overflow goes to float64, or fails."""
        norms = [X.flatten(1).norm(dim=1, dtype=torch.float64) for X in self._images]
        side = max(range(len(norms)), key=lambda k: float(norms[k].max()))
        image = int(norms[side].argmax())
        start = image // self._step * self._step
        tables = self._block(side, start)
        if self.arithmetic == np.float32 and not all(
            1 / _RANGE < top < _RANGE for _, top in tables.seen.values() if top > 0
        ):
            self.arithmetic, self._subtracts = np.dtype(np.float64), False
            self._engine = Engine(self._plan, self.arithmetic, self._run)
            self._prepared.clear()
            tables = self._block(side, start)
        one = slice(image - start, image - start + 1)
        own = self._engine.readouts(tables, tables, [one.start, one.stop] * 2, SAME_IMAGE)
        row = self._tail.rows(self._states(tables, own, one))
        first = R.Row(norms[side][image : image + 1], row.tau)
        R.check_range(row, self._request.dtype, first, self._request.kernels)

    def _translate(
        self, X: Tensor, dtype: np.dtype, terms: dict[int, int], survey: bool = False
    ) -> Translator:
        def within(block: Block, stage: int, slot: int) -> NDArray[np.float64]:
            return self._engine.within(tables_of(block, {}, len(X), dtype), stage, slot)

        t = Translator(
            self._params,
            self._plan,
            self._machine,
            self._sizes,
            terms,
            within,
            np.dtype(dtype),
            survey=survey,
        )
        with np.errstate(all="ignore"):
            t.run(self._plan.ops, t.images(X))
        return t

    def _tables(self, X: Tensor) -> Tables:
        t = self._translate(X, self.arithmetic, self._terms)
        return tables_of(t.block, t.seen, len(X), self.arithmetic)

    def _block(self, side: int, start: int) -> Tables:
        """The block of images that begins there, for a while kept."""
        key = (side, start)
        if key not in self._prepared:
            terms = dict(self._terms)
            X = self._images[side][start : start + self._step].to(torch.float64)
            made = self._tables(X)
            if terms != self._terms:  # series became longer: blocks must have the same
                self._prepared.clear()
            self._prepared[key] = made
        self._prepared.move_to_end(key)
        while (
            len(self._prepared) > 2 and sum(t.nbytes for t in self._prepared.values()) > _KEPT_BYTES
        ):
            self._prepared.popitem(last=False)
        return self._prepared[key]

    def _pair(self, rows: tuple[int, int], cols: tuple[int, int]) -> tuple[Tables, Tables]:
        """Two blocks, whose series have the same lengths."""
        first = self._block(*rows)
        second = self._block(*cols)
        if rows not in self._prepared:
            first = self._block(*rows)
        return first, second

    def _states(
        self, tables: Tables, own: NDArray[np.float64], images: slice = slice(None)
    ) -> list[R.Row]:
        """States of images at the readouts, from those of each with itself."""
        found = []
        for k, r in enumerate(tables.block.readouts):
            square = r.sums[images] - 0.5 * torch.from_numpy(own[:, k, 0]) * r.shared
            s = torch.sqrt(torch.clamp(square, min=0.0))
            trained = 0.5 * torch.from_numpy(own[:, k, 1])
            found.append(R.Row(s, R.ratio(trained, s * s, 0.0)))
        return found

    def _own_states(self, side: int, start: int, stop: int) -> tuple[list[R.Row], list[Tensor]]:
        """States of some images of a side at the readouts, and distances within each.

        The price of a pair for each image of their blocks, once.
        """
        rows: list[list[R.Row]] = []
        within: list[Tensor] = []
        for i, j in self._blocks(side, start, stop):
            first = i // self._step * self._step
            if (side, first) not in self._own:
                tables = self._block(side, first)
                part = [0, min(self._step, len(self._images[side]) - first)] * 2
                own = self._engine.readouts(tables, tables, part, SAME_IMAGE)
                lost = torch.from_numpy(own[:, :, 0]).clone()
                self._own[side, first] = self._states(tables, own), lost
            states, lost = self._own[side, first]
            rows.append([_part(state, i - first, j - first) for state in states])
            within.append(lost[i - first : j - first])
        found = [
            R.Row(torch.cat([p[k].s for p in rows]), torch.cat([p[k].tau for p in rows]))
            for k in range(len(rows[0]))
        ]
        return found, list(torch.cat(within).T)

    def _blocks(self, side: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Pieces between multiples of the length of blocks."""
        while start < stop:
            end = min(stop, (start // self._step + 1) * self._step)
            yield start, end
            start = end

    def diagonal(self, kernel: str) -> NDArray[np.float64]:
        """The kernel of each image with itself."""
        try:
            return self._diagonal(kernel, 0, len(self._images[0]))
        except BackendError as reason:
            return self._instead(reason).diagonal(kernel)

    def _diagonal(self, kernel: str, start: int, stop: int) -> NDArray[np.float64]:
        rows = self._tail.rows(self._own_states(0, start, stop)[0])
        return R.diagonal(rows, kernel).numpy()

    def fill(self, part: Part, out: Mapping[str, Tensor]) -> None:
        """Write a part for each kernel named in ``out``."""
        try:
            self._fill(part, out)
        except BackendError as reason:
            self._instead(reason).fill(part, out)

    def _instead(self, reason: BackendError) -> Bound:
        """The reference, for images that no series serves: they are seen block by block."""
        if self._reference is None:
            warnings.warn(
                f"The slow reference backend is used: {reason}.", BackendWarning, stacklevel=3
            )
            self._reference = ReferenceBackend().bind(self._request)
        return self._reference

    def _fill(self, part: Part, out: Mapping[str, Tensor]) -> None:
        n2 = len(self._images[-1])
        part.check(len(self._images[0]), n2, out)
        for i0, i1 in self._blocks(0, part.i0, part.i1):
            for j0, j1 in self._blocks(-1, part.j0, part.j1):
                tile = self._tile(i0, i1, j0, j1)
                for kernel, target in out.items():
                    to = target[i0 - part.i0 : i1 - part.i0, j0 - part.j0 : j1 - part.j0]
                    to.copy_(tile[kernel])
        low, high = max(part.i0, part.j0), min(part.i1, part.j1)
        if self._symmetric and low < high:
            k = torch.arange(low, high)
            for kernel, target in out.items():
                diagonal = torch.from_numpy(self._diagonal(kernel, low, high))
                target[k - part.i0, k - part.j0] = diagonal.to(target.dtype)

    def _tile(self, i0: int, i1: int, j0: int, j1: int) -> dict[str, Tensor]:
        """Entries of two blocks; of a symmetric matrix worked out below the diagonal."""
        if not self._symmetric:
            return self._between(i0, i1, j0, j1, ALL_PAIRS)
        parts = []
        if j0 < min(j1, i0):
            parts.append(self._between(i0, i1, j0, min(j1, i0), ALL_PAIRS))
        low, high = max(j0, i0), min(j1, i1)
        if low < high:
            square = self._between(i0, i1, i0, i1, LOWER_PAIRS)
            lower = {k: torch.tril(v, -1) for k, v in square.items()}
            parts.append({k: (v + v.T)[:, low - i0 : high - i0] for k, v in lower.items()})
        if max(j0, i1) < j1:
            mirrored = self._between(max(j0, i1), j1, i0, i1, ALL_PAIRS)
            parts.append({k: v.T for k, v in mirrored.items()})
        return {k: torch.cat([p[k] for p in parts], dim=1) for k in parts[0]}

    def _between(self, i0: int, i1: int, j0: int, j1: int, mode: int) -> dict[str, Tensor]:
        """Both kernels of some images of two blocks; where float32 has too few digits in float64.

        Distances lose the angle of images that are nearly parallel, unless they are nearly equal
        and no pool takes distances within images from those between them; and what is left of a
        small image beside a large one.
        """
        out = self._worked_out(i0, i1, j0, j1, mode)
        if self.arithmetic == np.float64:
            return out
        a = self._images[0][i0:i1].flatten(1).to(torch.float64)
        b = self._images[-1][j0:j1].flatten(1).to(torch.float64)
        p, q = a.norm(dim=1)[:, None], b.norm(dim=1)[None, :]
        unequal = torch.maximum(p, q) > 1.01 * torch.minimum(p, q)
        parallel = (a @ b.T).abs() > (1.0 - _CLOSE) * p * q
        doubtful = parallel & (unequal | self._subtracts)
        doubtful |= torch.maximum(p, q) > _APART * torch.minimum(p, q)
        doubtful &= (p > 0) & (q > 0)
        if mode == LOWER_PAIRS:
            doubtful = torch.tril(doubtful, -1)
        if not bool(doubtful.any()):
            return out
        exact = self._in_float64()
        if float(doubtful.double().mean()) > 0.1:
            wide = exact._worked_out(i0, i1, j0, j1, mode)
            return {k: torch.where(doubtful, wide[k], v) for k, v in out.items()}
        for i, j in torch.nonzero(doubtful).tolist():
            one = exact._worked_out(i0 + i, i0 + i + 1, j0 + j, j0 + j + 1, ALL_PAIRS)
            for kernel, values in out.items():
                values[i, j] = one[kernel][0, 0]
        return out

    def _in_float64(self) -> PlanesBound:
        """The same program on the same images in float64."""
        if self._exact is None:
            made = PlanesBound.__new__(PlanesBound)
            made.__dict__.update(self.__dict__)
            made._engine = Engine(self._plan, np.dtype(np.float64), self._run)
            made.arithmetic, made._subtracts = np.dtype(np.float64), False
            made._terms, made._prepared = {}, OrderedDict()
            made._own = {}
            self._exact = made
        return self._exact

    def _worked_out(self, i0: int, i1: int, j0: int, j1: int, mode: int) -> dict[str, Tensor]:
        """Both kernels of some images of two blocks."""
        side = 0 if self._symmetric else 1
        first, second = i0 // self._step * self._step, j0 // self._step * self._step
        rows, cols = self._pair((0, first), (side, second))
        part = [i0 - first, i1 - first, j0 - second, j1 - second]
        found = self._engine.readouts(rows, cols, part, mode)
        found = found.reshape(i1 - i0, j1 - j0, -1, 2)
        if self._tail.linear:
            given = []
            for k, (r, c) in enumerate(zip(rows.block.readouts, cols.block.readouts, strict=True)):
                sums = r.sums[part[0] : part[1], None] + c.sums[None, part[2] : part[3]]
                distance, trained = (torch.from_numpy(found[:, :, k, m]) for m in (0, 1))
                # An image of zeros meets nothing.
                gone = (r.sums[part[0] : part[1], None] == 0) | (
                    c.sums[None, part[2] : part[3]] == 0
                )
                k2 = torch.where(gone, 0.0, sums - distance)
                given.append(Covariance(0.5 * k2, torch.where(gone, 0.0, 0.5 * trained)))
            out = self._tail.covariance(given)
            return {"nngp": out.k, "ntk": out.t}
        own1, lost1 = self._own_states(0, i0, i1)
        own2, lost2 = self._own_states(side, j0, j1)
        pairs = []
        for k, r in enumerate(rows.block.readouts):
            distance, trained = (torch.from_numpy(found[:, :, k, m]) for m in (0, 1))
            if r.shared:
                distance = distance - 0.5 * (lost1[k][:, None] + lost2[k][None])
            pairs.append(_evaluated(distance, trained, own1[k], own2[k]))
        pair, row = self._tail.pairs(pairs, i1 - i0)
        scale = row.s[: i1 - i0, None] * row.s[None, i1 - i0 :]
        return {"nngp": scale * pair.rho, "ntk": scale * pair.tau}


def _evaluated(distance: Tensor, trained: Tensor, a: R.Row, b: R.Row) -> Evaluated:
    """Squares of distances and twice the tangent kernels as correlations."""
    s, t = a.s[:, None], b.s[None, :]
    twice = 2.0 * s * t
    below = R.ratio(torch.clamp(distance - (s - t) ** 2, min=0.0), twice, 1.0).clamp(max=2.0)
    pair = PairState.from_gaps(below, 2.0 - below, R.ratio(trained, twice, 0.0))
    return Evaluated(pair, R.Row(torch.cat([a.s, b.s]), torch.cat([a.tau, b.tau])))


def _layers(ops: tuple[ir.Op, ...]) -> int:
    """Nonlinearities, those of all turns of loops."""
    return sum(
        op.count * _layers(op.body) if isinstance(op, ir.Repeat) else isinstance(op, ir.Apply)
        for op in ops
    )


def _part(row: R.Row, start: int, stop: int) -> R.Row:
    return R.Row(row.s[start:stop], row.tau[start:stop])


def _some(X: Tensor) -> Tensor:
    """A few images: the first one, the largest and the smallest that is not dark."""
    size = torch.linalg.vector_norm(X.flatten(1), dim=1, dtype=torch.float64)
    small = torch.where(size > 0, size, torch.inf).argmin()
    return X[torch.unique(torch.stack([torch.tensor(0), size.argmax(), small]))]
