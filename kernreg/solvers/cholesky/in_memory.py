"""Direct solver: Cholesky in place on half the kernel matrix, generated as it is first touched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.operators.base import Operator
from kernreg.operators.outputs import as_output, within_memory
from kernreg.operators.panels import Staircase, full_precision, panel_bounds, require_finite
from kernreg.solvers.base import Problem
from kernreg.solvers.cholesky.factored import CholeskyState, Factoring

__all__ = ["Cholesky", "CholeskyState"]


@dataclass(frozen=True)
class Cholesky(Factoring):
    """Cholesky factorisation of ``K + ridge`` in half the memory of K.

    Parameters
    ----------
    block : int, default=512
        Rows of a panel.
    max_jitter : float, optional
        Largest jitter, relative to the mean of the diagonal; default ``sqrt(eps)`` of the
        operator's dtype. 0 turns the ladder off.
    refine : "auto", bool or int, default="auto"
        Refine solutions to the residual of a float64 solve, with kernel tiles evaluated again in
        float64. ``"auto"``: if the operator is float32. An int limits the number of products.
    precision : {"full", "mixed"}, default="full"
        ``"mixed"`` rounds the products of a float32 factorisation to tf32, on a GPU that has
        matrix units for it; the factor then is a rougher preconditioner of the refinement.

    Notes
    -----
    Cost: half a Gram matrix, n^3/3 operations, 2 n^2 t for t right-hand sides; refinement adds
    half a float64 Gram matrix per product, usually three. Memory: ``n^2/2 + n*block/2`` numbers
    for the factor and, at n = 10,000, less than 0.05 n^2 numbers of workspace.

    A pivot below 16 eps times its diagonal entry counts as a breakdown: it is rounding noise even
    if it happens to be positive. Then the panels are generated again and the diagonal raised by
    eps times its mean, ten times more at each further attempt.

    Examples
    --------
    >>> Cholesky(block=256).refine
    'auto'
    """

    name = "cholesky"
    leave_one_out = True
    reason = "one factorisation for each ridge ({n})"
    drawback = "a factorisation for each ridge"

    block: int = 512
    max_jitter: float | None = None
    refine: Literal["auto"] | bool | int = "auto"
    precision: Literal["full", "mixed"] = "full"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision not in ("full", "mixed"):
            raise InvalidInputError(
                f"expected precision 'full' or 'mixed', found {self.precision!r}"
            )

    def stored(self, problem: Problem) -> str:
        """Half of the matrix."""
        return "packed"

    def peak_bytes(self, problem: Problem) -> int:
        """Bytes held at once by factor, workspace and vectors, from exact counts.

        Examples
        --------
        >>> Cholesky(block=1, refine=False).peak_bytes(Problem(4)) > 8 * 10
        True
        """
        n, size = problem.n, int(problem.dtype.itemsize)
        block = min(self.block, n)
        held = Staircase.numbers(n, block) * size + 3 * 8 * n
        factoring = 3 * block * block * size + block * n
        solving = 2 * block * block * size + self._solving_bytes(
            n, problem.n_outputs, problem.dtype
        )
        inverting = n * block * size if problem.leave_one_out else 0
        return held + max(factoring, solving, inverting)

    def init(
        self,
        operator: Operator,
        ridge: float | NDArray[Any],
        callback: Callable[[int, int], None] | None = None,
    ) -> CholeskyState:
        """Generate and factor ``K + diag(ridge)``.

        Parameters
        ----------
        operator : Operator
            Symmetric, of dtype float32 or float64.
        ridge : float or ndarray of shape (n,)
            Added to the diagonal, not negative.
        callback : callable, optional
            Called as ``callback(step, total)`` after each panel; starts again with a new jitter.

        Returns
        -------
        CholeskyState
            The factor.

        Raises
        ------
        InvalidInputError
            Operator not symmetric, bad ridge, or NaN or infinity among the kernel's entries.
        NotPositiveDefiniteError
            If the largest jitter did not help.

        Warns
        -----
        JitterWarning
            If a jitter was needed.
        """

        def attempt(shift: NDArray[np.float64], jitter: float) -> Staircase:
            with full_precision(self.precision == "mixed"), _room_for_factor(len(shift), operator):
                return self._attempt(operator, shift + jitter, callback)

        return self._factored(operator, ridge, attempt, self._eps(operator))

    def _eps(self, operator: Operator) -> float:
        """Rounding of the factorisation."""
        dtype = np.dtype(operator.dtype)
        on_gpu = operator.device.type != "cpu"
        rough = self.precision == "mixed" and dtype == np.float32 and on_gpu
        return 2.0**-11 if rough else float(np.finfo(dtype).eps)

    def _attempt(
        self,
        operator: Operator,
        shift: NDArray[np.float64],
        callback: Callable[[int, int], None] | None,
    ) -> Staircase:
        n = len(shift)
        block = min(self.block, n)
        factor = Staircase(n, block, operator.dtype)
        bounds = panel_bounds(n, block)
        # One piece for all panels: it goes back as a whole, before a factor for the next ridge.
        room, used = (
            as_output(None, (Staircase.numbers(n, block),), factor.dtype, operator.device),
            0,
        )
        for step, (i0, i1) in enumerate(bounds, start=1):
            panel = room[used : used + (i1 - i0) * i1].view(i1 - i0, i1)
            used += panel.numel()
            operator.fill_panel(panel, i0)
            require_finite(panel, i0)
            diagonal = panel[:, i0:].diagonal()
            diagonal.copy_(diagonal.double() + torch.from_numpy(shift[i0:i1]).to(operator.device))
            factor.append(panel)
            if callback is not None:
                callback(step, len(bounds))
        return factor


def _room_for_factor(n: int, operator: Operator) -> contextlib.AbstractContextManager[None]:
    device = operator.device
    other = (
        "OutOfCoreCholesky or PCG" if device.type == "cpu" else "a smaller block or device='cpu'"
    )
    return within_memory(
        f"The factor for n={n} in {np.dtype(operator.dtype)} does not fit the free memory of "
        f"{device}: use fewer rows, dtype float32, {other}."
    )
