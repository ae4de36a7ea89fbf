"""Networks that see images and their mirror images."""

from __future__ import annotations

from dataclasses import dataclass

from kernreg.exceptions import NetworkError
from kernreg.ir.builder import Builder, Ref
from kernreg.nn.arguments import checked
from kernreg.nn.base import Layer

__all__ = ["FlipAugmented", "flip_augmented"]


@dataclass(frozen=True, repr=False)
class FlipAugmented(Layer):
    """Training on images and their mirror images; made by :func:`flip_augmented`."""

    network: Layer

    def __post_init__(self) -> None:
        if not isinstance(self.network, Layer):
            raise NetworkError(f"flip_augmented: network must be a layer, found {self.network!r}.")
        self.check()

    def passes(self) -> bool:
        return self.network.passes()

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the network, whose kernel is averaged over flips."""
        return b.flip(x, self.network.lower, repr(self))

    def __repr__(self) -> str:
        return f"flip_augmented({self.network!r})"


@checked
def flip_augmented(network: Layer) -> FlipAugmented:
    """A whole network whose kernel is averaged over images and their mirror images.

    ``K(x, x') = mean over flips of K(flip x, flip' x')``, left and right exchanged (the last axis
    of positions): kernel regression with it is regression on a training set that holds both, with
    weights that are alike. Where padding is symmetric this is ``(K(x, x') + K(x, flip x')) / 2``,
    at twice the cost; else four kernels are averaged.

    Parameters
    ----------
    network : Layer
        A network for images; nothing may follow.

    Returns
    -------
    FlipAugmented

    References
    ----------
    Li et al., "Enhanced convolutional neural tangent kernels" (2019), section 4.1.

    Examples
    --------
    >>> from kernreg import nn
    >>> net = nn.flip_augmented(nn.myrtle(5))
    """
    return FlipAugmented(network)
