"""Entries of the kernel of a module between blocks of rows."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kernreg.exceptions import InvalidInputError
from kernreg.finite.empirical.costs import Costs
from kernreg.finite.empirical.jacobian import dots, jacobian, pull, push
from kernreg.finite.empirical.readers import reader
from kernreg.finite.empirical.sites import Recording, values_of
from kernreg.finite.empirical.structured import Layer, between, layers_of, within

__all__ = ["METHODS", "Block", "Entries"]

METHODS = ("structured", "jacobian", "products")

_MOST_ROWS = 512
# Of two ways to the same number in float64.
_SAME = 1e-8


@dataclass
class Block:
    """Some rows, and what is known of them: made when it is first needed."""

    X: Tensor
    recording: Recording | None = None
    rest: list[Tensor] | None = None
    outputs: Tensor | None = None


class Entries:
    """Entries between blocks of rows.

    Parameters
    ----------
    module : Module
        The module.
    params : mapping of str to Tensor
        Those that are differentiated by; empty for the nngp kernel.
    kernel, outputs, method : str
        As of :class:`~kernreg.finite.EmpiricalOperator`.
    n_outputs : int
        Numbers that leave the module for a row.
    budget : int
        Bytes of a block.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        params: Mapping[str, Tensor],
        kernel: str,
        outputs: str | int,
        n_outputs: int,
        method: str,
        budget: int,
    ) -> None:
        self.module, self.params, self.kernel = module, dict(params), kernel
        self.outputs, self.n_outputs, self.budget = outputs, n_outputs, budget
        self.wanted = {id(p) for p in self.params.values()}
        read = self._read()
        # Those whose derivatives are no products of what layers read and hand on.
        self.others = {n: p for n, p in self.params.items() if id(p) not in read}
        self._given, self._taken = method, "" if method == "auto" else method
        self._checked = False
        self._taken_sizes: tuple[int, int] | None = None

    def on(self, module: torch.nn.Module, params: Mapping[str, Tensor]) -> Entries:
        """The same of a copy of the module."""
        options = self.kernel, self.outputs, self.n_outputs, self._given, self.budget
        return Entries(module, params, *options)

    def _read(self) -> set[int]:
        found: set[int] = set()
        for layer in self.module.modules():
            known = reader(layer)
            if known is not None:
                found |= {id(p) for p in (known.weight, known.bias) if p is not None}
        return found

    @property
    def _full(self) -> bool:
        return self.outputs == "full"

    @property
    def numbers(self) -> list[int]:
        """The outputs that take part."""
        one = isinstance(self.outputs, int)
        return [int(self.outputs)] if one else list(range(self.n_outputs))

    def method(self, X: Tensor) -> str:
        """How entries are made: layer by layer if that is right, unless somebody said."""
        if not self._taken:
            self._checked = True
            self._taken = "structured" if self.agrees(X) else self._without_layers(X)
        elif self._taken == "structured" and not self._checked:
            self._checked = True
            if not self.agrees(X):
                raise InvalidInputError(
                    "the module uses weights of its layers in another way than the layers do, so "
                    "that method='structured' is wrong for it: use method='auto' or 'jacobian'."
                )
        return self._taken

    def cast(self, X: Tensor) -> Tensor:
        """Rows in the type of the module."""
        return X.to(self.like(0)) if X.is_floating_point() else X

    def _without_layers(self, X: Tensor) -> str:
        """Jacobians, or derivatives along gradients for a module that they cannot be made of."""
        X = self.cast(X[:3])
        v = torch.linspace(1.0, 2.0, self.n_outputs).to(self.like(1))
        try:
            found = [
                torch.einsum("t,ntp->p", v, j) for j in jacobian(self.module, self.params, X, None)
            ]
        except RuntimeError:
            return "products"
        exact = pull(self.module, self.params, X, v.expand(len(X), -1))
        near = [_same(a, b.flatten()) for a, b in zip(found, exact, strict=True)]
        return "jacobian" if all(near) else "products"

    def agrees(self, X: Tensor) -> bool:
        """Whether derivatives layer by layer are those of the module, along a direction.

        In float64, on the largest row, and the smallest that differs and is not zero.
        """
        size = X.flatten(1).to(torch.float64).norm(dim=1)
        order = size.argsort().tolist()
        picked = [order[-1]]
        for k in order[:-1]:
            if size[k] > 0 and not torch.equal(X[k], X[order[-1]]):
                picked.append(k)
                break
        X = X[torch.tensor(sorted(picked), device=X.device)]
        wide = copy.deepcopy(self.module).double()
        params = {n: p for n, p in wide.named_parameters() if n in self.params}
        exact_type = self.on(wide, params)
        try:
            return exact_type._right_on(X.double() if X.is_floating_point() else X)
        except RuntimeError:
            # The module differentiates on its own, or rows are mixed on the way.
            return False

    def _right_on(self, X: Tensor) -> bool:
        v = torch.linspace(1.0, 2.0, self.n_outputs).to(self.like(1))
        exact = [pull(self.module, self.params, x[None], v[None]) for x in X]
        flat = torch.stack([torch.cat([g.flatten() for g in grads]) for grads in exact])
        total = self.like(len(X)).new_zeros(len(X), len(X))
        recording = Recording(self.module, X, self.wanted)
        for layer in layers_of(recording, [v.expand(len(X), -1)]):
            total += between(layer, layer, False)
        for part in jacobian(self.module, self.others, X, None) if self.others else ():
            rest = torch.einsum("t,ntp->np", v, part)
            total += rest @ rest.T
        want = flat @ flat.T
        scale = torch.sqrt(torch.outer(want.diagonal(), want.diagonal()))
        return bool(((total - want).abs() <= _SAME * scale + _SAME * scale.max() * 1e-3).all())

    def step(self, X: Tensor) -> int:
        """Rows of a block within the budget."""
        return self._sizes(X)[0]

    def _sizes(self, X: Tensor) -> tuple[int, int]:
        """Rows of a block, and how many outputs are worked on at once."""
        if self.kernel == "ntk":
            self.method(X)
        if self._taken_sizes is None:
            fixed, each = self._row_bytes(X)
            half = self.budget // 2  # two blocks are there at once
            all_outputs = self.n_outputs if self._full else 1
            rows = int(max(1, min(_MOST_ROWS, half // max(1, fixed + all_outputs * each))))
            some = int(max(1, min(len(self.numbers), (half // rows - fixed) // max(1, each))))
            self._taken_sizes = rows, self.n_outputs if self._full else some
        return self._taken_sizes

    def costs(self, X: Tensor) -> Costs:
        """Operations for rows like these."""
        count = sum(p.numel() for p in self.params.values())
        if self.method(X) != "structured":
            run = 2.0 * count + values_of(self.module, self.cast(X[:1]))
            return Costs(run, count, len(self.numbers), self._full, self.step(X))
        recording = Recording(self.module, self.cast(X[:1]), self.wanted)
        weights = [0 if r.weight is None else r.weight.numel() for r in recording.readers()]
        places = recording.places()
        run = sum(2.0 * w * p for w, p in zip(weights, places, strict=True))
        return Costs(run + count, count, len(self.numbers), self._full, self.step(X))

    def _row_bytes(self, X: Tensor) -> tuple[int, int]:
        """Bytes for a row, and for each of its outputs that is worked on."""
        if self.kernel == "nngp":
            return 8 * X[:1].numel(), 8
        size = next(iter(self.params.values())).element_size()
        numbers = len(self.numbers)
        if self._taken in ("jacobian", "products"):
            count = sum(p.numel() for p in self.params.values())
            values = values_of(self.module, self.cast(X[:1]))
            return 3 * size * (count + values) * numbers, 0
        recording = Recording(self.module, self.cast(X[:1]), self.wanted)
        values = sum(recording.sizes())
        calls = range(len(recording))
        parts = max((next(recording.parts([k])).numel() for k in calls), default=0)
        weights = [r.weight.numel() for r in recording.readers() if r.weight is not None]
        # Jacobians by other parameters are of all outputs at once, with the values of each.
        others = sum(p.numel() for p in self.others.values())
        others += 2 * values if self.others else 0
        # A row's values are kept for its gradient, behind layers or behind nonlinearities.
        fixed = 2 * values + parts + 3 * others * numbers
        return size * fixed, size * (values + max(weights, default=0))

    def record(self, X: Tensor) -> Block:
        """Some rows."""
        return Block(X)

    def between(self, a: Block, b: Block | None, one: Tensor | None = None) -> Tensor:
        """Entries between two blocks, or of one with itself.

        Parameters
        ----------
        a, b : Block
            ``b`` is None for ``a`` itself.
        one : Tensor of shape (n1,), optional
            For outputs="full": one output of each row of ``a`` is enough.

        Returns
        -------
        Tensor of shape (n1, n2), or (n1 t, n2 t) for outputs="full"
        """
        if self.kernel == "ntk" and self.method(a.X) == "structured":
            return self._structured(a, b, one)
        if self.kernel == "nngp":
            found = self._of_values(a, a if b is None else b)
        elif self._taken == "jacobian":
            found = self._mean(_contracted(*self._jacobians(a, b, self.params), self._full))
        else:
            found = self._columns(a.X, a.X if b is None else b.X)
        if one is None:
            return found
        return found.unflatten(0, (len(a.X), -1))[torch.arange(len(one)), one]

    def _mean(self, total: Tensor) -> Tensor:
        return total / self.n_outputs if self.outputs == "mean" else total

    def _of_values(self, a: Block, b: Block) -> Tensor:
        for block in (a, b):
            if block.outputs is None:
                with torch.no_grad():
                    # A copy, as a module may change what it is given.
                    values = self.module(block.X.clone()).reshape(len(block.X), -1)
                block.outputs = values[:, self.numbers]
        assert a.outputs is not None
        assert b.outputs is not None
        if self._full:
            return a.outputs.reshape(-1, 1) @ b.outputs.reshape(1, -1)
        return self._mean(a.outputs @ b.outputs.T)

    def _jacobians(
        self, a: Block, b: Block | None, params: Mapping[str, Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        output = self.outputs if isinstance(self.outputs, int) else None
        for block in (a, b):
            if block is not None and block.rest is None:
                block.rest = jacobian(self.module, params, block.X, output)
        assert a.rest is not None
        if b is None:
            return a.rest, a.rest
        assert b.rest is not None
        return a.rest, b.rest

    def _structured(self, a: Block, b: Block | None, one: Tensor | None = None) -> Tensor:
        for block in (a, b):
            if block is not None and block.recording is None:
                block.recording = Recording(self.module, block.X, self.wanted)
        rows = self.n_outputs if self._full and one is None else 1
        columns = self.n_outputs if self._full else 1
        size = len(a.X) * rows, len((a if b is None else b).X) * columns
        total = self.like(1).new_zeros(size)  # a layer may not be used at all
        for chunk in self._chunks(a.X):
            left = self._layers(a, chunk if one is None else one)
            right = None if b is None else self._layers(b, chunk)
            for first in left:
                second = first if right is None else next(right)
                total = total + between(first, second, self._full)
        if self.others:
            own, others = self._jacobians(a, b, self.others)
            if one is not None:
                own = [j[torch.arange(len(one)), one][:, None] for j in own]
            total = total + _contracted(own, others, self._full)
        return self._mean(total.detach())

    def _chunks(self, X: Tensor) -> list[list[int]]:
        """Outputs that are worked on at once."""
        some, numbers = self._sizes(X)[1], self.numbers
        return [numbers[k : k + some] for k in range(0, len(numbers), some)]

    def _layers(self, block: Block, numbers: list[int] | Tensor) -> Iterator[Layer]:
        recording = block.recording
        assert recording is not None
        shape = recording.outputs.shape
        cotangents = []
        for s in numbers if isinstance(numbers, list) else [numbers]:
            v = recording.outputs.new_zeros(shape)
            v[torch.arange(shape[0]), s] = 1.0
            cotangents.append(v)
        return layers_of(recording, cotangents)

    def like(self, rows: int) -> Tensor:
        """Zeros in the shape and type of the outputs of so many rows."""
        first = next(self.module.parameters())
        return first.detach().new_zeros((rows, self.n_outputs))

    def _columns(self, X1: Tensor, X2: Tensor) -> Tensor:
        """Column by column: derivatives along the gradients of each output of each row."""
        columns = []
        for x in X2:
            total: Tensor | float = 0.0
            for s in self.numbers:
                v = self.like(1)
                v[0, s] = 1.0
                direction = pull(self.module, self.params, x[None], v)
                moved = push(self.module, self.params, X1, direction)
                if self._full:
                    columns.append(moved.flatten())
                else:
                    total = total + moved[:, s]
            if isinstance(total, Tensor):
                columns.append(total)
        return self._mean(torch.stack(columns, 1))

    def diagonal(self, X: Tensor) -> Tensor:
        """Of each row with itself."""
        if self.kernel == "nngp":
            block = self.record(X)
            self._of_values(block, block)
            assert block.outputs is not None
            squares = block.outputs**2
            return squares.flatten() if self._full else self._mean(squares.sum(1))
        if self.method(X) == "structured":
            block = self.record(X)
            block.recording = Recording(self.module, X, self.wanted)
            own = self.like(len(X))[:, : len(self.numbers)]
            start = 0
            for chunk in self._chunks(X):
                for layer in self._layers(block, chunk):
                    own[:, start : start + len(chunk)] += within(layer).detach()
                start += len(chunk)
            if self.others:
                own = own + self._squares(X, self.others)
        else:
            own = self._squares(X, self.params)
        return own.flatten() if self._full else self._mean(own.sum(1))

    def _squares(self, X: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        """Squares of the lengths of derivatives, of shape (n, t)."""
        output = self.outputs if isinstance(self.outputs, int) else None
        return torch.stack([(j**2).sum(2) for j in jacobian(self.module, params, X, output)]).sum(0)


def _same(found: Tensor, exact: Tensor) -> bool:
    error = (found - exact).abs().max()
    return bool(error <= 1e4 * torch.finfo(exact.dtype).eps * exact.abs().max())


def _contracted(left: list[Tensor], right: list[Tensor], full: bool) -> Tensor:
    """Jacobians of shape (n, t, p), summed over outputs or each with each."""

    def rows(part: Tensor) -> Tensor:
        return part.flatten(0, 1) if full else part.flatten(1)

    return torch.stack([dots(rows(a), rows(b)) for a, b in zip(left, right, strict=True)]).sum(0)
