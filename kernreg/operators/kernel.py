"""The kernel matrix of a network on data, as an operator that is never stored."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from kernreg.backends import bind
from kernreg.backends.base import CPU, Bound, Part, Request, is_fused
from kernreg.backends.half import multiplies, multiply_half
from kernreg.backends.sparse import AnyRows, SparseRows
from kernreg.exceptions import InvalidInputError
from kernreg.nn import Layer, to_json
from kernreg.operators.autograd import carry_product, detached, wants_gradient
from kernreg.operators.base import Rows
from kernreg.operators.budget import PANEL_BYTES, PREPARED_ROWS
from kernreg.operators.fingerprint import Side, fingerprint
from kernreg.operators.images import check_shapes, flat_rows, on_images, shape_of, tile_rows
from kernreg.operators.inputs import (
    as_sides,
    check_network,
    check_precision,
    check_trained,
    common_dtype,
    kernel_names,
)
from kernreg.operators.mirrored import add_half
from kernreg.operators.outputs import KINDS, as_output, check_apart, within_memory
from kernreg.operators.parts import Parts, bounds, row_numbers
from kernreg.operators.transfer import fill

__all__ = ["KernelOperator"]

_HASHED_ROWS = 4096
# Rows of which the diagonal is found at once.
_ROWS = 2**16


class KernelOperator(Parts):
    """Kernel matrix ``K[i, j] = kernel(X1[i], X2[j])`` of an infinitely wide network.

    Parameters
    ----------
    net : Layer or str
        The network, or its code.
    X1 : array of shape (n1, d), or of images (n1, height, width, channels)
        Rows: NumPy, torch, a frame of numbers, nested lists, or a sparse array of SciPy.
    X2 : array of shape (n2, d), optional
        Columns; left out, the matrix is the symmetric one of ``X1``.
    kernel : {"ntk", "nngp"}
        Which kernel.
    dtype : dtype, optional
        float32 or float64; that of the data if left out.
    device : device, optional
        "cpu" or "cuda"; where the data are if left out.
    backend : str
        "auto", "cpu", "triton", "cuda" or "reference".
    exact : bool
        Run every layer; no profile pass.
    precision : {"tf32x3", "ieee", "tf32", "bf16x3"}
        Of float32 products on the matrix units of a GPU; see :func:`kernreg.gram`.
    input_shape, channels
        Of images, as for :func:`kernreg.gram`; ``net`` then begins with ``Unflatten``.

    Attributes
    ----------
    shape : tuple of int
        ``(n1, n2)``.
    dtype : dtype
        Of the entries.
    symmetric : bool
        Whether ``X2`` was left out.
    n_features : int
        Numbers per row of the data.
    backend : str
        The backend that was taken.
    device : torch.device
        Where the entries are made.
    fused : bool
        Whether products multiply tiles as they are made and store none.

    Raises
    ------
    InvalidInputError
        If data or arguments cannot be used.
    BackendError
        If the backend that was asked for cannot run the network.

    Notes
    -----
    Memory is O(n (d + depth)), whatever the number of entries asked for. A tile of m entries
    costs O(m (d + depth)) time. More than 4,096 rows are prepared when ``tile``, ``rows`` or a
    product first needs them; ``part``, ``take`` and ``diagonal`` prepare their own rows only.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelOperator, nn
    >>> K = KernelOperator(nn.mlp(depth=2), np.eye(4))
    >>> K.shape, (K @ np.ones(4)).shape
    ((4, 4), (4,))
    """

    carries_gradients = True

    def __init__(
        self,
        net: Layer | str,
        X1: Any,
        X2: Any = None,
        kernel: str = "ntk",
        *,
        dtype: DTypeLike | None = None,
        device: str | None = None,
        backend: str = "auto",
        exact: bool = False,
        precision: str = "tf32x3",
        input_shape: tuple[int, ...] | None = None,
        channels: str = "last",
    ) -> None:
        self.net = on_images(check_network(net, X1), shape_of(X1, channels) or input_shape, "X1")
        self.net = on_images(self.net, None if X2 is None else shape_of(X2, channels), "X2")
        (self.kernel,) = kernel_names(kernel, single=True)
        check_trained(self.net, (self.kernel,))
        self._options: dict[str, Any] = {
            "backend": backend,
            "exact": exact,
            "precision": precision,
        }
        self._tensors = isinstance(X1, Tensor)
        sources = flat_rows(X1, channels), None if X2 is None else flat_rows(X2, channels)
        self._sources = sources if wants_gradient(*sources) else None
        self._X1, self._X2 = as_sides(detached(sources[0]), detached(sources[1]), device)
        check_shapes(self.net, self._X1.shape[1], "X1", sparse=isinstance(self._X1, SparseRows))
        self.device = self._X1.device
        self.dtype = common_dtype(dtype, self._X1, self._X2)
        check_precision(precision)
        self.symmetric = self._X2 is None
        self.n_features = int(self._X1.shape[1])
        self.shape = (len(self._X1), len(self._X1 if self._X2 is None else self._X2))
        self._made: tuple[str, Bound] | None = None
        if max(self.shape) <= PREPARED_ROWS:
            self._made = self._bind(self._X1, self._X2)
        else:
            self._bind(self._X1[:1], None if self._X2 is None else self._X2[:1])

    def __repr__(self) -> str:
        return (
            f"<KernelOperator {self.kernel} {self.shape[0]} x {self.shape[1]} "
            f"{self.dtype.name} on {self.backend}>"
        )

    def fingerprint(self) -> str:
        """A hash of network, kernel and data: equal for operators with the same entries.

        What is kept on disk carries it, and is refused to an operator with another one. The type
        of the entries and the backend, which change them by rounding only, are left out.

        Returns
        -------
        str
            64 hexadecimal digits.

        Raises
        ------
        NetworkError
            If a Python function in the network has no importable name.
        """
        return fingerprint(self.settings(), _side(self._X1), _side(self._X2))

    def settings(self) -> str:
        """Network, kernel and the options that change entries by more than rounding, as JSON."""
        settings = {k: self._options[k] for k in ("exact", "precision")}
        return json.dumps([to_json(self.net), self.kernel, settings])

    def _bind(self, X1: AnyRows, X2: AnyRows | None) -> tuple[str, Bound]:
        options = self._options
        exact, precision = options["exact"], options["precision"]
        request = Request(self.net.program(), X1, X2, self.dtype, exact, precision, (self.kernel,))
        return bind(request, options["backend"])

    @property
    def tile_rows(self) -> int:  # type: ignore[override]
        """Rows of a tile that is worked out within seconds: fewer for images that are pooled."""
        return tile_rows(self.net.program())

    @property
    def dear(self) -> bool:  # type: ignore[override]
        """Whether entries cost so much that none should be worked out twice: those of images."""
        return self.net.program().axes != 0

    @property
    def source(self) -> AnyRows:
        """The rows ``X1`` that a gradient is taken by, with their history."""
        X = self._X1 if self._sources is None else self._sources[0]
        return X if isinstance(X, Tensor) else self._X1

    @property
    def _binding(self) -> tuple[str, Bound]:
        """The backend's name, and the rows prepared by it: made when an entry is asked for."""
        if self._made is None:
            self._made = self._bind(self._X1, self._X2)
        return self._made

    @property
    def _bound(self) -> Bound:
        return self._binding[1]

    @property
    def backend(self) -> str:
        """The backend that was taken."""
        return self._binding[0]

    @property
    def fused(self) -> bool:  # type: ignore[override]
        """Whether products multiply tiles as they are made and store none."""
        return is_fused(self._bound)

    def tile(self, rows: slice, cols: slice, out: Any = None) -> Any:
        """A rectangular part of the matrix.

        Parameters
        ----------
        rows, cols : slice
            Without a step.
        out : array, optional
            Where to write, on the device or in host memory; its rows must be contiguous.

        Returns
        -------
        array

        Raises
        ------
        InvalidInputError
            If a slice has a step, or ``out`` has the wrong shape or dtype.
        """
        (i0, i1), (j0, j1) = bounds(rows, self.shape[0]), bounds(cols, self.shape[1])
        # Results that become NumPy arrays are brought to host memory panel by panel.
        where = self.device if self._tensors else CPU

        def fill(target: Tensor) -> None:
            if out is not None:
                check_apart(out, self._X1, self._X2)
            self._fill(Part(i0, i1, j0, j1), target)

        return self._written(out, (i1 - i0, j1 - j0), fill, where)

    def rows(self, index: ArrayLike) -> Any:
        """Whole rows by number.

        Parameters
        ----------
        index : array of int, shape (m,)
            Row numbers.

        Returns
        -------
        ndarray of shape (m, n2)
        """
        numbers = row_numbers(index, self.shape[0])
        chosen = torch.from_numpy(numbers).to(self.device)
        if not len(chosen):
            return self._outward(as_output(None, (0, self.shape[1]), self.dtype, self.device))
        columns = self._X1 if self._X2 is None else self._X2
        block = as_output(None, (len(chosen), self.shape[1]), self.dtype, self.device)
        among = self._like(self._X1[chosen], columns)
        among.to_dense(block)
        if self.symmetric:
            # A row meets itself: dropout and rounding make that entry the diagonal's.
            block[torch.arange(len(chosen)), chosen] = torch.from_numpy(among.row_diagonal())
        return self._outward(block)

    def diagonal(self) -> Any:
        """The kernel of each row with itself, O(n).

        Returns
        -------
        ndarray of shape (n,)
        """
        self._require_symmetric("diagonal")
        return self.row_diagonal()

    def row_diagonal(self) -> NDArray[Any]:
        """The kernel of each row of ``X1`` with itself, O(n1).

        Returns
        -------
        ndarray of shape (n1,)
        """
        if self._made is not None:
            return self._bound.diagonal(self.kernel).astype(self.dtype)
        pieces = []
        for X in self._X1.split(_ROWS):
            program = self.net.program()
            request = Request(program, X, None, self.dtype, kernels=(self.kernel,))
            _, piece = bind(request, "reference" if program.axes == 0 else "auto")
            pieces.append(piece.diagonal(self.kernel))
        return np.concatenate(pieces).astype(self.dtype)

    def __matmul__(self, V: Any) -> Any:
        """Product with a vector or a matrix of shape (n2, t), in the wider of both types.

        NumPy in, NumPy out; torch in, torch out on the same device. Gradients go to rows and to
        ``V`` where tensors require them.
        """
        if not wants_gradient(*(self._sources or ()), V):
            return super().__matmul__(V)
        if isinstance(self._X1, SparseRows):
            raise InvalidInputError(
                "There are no gradients through products with sparse rows: make the rows dense."
            )
        right = V if isinstance(V, Tensor) else torch.as_tensor(V)
        kind = torch.promote_types(self._X1.dtype, right.dtype)
        columns = right.reshape(len(right), -1).to(kind)
        X1, X2 = self._sources or (self._X1, self._X2)

        def times(values: Tensor, turned: bool) -> Tensor:
            operator = self.transposed() if turned else self
            found: Tensor = super(KernelOperator, operator).__matmul__(values.detach())
            return found

        program = self.net.program()
        first = X1 if isinstance(X1, Tensor) else self._X1
        second = X2 if X2 is None or isinstance(X2, Tensor) else self._X2
        product = carry_product(first, second, columns, times, program, self.kernel)
        return product.reshape(self.shape[0], *right.shape[1:])

    def times(self, columns: Tensor) -> Tensor:
        """The product with real columns of shape (n2, t), in their type.

        On a GPU tiles are multiplied as they are made, in the precision of the entries; on the
        CPU panels are, in the type of the columns.
        """
        with within_memory(
            f"A product with {columns.shape[1]} columns does not fit the free memory of "
            f"{self.device}: multiply fewer columns at once, or use device='cpu'."
        ):
            if is_fused(self._bound):
                return self._bound.multiply(self.kernel, columns).to(columns.dtype)
            lines = columns.T.contiguous()
            if self.symmetric and multiplies(lines):
                panels = self._panels(KINDS[self.dtype.name])
                return multiply_half(panels, lines).T.to(columns.dtype).contiguous()
            out = torch.zeros((len(lines), self.shape[0]), dtype=lines.dtype, device=self.device)
            tiles = ((i0, 0, panel) for i0, panel in self._panels(lines.dtype))
            return add_half(tiles, lines, out, mirrored=self.symmetric).T.contiguous()

    def _panels(self, kind: torch.dtype) -> Iterator[tuple[int, Tensor]]:
        """All rows by panels, of a symmetric matrix up to the diagonal; halved for lack of memory.

        They have one piece of memory: new memory costs as much as its entries.
        """
        (n, m), i0, room = self.shape, 0, None
        step = min(n, max(1, PANEL_BYTES // (self.dtype.itemsize * max(1, m))))
        while i0 < n:
            i1 = min(n, i0 + step)
            width = i1 if self.symmetric else m
            try:
                if room is None:
                    room = as_output(None, (step * m,), self.dtype, self.device)
                panel = room[: (i1 - i0) * width].view(i1 - i0, width)
                self._bound.fill(Part(i0, i1, 0, width), {self.kernel: panel})
                panel = panel.to(kind)
            except (torch.cuda.OutOfMemoryError, MemoryError):
                if step == 1:
                    raise
                step, room = max(1, step // 2), None
            else:
                yield i0, panel
                i0 = i1

    def astype(self, dtype: DTypeLike) -> KernelOperator:
        """The same operator with entries of another floating type.

        Parameters
        ----------
        dtype : dtype
            float32 or float64.

        Returns
        -------
        KernelOperator
        """
        return self._like(self._X1, self._X2, dtype)

    def _like(
        self, X1: AnyRows, X2: AnyRows | None, dtype: DTypeLike | None = None
    ) -> KernelOperator:
        """The same kernel on other rows, or of another type: checked already, prepared later."""
        made = copy.copy(self)
        made._X1, made._X2, made._made, made._sources = X1, X2, None, None
        made.dtype = self.dtype if dtype is None else common_dtype(dtype)
        made.symmetric = X2 is None
        made.shape = (len(X1), len(X1 if X2 is None else X2))
        return made

    def _points(self, index: Rows) -> AnyRows:
        return self._X1[index if isinstance(index, slice) else torch.as_tensor(index)]

    def _between(self, X1: Any, X2: Any) -> KernelOperator:
        return self._like(X1, X2)

    def transposed(self) -> KernelOperator:
        """The operator with rows and columns exchanged."""
        return self if self._X2 is None else self._like(self._X2, self._X1)

    def _fill(self, part: Part, target: Tensor) -> None:
        outs = {self.kernel: target}
        fill(self._bound, part, outs, symmetric=self.symmetric, device=self.device)

    def _outward(self, values: Tensor) -> Any:
        """A result in the kind that the data came in."""
        return values if self._tensors else values.cpu().numpy()


def _side(X: AnyRows | None) -> Side:
    """Rows or columns as :func:`fingerprint` takes them."""
    if X is None:
        return None
    if isinstance(X, SparseRows):
        values, start, features, _ = X.parts()
        return f"sparse {X.dtype} {X.shape}", iter((values, start, features))
    blocks = (block.cpu().numpy() for block in X.split(_HASHED_ROWS))
    return f"{X.dtype} {tuple(X.shape)}", blocks
