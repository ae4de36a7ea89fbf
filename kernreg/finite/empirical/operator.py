"""The kernel matrix of a torch module, as an operator."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from kernreg.exceptions import InvalidInputError
from kernreg.finite.empirical.checks import chosen, frozen, rows_of, run_on
from kernreg.finite.empirical.entries import METHODS, Entries
from kernreg.finite.empirical.products import along
from kernreg.operators.base import Rows
from kernreg.operators.budget import memory_budget
from kernreg.operators.fingerprint import Side, fingerprint
from kernreg.operators.inputs import common_dtype
from kernreg.operators.outputs import KINDS, as_output
from kernreg.operators.parts import Parts, bounds, row_numbers

__all__ = ["EmpiricalOperator"]

_KERNELS = ("ntk", "nngp")
# Memory of one block of rows if nobody says more.
_BYTES = 10**9


class EmpiricalOperator(Parts):
    """Kernel matrix of a torch module at its parameters as they are.

    The tangent kernel of outputs ``f`` is ``<df(x)/dp, df(x')/dp>`` over all parameters, the nngp
    kernel ``f(x) f(x')``. A copy of the module is taken: the operator stays when training goes on.

    Parameters
    ----------
    module : torch.nn.Module
        Any module that treats rows alone, in the mode in which it is used (``module.eval()``).
    X1 : array of shape (n1, ...)
        What the module takes, NumPy or torch.
    X2 : array of shape (n2, ...), optional
        Columns; left out, the matrix is the symmetric one of ``X1``.
    kernel : {"ntk", "nngp"}
        Which kernel.
    outputs : {"mean", "full"} or int
        The mean of the kernels of all outputs; the matrix of order ``n t`` between all outputs of
        all rows, those of a row next to each other; or one output.
    parameters : str or sequence of str, optional
        Names of parameters or groups (``"features.0"``) that are differentiated by; all that
        require a gradient if left out.
    method : {"auto", "structured", "jacobian", "products"}
        How entries are made: layer by layer from inputs and gradients; from Jacobians; or by
        derivatives along gradients, column by column. "auto" takes the first where it is right,
        which it tries on two rows, else the second; in products with vectors it forms no entries
        where that takes fewer operations.
    max_memory : str or number, optional
        Of the values of a block of rows, 1 GB or less if left out.

    Attributes
    ----------
    shape, dtype, symmetric, device
        As of every operator; the type is that of the parameters.
    n_outputs : int
        Numbers that leave the module for each row.

    Raises
    ------
    InvalidInputError
        If the module has no kernel: it is random, lets rows depend on each other or changes its
        buffers, its outputs are not differentiable, or its parameters are of half precision.

    Notes
    -----
    With ``p`` parameters and blocks of ``b`` rows, entries cost ``O(n^2 / b)`` runs of the module
    and its gradient for each output, and at most ``O(n^2 t p)`` operations between them ("full":
    ``t^2``). A product with a vector costs one gradient and one forward derivative per row and
    output, "full" one for all outputs, and O(p) memory.

    References
    ----------
    Novak, Sohl-Dickstein, Schoenholz, "Fast finite width neural tangent kernel" (2022); Long,
    "Properties of the after kernel" (2021).

    Examples
    --------
    >>> import torch
    >>> f = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    >>> K = EmpiricalOperator(f, np.eye(3))
    >>> K.shape, (K @ np.ones(3)).shape, EmpiricalOperator(f, np.eye(3), outputs="full").shape
    ((3, 3), (3,), (6, 6))
    """

    dear = True
    # The entries, if they are kept.
    _matrix: Tensor | None = None

    def __init__(
        self,
        module: torch.nn.Module,
        X1: Any,
        X2: Any = None,
        kernel: str = "ntk",
        *,
        outputs: str | int = "mean",
        parameters: str | Sequence[str] | None = None,
        method: str = "auto",
        max_memory: str | float | None = None,
    ) -> None:
        if kernel not in _KERNELS:
            raise InvalidInputError(f"kernel must be 'ntk' or 'nngp', found {kernel!r}.")
        if method not in ("auto", *METHODS):
            raise InvalidInputError(f"method must be auto, {', '.join(METHODS)}, found {method!r}.")
        self.module, self.kernel = frozen(module), kernel
        self._tensors = isinstance(X1, Tensor)
        self._X1 = rows_of(self.module, X1, "X1")
        self._X2 = None if X2 is None else rows_of(self.module, X2, "X2")
        params = chosen(self.module, parameters) if kernel == "ntk" else {}
        for name, X in (("X1", self._X1), ("X2", self._X2)):
            if X is not None and len(X):
                self.n_outputs = run_on(self.module, X, name, kernel == "ntk")
        if not len(self._X1):
            raise InvalidInputError("X1 holds no rows.")
        self._names = parameters
        self.outputs = self._checked_outputs(outputs)
        self.method = method
        self._budget = min(memory_budget(max_memory), memory_budget(max_memory or _BYTES))
        self._entries = Entries(
            self.module, params, kernel, self.outputs, self.n_outputs, method, self._budget
        )
        self._describe()

    def _describe(self) -> None:
        first = next(self.module.parameters())
        self.device = first.device
        self.dtype = np.dtype(str(first.dtype).removeprefix("torch."))
        self.symmetric = self._X2 is None
        columns = self._X1 if self._X2 is None else self._X2
        self.shape = (len(self._X1) * self._each, len(columns) * self._each)

    def _checked_outputs(self, outputs: Any) -> str | int:
        if outputs in ("mean", "full"):
            return str(outputs)
        whole = isinstance(outputs, int | np.integer) and not isinstance(outputs, bool)
        if whole and 0 <= outputs < self.n_outputs:
            return int(outputs)
        raise InvalidInputError(
            f"outputs must be 'mean', 'full' or a number below {self.n_outputs}, the outputs of "
            f"the module, found {outputs!r}."
        )

    def __repr__(self) -> str:
        return (
            f"<EmpiricalOperator {self.kernel} {self.shape[0]} x {self.shape[1]} "
            f"{self.dtype.name} of {type(self.module).__name__}>"
        )

    @property
    def streamed(self) -> bool:  # type: ignore[override]
        """Whether parts need their own rows only: not of the matrix between all outputs."""
        return self.outputs != "full"

    @property
    def _each(self) -> int:
        """Rows of the matrix for each row of the data."""
        return self.n_outputs if self.outputs == "full" else 1

    @property
    def _columns(self) -> Tensor:
        return self._X1 if self._X2 is None else self._X2

    def settings(self) -> str:
        """The module with its parameters, and how its kernel is meant."""
        state = [
            f"{name} {tuple(value.shape)} {value.double().sum().item()!r}"
            for name, value in self.module.state_dict().items()
        ]
        return f"{self.module!r} {state} {self.kernel} {self.outputs} {self._names}"

    def fingerprint(self) -> str:
        """A hash of the module, its parameters and the data."""
        state = [np.ascontiguousarray(v.cpu().numpy()) for v in self.module.state_dict().values()]
        sides: list[Side] = [("parameters", state)]
        for X in (self._X1, self._X2):
            side = None if X is None else (f"{X.dtype} {tuple(X.shape)}", [X.cpu().numpy()])
            sides.append(side)
        return fingerprint(self.settings(), *sides)

    def on(self, X1: Any, X2: Any = None) -> EmpiricalOperator:
        """The same kernel on other rows, without trying the module anew.

        Parameters
        ----------
        X1, X2 : array
            As of the operator.
        """
        rows = rows_of(self.module, X1, "X1")
        return self._like(rows, None if X2 is None else rows_of(self.module, X2, "X2"))

    def _like(self, X1: Tensor, X2: Tensor | None) -> EmpiricalOperator:
        """The same kernel on other rows."""
        made = copy.copy(self)
        made._X1, made._X2 = X1, X2
        for name in ("_known", "_matrix"):
            made.__dict__.pop(name, None)
        made._describe()
        return made

    def _points(self, index: Rows) -> Tensor:
        numbers = row_numbers(index, self.shape[0])
        return self._X1[torch.from_numpy(numbers).to(self.device)]

    def _between(self, X1: Tensor, X2: Tensor | None) -> EmpiricalOperator:
        return self._like(X1, X2)

    def take(self, index: Rows) -> EmpiricalOperator:
        """The symmetric operator of the given rows alone."""
        self.require_parts()
        self._require_symmetric("take")
        made = self._like(self._points(self._checked(index)), None)
        if self._matrix is not None:
            numbers = torch.from_numpy(row_numbers(index, self.shape[0])).to(self.device)
            made._matrix = self._matrix[numbers][:, numbers]
        return made

    def part(self, rows: Rows, columns: Rows, out: Any = None) -> Any:
        """Entries between the given rows and columns, by number."""
        self.require_parts()
        return super().part(rows, columns, out)

    @property
    def n_features(self) -> int:  # type: ignore[override]
        """Numbers in a row of the data."""
        return int(self._X1[:1].numel())

    def transposed(self) -> EmpiricalOperator:
        """The operator with rows and columns exchanged."""
        return self if self._X2 is None else self._like(self._X2, self._X1)

    def astype(self, dtype: DTypeLike) -> EmpiricalOperator:
        """The same matrix evaluated in another type."""
        kind = KINDS[common_dtype(dtype).name]
        made = self._like(self._X1, self._X2)
        if self._matrix is not None:
            made._matrix, made.dtype = self._matrix.to(kind), common_dtype(dtype)
            return made
        made.module = copy.deepcopy(self.module).to(kind)
        params = chosen(made.module, self._names) if self.kernel == "ntk" else {}
        made._entries = self._entries.on(made.module, params)
        made._describe()
        return made

    def tile(self, rows: slice, cols: slice, out: Any = None) -> Any:
        """A rectangular part of the matrix."""
        (i0, i1), (j0, j1) = bounds(rows, self.shape[0]), bounds(cols, self.shape[1])

        def fill(target: Tensor) -> None:
            self._fill(target, i0, i1, j0, j1)

        return self._written(out, (i1 - i0, j1 - j0), fill)

    def _fill(self, target: Tensor, i0: int, i1: int, j0: int, j1: int) -> None:
        if i0 == i1 or j0 == j1:
            return
        if self._matrix is not None:
            target.copy_(self._matrix[i0:i1, j0:j1])
            return
        t, step = self._each, self._entries.step(self._X1)
        mirrored = self.symmetric and (i0, i1) == (j0, j1)
        for a in range(i0 // t, -(-i1 // t), step):
            X1 = self._cast(self._X1[a : min(a + step, -(-i1 // t))])
            left = self._entries.record(X1)
            for b in range(j0 // t, -(-j1 // t), step):
                if mirrored and b > a:
                    break
                X2 = self._cast(self._columns[b : min(b + step, -(-j1 // t))])
                same = self.symmetric and a == b and len(X1) == len(X2)
                block = self._entries.between(left, None if same else self._entries.record(X2))
                block = 0.5 * (block + block.T) if same else block  # but for rounding it is so
                r0, c0 = max(i0, a * t), max(j0, b * t)
                r1, c1 = min(i1, (a + len(X1)) * t), min(j1, (b + len(X2)) * t)
                part = block[r0 - a * t : r1 - a * t, c0 - b * t : c1 - b * t]
                target[r0 - i0 : r1 - i0, c0 - j0 : c1 - j0] = part
                if mirrored and b < a:
                    target[c0 - i0 : c1 - i0, r0 - j0 : r1 - j0] = part.T
        low, high = max(i0, j0), min(i1, j1)
        if self.symmetric and low < high:
            # Blocks of other rows may differ in the last digit: what was first stays.
            k = torch.arange(low, high)
            known, found = self._known[low:high], target[k - i0, k - j0].to(self.device)
            self._known[low:high] = torch.where(torch.isnan(known), found, known)
            target[k - i0, k - j0] = self._known[low:high].to(target.device)

    @property
    def kept(self) -> bool:  # type: ignore[override]
        """Whether entries are in memory."""
        return self._matrix is not None

    @property
    def fused(self) -> bool:  # type: ignore[override]
        """Whether a product with one column forms no entries."""
        return self._without_entries(1)

    @property
    def reevaluates(self) -> bool:  # type: ignore[override]
        """Whether another type is evaluated anew: not of entries that are kept in float32."""
        return self._matrix is None or self.dtype == np.float64

    def keep(self) -> EmpiricalOperator:
        """The same operator with its entries, each of which is made once."""
        self._require_symmetric("keep")
        matrix = as_output(None, self.shape, self.dtype, self.device)
        self._fill(matrix, 0, self.shape[0], 0, self.shape[0])
        made = self._like(self._X1, None)
        made._matrix = matrix
        return made

    @functools.cached_property
    def _known(self) -> Tensor:
        """Entries of the diagonal that were worked out, NaN for the others."""
        kind = KINDS[self.dtype.name]
        return torch.full((self.shape[0],), torch.nan, dtype=kind, device=self.device)

    def _own(self, numbers: Tensor | None = None) -> Tensor:
        """The kernel of some rows with themselves, of all if none are named."""
        if self._matrix is not None:
            own = self._matrix.diagonal()
            return own if numbers is None else own[numbers]
        missing = torch.isnan(self._known).reshape(-1, self._each).any(1)
        if numbers is not None:
            wanted = torch.zeros_like(missing)
            wanted[numbers // self._each] = True
            missing &= wanted
        rows = torch.nonzero(missing)[:, 0]
        for some in rows.split(self._entries.step(self._X1)) if len(rows) else ():
            own = self._entries.diagonal(self._cast(self._X1[some])).reshape(-1, self._each)
            known = self._known.view(-1, self._each)
            known[some] = torch.where(torch.isnan(known[some]), own, known[some])
        return self._known if numbers is None else self._known[numbers]

    def _chunks(self, X: Tensor) -> Iterator[Tensor]:
        yield from map(self._cast, X.split(self._entries.step(self._X1)))

    def _cast(self, X: Tensor) -> Tensor:
        """Rows in the type of the module: those of float64 are kept, for `astype`."""
        return X.to(KINDS[self.dtype.name]) if X.is_floating_point() else X

    def rows(self, index: ArrayLike) -> Any:
        """Whole rows by number, of shape (m, n2)."""
        numbers = row_numbers(index, self.shape[0])
        block = as_output(None, (len(numbers), self.shape[1]), self.dtype, self.device)
        if len(numbers):
            k = torch.from_numpy(numbers).to(self.device)
            X, step = self._cast(self._X1[k // self._each]), self._entries.step(self._X1)
            for some, X1, into in zip(k.split(step), X.split(step), block.split(step), strict=True):
                left, start = self._entries.record(X1), 0
                for X2 in self._chunks(self._columns):
                    which = some % self.n_outputs if self.outputs == "full" else None
                    part = self._entries.between(left, self._entries.record(X2), which)
                    into[:, start : start + part.shape[1]] = part
                    start += part.shape[1]
            if self.symmetric:
                block[torch.arange(len(k)), k] = self._own(k)
        return self._outward(block)

    def diagonal(self) -> Any:
        """The kernel of each row with itself."""
        self._require_symmetric("diagonal")
        return self._outward(self._own().clone())

    def row_diagonal(self) -> NDArray[Any]:
        """The kernel of each row of ``X1`` with itself."""
        return self._own().cpu().numpy()

    def times(self, columns: Tensor) -> Tensor:
        """The product with columns of shape (n2, t): without entries where that is faster."""
        kind = KINDS[self.dtype.name]
        if not columns.shape[1]:
            return columns.new_zeros((self.shape[0], 0))
        if self._without_entries(columns.shape[1]):
            left, right = list(self._chunks(self._X1)), list(self._chunks(self._columns))
            found = [along(self._entries, left, right, v.to(kind)) for v in columns.T]
            return torch.stack(found, 1).to(columns.dtype).contiguous()
        out = columns.new_zeros((self.shape[0], columns.shape[1]))
        step = max(1, self._entries.step(self._X1)) * self._each
        for i in range(0, self.shape[0], step):
            stop = min(i + step, self.shape[0])
            panel = as_output(None, (stop - i, self.shape[1]), self.dtype, self.device)
            self._fill(panel, i, stop, 0, self.shape[1])
            out[i:stop] = panel.to(columns.dtype) @ columns
        return out

    def _without_entries(self, count: int) -> bool:
        if self._matrix is not None or self.kernel == "nngp":
            return False
        taken = self._entries.method(self._X1)
        if self.method != "auto" or taken == "products":
            return taken == "products"
        n1, n2 = len(self._X1), len(self._columns)
        costs = self._entries.costs(self._X1)
        return costs.products(n1, n2, count) < costs.entries(n1, n2)

    def _outward(self, values: Tensor) -> Any:
        return values if self._tensors else values.cpu().numpy()
