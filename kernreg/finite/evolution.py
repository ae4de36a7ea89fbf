"""What training does to the kernel of a module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.finite.empirical import EmpiricalOperator
from kernreg.theory.alignment import kernel_alignment, target_alignment

__all__ = ["KernelEvolution", "Snapshot"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Snapshot:
    """The kernel of a module at a step of its training.

    Attributes
    ----------
    step : float
        When.
    alignment : float or None
        With the targets, centred (CKA); None without targets.
    similarity : float
        Cosine with the first kernel, centred.
    movement : float
        ``|K - K_0| / |K_0|``, Frobenius norms.
    trace : float
        Mean of the diagonal.
    eigenvalues : ndarray
        The largest ones over the order of the matrix, from the largest on.
    """

    step: float
    alignment: float | None
    similarity: float
    movement: float
    trace: float
    eigenvalues: Floats


@dataclass
class KernelEvolution:
    """Records the kernel of a module while it is trained.

    Call it in the training loop; the module is looked at in evaluation mode, and stays as it is.

    Parameters
    ----------
    X : array of shape (n, ...)
        Rows of which the kernel is looked at; some hundreds are enough.
    y : array of shape (n,) or (n, t), optional
        Targets or labels, for the alignment.
    kernel, outputs, parameters, max_memory
        As of :class:`~kernreg.finite.EmpiricalOperator`.
    leading : int
        Eigenvalues that are kept.

    Attributes
    ----------
    snapshots : list of Snapshot
        One for each call.
    first, last : ndarray of shape (n, n)
        The kernel at the first and at the last call.

    Examples
    --------
    >>> f = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    >>> X, y = torch.eye(2).repeat(4, 1), torch.tensor([0.0, 1.0]).repeat(4)
    >>> evolution = KernelEvolution(X, y)
    >>> optimizer = torch.optim.SGD(f.parameters(), lr=0.1)
    >>> for step in range(3):
    ...     _ = evolution(f, step)
    ...     optimizer.zero_grad()
    ...     ((f(X)[:, 0] - y) ** 2).mean().backward()
    ...     optimizer.step()
    >>> [s.step for s in evolution.snapshots], evolution.snapshots[0].movement
    ([0, 1, 2], 0.0)
    """

    X: Any
    y: Any = None
    kernel: str = "ntk"
    outputs: str | int = "mean"
    parameters: str | Sequence[str] | None = None
    max_memory: str | float | None = None
    leading: int = 10
    snapshots: list[Snapshot] = field(default_factory=list)
    first: Floats | None = None
    last: Floats | None = None

    def __call__(self, module: torch.nn.Module, step: float) -> Snapshot:
        """Record the kernel at a step.

        Raises
        ------
        InvalidInputError
            If the module has no kernel, or ``outputs`` is "full", which has no alignment.
        """
        if self.outputs == "full":
            raise InvalidInputError("KernelEvolution: outputs must be 'mean' or a number.")
        training = {m: m.training for m in module.modules()}
        module.eval()
        try:
            operator = EmpiricalOperator(
                module,
                self.X,
                kernel=self.kernel,
                outputs=self.outputs,
                parameters=self.parameters,
                max_memory=self.max_memory,
            )
        finally:
            for m, mode in training.items():
                m.training = mode
        dense = operator.to_dense()
        K: Floats = np.asarray(dense.cpu() if isinstance(dense, torch.Tensor) else dense, float)
        if self.first is None:
            self.first = K
        values = np.linalg.eigvalsh(K)[::-1][: self.leading] / len(K)
        found = Snapshot(
            step,
            None if self.y is None else target_alignment(K, None, _plain(self.y)),
            kernel_alignment(K, self.first),
            float(np.linalg.norm(K - self.first) / np.linalg.norm(self.first)),
            float(np.trace(K)) / len(K),
            values,
        )
        self.snapshots.append(found)
        self.last = K
        return found

    def column(self, name: str) -> Floats:
        """A number of each snapshot, such as ``"alignment"``."""
        return np.array([getattr(s, name) for s in self.snapshots], dtype=np.float64)


def _plain(y: Any) -> Any:
    return y.detach().cpu().numpy() if isinstance(y, torch.Tensor) else y
