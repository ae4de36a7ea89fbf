"""Displays of networks of finite width, in the style of scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from kernreg.exceptions import InvalidInputError
from kernreg.finite import KernelEvolution, evolve
from kernreg.plotting.style import COLOURS, given_or_new, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["KernelEvolutionDisplay"]


class KernelEvolutionDisplay:
    """What training does to the kernel of a network.

    Parameters
    ----------
    evolution : KernelEvolution
        With at least two snapshots.

    Attributes
    ----------
    ax_, figure_
        Where it was drawn.
    lines_ : list of Line2D
        One for each quantity.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((60, 2))
    >>> shown = KernelEvolutionDisplay.from_network("mlp(depth=1)", X, X[:, 0] > 0, steps=20)
    >>> shown.ax_.get_xlabel(), len(shown.lines_)
    ('training steps', 2)
    """

    def __init__(self, evolution: KernelEvolution) -> None:
        if len(evolution.snapshots) < 2:
            raise InvalidInputError(
                f"expected at least two snapshots, found {len(evolution.snapshots)}."
            )
        self.evolution = evolution

    @classmethod
    def from_network(
        cls, net: Any, X: Any, y: Any, *, ax: Axes | None = None, **options: Any
    ) -> Self:
        """Train a network and draw.

        Parameters
        ----------
        net, X, y, **options
            As for :func:`kernreg.finite.evolve`.
        ax : Axes, optional
            Where to draw.
        """
        return cls(evolve(net, X, y, **options).evolution).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the alignment with the targets, and the cosine with the first kernel."""
        ax = given_or_new(ax)
        steps = self.evolution.column("step")
        drawn = [
            ("alignment", "with the targets"),
            ("similarity", "with the first kernel"),
        ]
        self.lines_ = []
        for number, (name, label) in enumerate(drawn):
            values = self.evolution.column(name)
            if np.isnan(values).all():
                continue
            self.lines_ += ax.plot(
                steps, values, color=COLOURS[number], linewidth=2, marker="o", markersize=3.5,
                label=label,
            )  # fmt: skip
        # Most happens at the beginning; the first snapshot is usually at 0.
        positive = steps[steps > 0]
        if len(positive) and positive.max() > 30 * positive.min():
            ax.set_xscale("symlog", linthresh=float(positive.min()))
        ax.set_xlim(left=0)
        ax.set_ylim(0, 1.05)
        ax.set_xlabel("training steps")
        ax.set_ylabel("cosine of the centred kernel")
        legend_above(ax, ncols=2)
        self.ax_, self.figure_ = ax, ax.figure
        return self
