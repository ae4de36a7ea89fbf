"""The networks that ``kernreg baseline`` tries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from kernreg import nn
from kernreg.baseline.scaling import Kind
from kernreg.estimators.alphas import ALPHAS

__all__ = [
    "ALPHAS",
    "GAUSSIAN",
    "LAPLACE",
    "RADIAL",
    "Candidate",
    "convolutions",
    "networks",
    "on_learned_scales",
    "radial",
]

GAUSSIAN = "Gaussian kernel"
LAPLACE = "Laplace kernel"
RADIAL = (GAUSSIAN, LAPLACE)
"""The kernels of distances that networks are compared with."""
CONVOLUTION = "convolution"


@dataclass(frozen=True)
class Candidate:
    """A kernel family to be scored: a network, or a kernel of distances it is compared with.

    Parameters
    ----------
    scaling : {"standard", "common", "channel", "learned"}
        Scaling of the inputs.
    family : str
        Name of the nonlinearity, :data:`CONVOLUTION`, or one of :data:`RADIAL`.
    network : Layer or None
        The network; None for a kernel of distances.
    depth : int
        Hidden layers.
    W_std, b_std : float
        Of every dense layer.
    unit_rows : bool
        Whether the network first normalises each row.
    gamma : float
        Of the kernels of distances ``exp(-gamma |x - x'|^2 / d)`` and
        ``exp(-gamma |x - x'| / sqrt(d))``.
    """

    scaling: Kind
    family: str
    network: nn.Layer | None
    depth: int = 0
    W_std: float = 0.0
    b_std: float = 0.0
    unit_rows: bool = False
    gamma: float = 0.0

    @property
    def kernels(self) -> tuple[str, ...]:
        """Names of the kernels that the candidate gives."""
        if self.network is None:
            return ("rbf",) if self.family == GAUSSIAN else ("laplace",)
        return ("nngp", "ntk")

    def describe(self) -> str:
        """The settings in words."""
        if self.network is None:
            per = "d" if self.family == GAUSSIAN else "sqrt(d)"
            return f"gamma = {self.gamma:g} / {per}, {self.scaling} scaling"
        plural = "s" if self.depth > 1 else ""
        if self.family == CONVOLUTION:
            return (
                f"{self.depth} convolutions of 3 x 3, Relu, W_std = {self.W_std:g}, "
                f"b_std = {self.b_std:g}, channels scaled"
            )
        rows = " of unit norm" if self.unit_rows else ""
        return (
            f"{self.depth} hidden layer{plural}, W_std = {self.W_std:g}, b_std = {self.b_std:g}, "
            f"{self.scaling} inputs{rows}"
        )

    def grams(self, X: np.ndarray) -> Iterator[np.ndarray]:
        """Kernel matrices, shape (n, n), in the order of :attr:`kernels`, from one pass."""
        if self.network is None:
            yield self.of_distances(X, X)
            return
        from kernreg import gram

        yield from gram(self.network, X, kernel=("nngp", "ntk"))

    def of_distances(self, X: np.ndarray, Z: np.ndarray) -> np.ndarray:
        """Entries of a kernel of :data:`RADIAL` between rows, shape (n, m)."""
        from sklearn.metrics.pairwise import euclidean_distances

        gaussian, d = self.family == GAUSSIAN, X.shape[1]
        K = euclidean_distances(X, None if Z is X else Z, squared=gaussian)
        K *= -self.gamma / (d if gaussian else d**0.5)
        return np.asarray(np.exp(K, out=K))


def networks(scalings: tuple[Kind, ...], quick: bool = False) -> list[Candidate]:
    """The grid of networks.

    Parameters
    ----------
    scalings : tuple of {"standard", "common"}
        Scalings of the inputs to try; with ``"common"`` each network is also tried on rows of
        unit norm.
    quick : bool
        A grid of a quarter of the size.

    Returns
    -------
    list of Candidate

    Notes
    -----
    ``W_std`` sets how nonlinear the first layer sees the data (for homogeneous nonlinearities
    only ``b_std / W_std`` matters), ``b_std`` how far functions may shift from the origin. The
    kernel of one hidden layer of ``Rbf`` is the Gaussian kernel, so the grid contains Gaussian
    kernel regression.
    """
    grid = []
    for scaling in scalings:
        for unit_rows in (False, True) if scaling == "common" else (False,):
            for activation, depth, W_std, b_std in _shapes(quick):
                network: nn.Layer = nn.mlp(depth, activation, W_std, b_std)
                if unit_rows:
                    network = nn.serial(nn.Dense(), nn.LayerNorm(), network)
                family = type(activation).__name__
                grid.append(Candidate(scaling, family, network, depth, W_std, b_std, unit_rows))
    return grid


def convolutions(shape: tuple[int, ...] | None, quick: bool = False) -> list[Candidate]:
    """Convolutional networks for images, their positions read each for itself.

    Parameters
    ----------
    shape : tuple of int or None
        Of the images, without or with channels; there are none for rows, and for images of fewer
        than three positions along an axis.
    quick : bool
        Fewer.

    Notes
    -----
    Pooling would cost a thousand times as much: see ``kernreg fit --network 'myrtle(5)'``.
    """
    shape = None if shape is None else shape if len(shape) > 2 else (*shape, 1)
    if shape is None or len(shape) != 3 or min(shape[:2]) < 3:
        return []
    grid, root2 = [], round(2**0.5, 4)
    for depth in (8,) if quick else (2, 4, 8):
        for b_std in (0.0,) if quick else (0.0, 0.3):
            conv = nn.cnn(depth, W_std=root2, b_std=b_std, readout="flatten")
            network = nn.serial(nn.Unflatten(shape), conv)
            grid.append(Candidate("channel", CONVOLUTION, network, depth, root2, b_std))
    return grid


def on_learned_scales(best: Candidate) -> list[Candidate]:
    """Networks to be tried on columns whose scales were learned with one of them.

    Parameters
    ----------
    best : Candidate
        Tried too, without its own normalisation of rows.
    """
    assert best.network is not None
    found = {}
    for activation, depth, b_std in (
        (nn.Relu(), 1, 0.3),
        (nn.Relu(), 2, 0.3),
        (nn.Relu(), 3, 0.3),
        (nn.Erf(), 1, 0.3),
        (nn.Rbf(), 1, 0.0),
    ):
        W_std = 1.0 if isinstance(activation, nn.Rbf) else round(2**0.5, 4)
        network = nn.mlp(depth, activation, W_std, b_std)
        family = type(activation).__name__
        found[repr(network)] = Candidate("learned", family, network, depth, W_std, b_std)
    found[repr(best.network)] = replace(best, scaling="learned")
    return list(found.values())


def _shapes(quick: bool) -> Iterator[tuple[nn.Nonlinearity, int, float, float]]:
    root2 = round(2**0.5, 4)
    plan: list[tuple[nn.Nonlinearity, tuple[int, ...], tuple[float, ...], tuple[float, ...]]]
    if quick:
        plan = [
            (nn.Relu(), (1, 3), (root2,), (0.1, 1.0)),
            (nn.Erf(), (1, 3), (1.0, 4.0), (1.0,)),
            (nn.Rbf(1.0), (1,), (0.25, 0.5, 1.0), (0.0,)),
        ]
    else:
        plan = [
            (nn.Relu(), (1, 2, 3, 5), (root2,), (0.0, 0.3, 1.0, 3.0)),
            (nn.Abs(), (1, 3), (1.0,), (0.3, 1.0, 3.0)),
            (nn.Gelu(), (1, 2, 4), (1.0, 2.0), (0.1, 1.0)),
            (nn.Erf(), (1, 2, 3), (0.5, 1.0, 2.0, 4.0), (0.3, 1.0, 3.0)),
            (nn.Rbf(1.0), (1, 2), (0.25, 0.5, 1.0, 2.0), (0.0,)),
        ]
    for activation, depths, W_stds, b_stds in plan:
        for depth in depths:
            for W_std in W_stds:
                for b_std in b_stds:
                    yield activation, depth, W_std, b_std


def radial(family: str, scalings: tuple[Kind, ...], quick: bool = False) -> list[Candidate]:
    """Kernels of distances for the comparison, by bandwidth.

    Parameters
    ----------
    family : str
        One of :data:`RADIAL`.
    scalings : tuple of {"standard", "common"}
        Scalings of the inputs.
    quick : bool
        Fewer.
    """
    gammas = [0.1, 0.4, 1.6]
    if not quick and family == GAUSSIAN:
        gammas = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
    elif not quick:
        gammas = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0]
    return [Candidate(s, family, None, gamma=gamma) for s in scalings for gamma in gammas]
