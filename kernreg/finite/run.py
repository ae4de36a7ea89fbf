"""A ready-made run: train a network, and see what that does to its kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg import nn
from kernreg.exceptions import InvalidInputError
from kernreg.finite.empirical import EmpiricalOperator
from kernreg.finite.evolution import KernelEvolution
from kernreg.finite.network import FiniteNetwork, module
from kernreg.solvers.eigh import Eigh
from kernreg.wording import aligned

__all__ = ["Evolved", "evolve"]

Floats = NDArray[np.float64]

# Of the mean diagonal; the best is chosen by leave-one-out.
_RIDGES = np.logspace(-6, 0, 13)
_SNAPSHOTS = 12
_BATCH = 64


@dataclass(frozen=True)
class Evolved:
    """What a network has learned, and its kernel.

    Attributes
    ----------
    evolution : KernelEvolution
        The kernel on test rows during training.
    scores : dict
        On test rows, of the network and of regression with its kernel before and after training:
        accuracy for classes, else the share of the variance that is explained.
    module : FiniteNetwork
        The trained network.
    measure : str
        What scores are.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((60, 3))
    >>> found = evolve("mlp(depth=1)", X, np.sign(X[:, 0]).astype(int), width=16, steps=3)
    >>> found.measure, [s.step for s in found.evolution.snapshots]
    ('accuracy', [0, 1, 2, 3])
    """

    evolution: KernelEvolution
    scores: dict[str, float]
    module: FiniteNetwork
    measure: str

    def __str__(self) -> str:
        rows = []
        for s in self.evolution.snapshots:
            found = "" if s.alignment is None else f"{s.alignment:.3f}"
            rows.append((f"{s.step:g}", found, f"{s.similarity:.3f}", f"{s.movement:.3f}"))
        head = ("step", "alignment", "cosine with the first kernel", "movement")
        scores = [(name, f"{value:.3f}") for name, value in self.scores.items()]
        lines = aligned(head, rows, numbers=True)
        return "\n".join([*lines, "", *aligned(("on held-out rows", self.measure), scores)])


def evolve(
    net: nn.Layer | str,
    X: Any,
    y: Any,
    *,
    width: int = 128,
    steps: int = 500,
    learning_rate: float = 2e-3,
    test_share: float = 0.3,
    looked_at: int = 200,
    input_shape: tuple[int, ...] | None = None,
    random_state: int = 0,
    callback: Callable[[int, int, str], None] | None = None,
) -> Evolved:
    """Train a network of finite width, and watch its tangent kernel.

    Classes are learned by cross-entropy, numbers by squared error of the change of the outputs
    since the beginning, so that random outputs need not be unlearned.

    Parameters
    ----------
    net : Layer or str
        The description; the module is in the "standard" parameterization.
    X : array of shape (n, ...)
        Rows.
    y : array of shape (n,) or (n, t)
        Targets; text and whole numbers of shape (n,) are labels, one output per class.
    width : int
        Of hidden layers.
    steps : int
        Of Adam, with batches of 64 rows.
    learning_rate : float
        At first; it falls to 0 along a cosine.
    test_share : float
        Rows that are held out.
    looked_at : int
        Of them, rows whose kernel is recorded.
    input_shape : tuple of int, optional
        Of images in flat rows.
    random_state : int
        Of weights, batches and the split.
    callback : callable, optional
        Told ``(steps done, steps, "training")``.

    Returns
    -------
    Evolved

    References
    ----------
    Long, "Properties of the after kernel" (2021).

    Examples
    --------
    >>> r = np.random.default_rng(0)
    >>> X = r.standard_normal((120, 3))
    >>> found = evolve("mlp(depth=1)", X, np.sign(X[:, 0] * X[:, 1]).astype(int), steps=200)
    >>> sorted(found.scores), found.evolution.snapshots[0].movement
    (['kernel after training', 'kernel before training', 'network'], 0.0)
    """
    if steps < 1:
        raise InvalidInputError(f"steps must be at least 1, found {steps!r}.")
    X, (Y, classes) = np.asarray(X, dtype=np.float32), _targets(y)
    if len(X) != len(Y) or len(X) < 20:
        raise InvalidInputError(
            f"expected at least 20 rows and as many targets, found {len(X)} and {len(Y)}."
        )
    r = np.random.default_rng(random_state)
    order = r.permutation(len(X))
    held = max(2, round(test_share * len(X)))
    test, train = order[:held], order[held:]
    shape = input_shape or tuple(X.shape[1:])
    f = module(
        net, width, shape, Y.shape[1], parameterization="standard", random_state=random_state
    )
    assert isinstance(f, FiniteNetwork)
    A, B = (torch.from_numpy(np.ascontiguousarray(v[train])) for v in (X, Y))
    Z = torch.from_numpy(np.ascontiguousarray(X[test]))
    seen = KernelEvolution(Z[:looked_at], Y[test][:looked_at] if Y[test].std() > 0 else None)
    scores = {"kernel before training": _kernel_score(f, A, B, Z, Y[test], classes)}
    stops = set(np.unique(np.geomspace(1, steps, _SNAPSHOTS).round().astype(int)).tolist())
    optimizer = torch.optim.Adam(f.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    seen(f, 0)
    with torch.no_grad():
        before, first = f(A), f(Z)
    f.train()
    for step in range(1, steps + 1):
        rows = torch.from_numpy(r.integers(0, len(A), min(_BATCH, len(A))))
        optimizer.zero_grad()
        if classes:
            loss = torch.nn.functional.cross_entropy(f(A[rows]), B[rows])
        else:
            loss = torch.nn.functional.mse_loss(f(A[rows]) - before[rows], B[rows])
        loss.backward()
        optimizer.step()
        schedule.step()
        if step in stops:
            seen(f, step)
        if callback is not None:
            callback(step, steps, "training")
    f.eval()
    scores["kernel after training"] = _kernel_score(f, A, B, Z, Y[test], classes)
    with torch.no_grad():
        outputs = f(Z) if classes else f(Z) - first
        scores["network"] = _score(outputs.double().numpy(), Y[test], classes)
    return Evolved(seen, scores, f, "accuracy" if classes else "R2")


def _targets(y: Any) -> tuple[NDArray[np.float32], bool]:
    """Columns of targets, and whether they are classes."""
    values = np.asarray(y)
    if values.ndim == 1 and values.dtype.kind not in "f":
        names, at = np.unique(values, return_inverse=True)
        if len(names) < 2:
            raise InvalidInputError(f"expected at least two classes, found {names.tolist()}.")
        return np.eye(len(names), dtype=np.float32)[at], True
    values = values.astype(np.float64).reshape(len(values), -1)
    spread = values.std(0)
    return ((values - values.mean(0)) / np.where(spread > 0, spread, 1)).astype(np.float32), False


def _score(outputs: Floats, Y: NDArray[np.float32], classes: bool) -> float:
    if classes:
        return float(np.mean(outputs.argmax(1) == Y.argmax(1)))
    return float(1.0 - np.mean((outputs - Y) ** 2) / Y.var())


def _kernel_score(
    f: FiniteNetwork,
    A: torch.Tensor,
    B: torch.Tensor,
    Z: torch.Tensor,
    Y: NDArray[np.float32],
    classes: bool,
) -> float:
    """Of ridge regression with the network's kernel as it is."""
    f.eval()
    targets = B.double().numpy()
    mean = targets.mean(0)
    modes = Eigh().init(EmpiricalOperator(f, A), 0.0)
    values, vectors = np.asarray(modes.values), np.asarray(modes.vectors)
    projected = vectors.T @ (targets - mean)
    best, chosen = np.inf, projected
    for ridge in _RIDGES * values.mean():
        shrunk = 1.0 / (np.maximum(values, 0.0) + ridge)
        dual = vectors @ (shrunk[:, None] * projected)
        left = np.einsum("ij,j,ij->i", vectors, shrunk, vectors)
        error = float(np.mean((dual / left[:, None]) ** 2))  # leave-one-out
        if error < best:
            best, chosen = error, dual
    between = EmpiricalOperator(f, Z, A)
    return _score(mean + np.asarray(between @ torch.from_numpy(chosen)), Y, classes)
