"""Branches and loops of stax."""

from __future__ import annotations

from kernreg import nn
from kernreg.exceptions import NetworkError
from kernreg.stax.kernel import Triple, made, parts_of
from kernreg.stax.parts import Branches, FanIn, Fork, One, Place, network

__all__ = ["FanInConcat", "FanInProd", "FanInSum", "FanOut", "parallel", "repeat"]


def FanOut(num: int) -> Triple:
    """``num`` copies, one for each branch of :func:`parallel`.

    Examples
    --------
    >>> from kernreg import stax
    >>> block = stax.serial(stax.Relu(), stax.Dense(1))
    >>> both = stax.parallel(stax.Identity(), block)
    >>> stax.serial(stax.FanOut(2), both, stax.FanInSum()).kernel_fn.network
    serial(parallel(serial(Identity()), serial(Relu(), Dense(b_std=None))))
    """
    if int(num) != num or num < 1:
        raise NetworkError(f"FanOut: num must be a whole number from 1 on, found {num!r}.")
    return made((Fork(int(num)),))


def parallel(*layers: Triple) -> Triple:
    """A layer for each copy that :func:`FanOut` made.

    Examples
    --------
    >>> from kernreg import stax
    >>> layers = stax.serial(stax.Dense(64), stax.Erf(), stax.Dense(1))
    >>> branches = stax.parallel(stax.Dense(1), layers)
    >>> stax.serial(stax.FanOut(2), branches, stax.FanInSum()).kernel_fn.network
    serial(parallel(serial(Dense(b_std=None)), serial(Dense(b_std=None), Erf(), Dense(b_std=None))))
    """
    return made((Branches(tuple(parts_of("parallel", layers))),))


def FanInSum() -> Triple:
    """The sum of branches, each of which ends in weights of its own.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> twice = stax.parallel(stax.Dense(1), stax.Dense(1))
    >>> _, _, kernel_fn = stax.serial(stax.FanOut(2), twice, stax.FanInSum())
    >>> kernel_fn(np.ones((1, 3)), None, "nngp").round(6).tolist()
    [[2.0]]
    """
    return made((FanIn("sum"),))


def FanInProd() -> Triple:
    """The product of branches.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> twice = stax.parallel(stax.Dense(1), stax.Dense(1, W_std=3.0))
    >>> _, _, kernel_fn = stax.serial(stax.FanOut(2), twice, stax.FanInProd())
    >>> kernel_fn(np.ones((1, 3)), None, "nngp").round(6).tolist()
    [[9.0]]
    """
    return made((FanIn("product"),))


def FanInConcat(axis: int = -1) -> Triple:
    """Branches side by side along the channels (``axis=-1``) or along an axis of positions.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> twice = stax.parallel(stax.Dense(1), stax.Dense(1, W_std=3.0))
    >>> _, _, kernel_fn = stax.serial(stax.FanOut(2), twice, stax.FanInConcat())
    >>> kernel_fn(np.ones((1, 3)), None, "nngp").round(6).tolist()
    [[5.0]]
    """
    return made((FanIn("concat", int(axis)),))


def repeat(layer: Triple, n: int) -> Triple:
    """``n`` copies of a layer, kept as a loop: its code is translated once.

    Examples
    --------
    >>> from kernreg import stax
    >>> block = stax.serial(stax.Dense(64), stax.Relu())
    >>> stax.serial(stax.repeat(block, 3), stax.Dense(1)).kernel_fn.network
    serial(repeat(serial(Dense(b_std=None), Relu()), 3), Dense(b_std=None))
    """
    (parts,) = parts_of("repeat", (layer,))
    if int(n) != n or n < 1:
        raise NetworkError(f"repeat: n must be a whole number from 1 on, found {n!r}.")
    count = int(n)

    def build(place: Place) -> tuple[nn.Layer, Place]:
        first, behind = network(parts, place)
        if count == 1:
            return first, behind
        again, behind = network(parts, behind)
        if again == first:
            return nn.repeat(first, count), behind
        # In the standard parameterization the first copy may have inputs of another width.
        return nn.serial(first, nn.repeat(again, count - 1)), behind

    return made((One(build),))
