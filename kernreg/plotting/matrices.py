"""Displays of kernel matrices and their spectra, in the style of scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.operators import gram
from kernreg.plotting.style import COLOURS, STYLE, colour_bar, given_or_new, legend_above
from kernreg.theory.eigenlearning.spectra import sample_spectrum
from kernreg.theory.eigenlearning.spectrum import Spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["GramDisplay", "SpectrumDisplay"]

# A matrix of more rows is drawn from as many of them, evenly spaced.
_MOST = 1000


class GramDisplay:
    """A kernel matrix as correlations, rows in the order of their targets.

    Parameters
    ----------
    K : ndarray of shape (n, n)
        Kernel matrix with a positive diagonal.
    targets : ndarray of shape (n,), optional
        Numbers or labels by which rows are ordered.

    Attributes
    ----------
    ax_, figure_
        Where it was drawn.

    Examples
    --------
    >>> from kernreg import nn
    >>> shown = GramDisplay.from_data(nn.mlp(1), np.eye(3), ["b", "a", "b"])
    >>> shown.order_.tolist()
    [1, 0, 2]
    """

    def __init__(self, K: NDArray[Any], targets: Any = None) -> None:
        K = np.asarray(K)
        if K.ndim != 2 or K.shape[0] != K.shape[1]:
            raise InvalidInputError(
                f"expected a kernel matrix of shape (n, n), found shape {K.shape}."
            )
        if not np.isfinite(K).all() or not (K.diagonal() > 0).all():
            raise InvalidInputError(
                "expected finite numbers and a positive diagonal, found entries from "
                f"{np.min(K):g} to {np.max(K):g} and a diagonal from {np.min(K.diagonal()):g}."
            )
        if targets is not None and np.shape(targets) != (len(K),):
            raise InvalidInputError(
                f"expected {len(K)} targets, one per row, found shape {np.shape(targets)}."
            )
        self.K = K
        self.targets = None if targets is None else np.asarray(targets)

    @classmethod
    def from_data(
        cls, net: Any, X: Any, y: Any = None, *, kernel: str = "ntk", ax: Axes | None = None
    ) -> Self:
        """Evaluate and draw.

        Parameters
        ----------
        net : Layer
            The network.
        X : array of shape (n, d)
            Rows; of more than 1,000 as many are taken, evenly spaced.
        y : array of shape (n,), optional
            Targets or labels.
        kernel : {"ntk", "nngp"}
            Which kernel.
        ax : Axes, optional
            Where to draw.
        """
        rows = np.unique(np.linspace(0, len(X) - 1, min(len(X), _MOST)).astype(int))
        taken = np.asarray(X)[rows]
        return cls(
            gram(net, taken, kernel=kernel), None if y is None else np.asarray(y)[rows]
        ).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw ``K_ij / sqrt(K_ii K_jj)``."""
        ax = given_or_new(ax)
        n = len(self.K)
        self.order_ = np.arange(n)
        if self.targets is not None:
            self.order_ = np.argsort(self.targets, kind="stable")
        scale = np.sqrt(self.K.diagonal().astype(np.float64))
        shown = (self.K / np.outer(scale, scale))[np.ix_(self.order_, self.order_)]
        least = min(0.0, float(shown.min()))
        image = ax.imshow(shown, cmap="viridis", vmin=least, vmax=1.0, interpolation="nearest")
        colour_bar(image, ax, "correlation")
        ax.grid(False)
        ax.set_xlabel("row" if self.targets is None else "row, ordered by target")
        ax.set_ylabel("row")
        self.ax_, self.figure_ = ax, ax.figure
        return self


class SpectrumDisplay:
    """Eigenvalues of a kernel, and the share of the target in the leading modes.

    Parameters
    ----------
    spectrum : Spectrum
        From :mod:`kernreg.theory.eigenlearning.spectra`.

    Attributes
    ----------
    ax_, figure_
        Where it was drawn.

    Examples
    --------
    >>> shown = SpectrumDisplay(Spectrum([1.0, 0.1], power=[0.5, 0.5])).plot()
    >>> shown.ax_.get_ylabel()
    'eigenvalue'
    """

    def __init__(self, spectrum: Spectrum) -> None:
        self.spectrum = spectrum

    @classmethod
    def from_data(
        cls, net: Any, X: Any, y: Any = None, *, kernel: str = "ntk", ax: Axes | None = None
    ) -> Self:
        """Decompose and draw.

        Parameters
        ----------
        net, X, y, kernel
            As for :func:`kernreg.theory.eigenlearning.sample_spectrum`.
        ax : Axes, optional
            Where to draw.
        """
        return cls(sample_spectrum(net, X, y, kernel)).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw eigenvalues by rank; with a target, its share beyond each rank."""
        from matplotlib import rc_context

        ax = given_or_new(ax)
        found = self.spectrum
        order = np.argsort(-found.values, kind="stable")
        values = found.values[order]
        rank = np.cumsum(found.multiplicity[order])
        positive = values > 0
        ax.loglog(
            rank[positive], values[positive], color=COLOURS[0], marker=".", label="eigenvalue"
        )
        ax.set_xlabel("rank")
        ax.set_ylabel("eigenvalue")
        if found.power is not None:
            total = float(found.power.sum()) + found.tail_power
            missing = 1.0 - np.cumsum(found.power[order]) / total
            with rc_context(STYLE):
                share = ax.twinx()
            share.semilogx(
                rank, missing, color=COLOURS[1], linestyle="--", label="target beyond this rank"
            )
            share.set_ylim(0.0, 1.0)
            share.set_ylabel("share of the target", color=COLOURS[1])
            lines = [*ax.get_lines(), *share.get_lines()]
            legend_above(ax, lines)
        self.ax_, self.figure_ = ax, ax.figure
        return self
