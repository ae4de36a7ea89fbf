"""Kernels of networks that are written as in stax."""

from __future__ import annotations

from collections import namedtuple
from typing import Any, NamedTuple, NoReturn

import numpy as np

from kernreg import nn
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.operators import diag, gram
from kernreg.stax.parts import One, Parts, Place, network

__all__ = ["Kernel", "KernelFn", "Triple", "batch", "layer", "serial"]

_FINITE = (
    "kernels here are those of infinite width; kernreg.finite.module(kernel_fn.network, width, "
    "input_shape) is a torch module of the same network."
)


class Kernel(NamedTuple):
    """All that a kernel function knows of some rows.

    Parameters
    ----------
    nngp, ntk : ndarray of shape (n1, n2)
        Kernels.
    cov1, cov2 : ndarray of shape (n1,), (n2,), or None
        NNGP of each row with itself; ``cov2`` is None where there is one set of rows.
    x1_is_x2 : bool
        Whether there is.

    Examples
    --------
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(8), stax.Erf(), stax.Dense(1))
    >>> found = kernel_fn(np.eye(3), np.ones((2, 3)))
    >>> found.ntk.shape, found.cov1.round(3).tolist(), found.x1_is_x2
    ((3, 2), [0.262, 0.262, 0.262], False)
    """

    nngp: Any
    ntk: Any
    cov1: Any
    cov2: Any
    x1_is_x2: bool

    def replace(self, **changes: Any) -> Kernel:
        """A copy with other values of some fields."""
        return self._replace(**changes)


class KernelFn:
    """``kernel_fn(x1, x2=None, get=None)`` of a network.

    Parameters
    ----------
    parts : tuple
        What the network is made of.

    Examples
    --------
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(8), stax.Relu(), stax.Dense(1))
    >>> kernel_fn
    KernelFn(serial(Dense(b_std=None), Relu(), Dense(b_std=None)))
    >>> kernel_fn(np.eye(2), None, ("nngp", "ntk")).ntk.round(3).tolist()
    [[0.5, 0.08], [0.08, 0.5]]
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def __repr__(self) -> str:
        try:
            return f"KernelFn({self.network!r})"
        except NetworkError:
            return "KernelFn(part of a network)"

    @property
    def network(self) -> nn.Layer:
        """The network of kernreg.

        Raises
        ------
        NetworkError
            If this is a part of a network only, or its widths depend on the data.
        """
        return network(self.parts)[0]

    def __call__(self, x1: Any, x2: Any = None, get: Any = None, **options: Any) -> Any:
        """Kernels between rows.

        Parameters
        ----------
        x1, x2 : array-like of shape (n, features) or (n, *positions, channels)
            Data; ``x2`` is ``x1`` if left out or equal to it, which saves half the time.
        get : {"nngp", "ntk", "cov1", "cov2", "x1_is_x2"}, tuple of these or None
            What is wanted; everything if left out.
        **options
            ``mask_constant``, ``pattern``, ``diagonal_batch`` and ``diagonal_spatial`` may be
            None only.

        Returns
        -------
        ndarray, namedtuple of what was asked for, or Kernel

        Raises
        ------
        InvalidInputError
            If an option or something asked for is not here, or the data do not fit the network.

        Notes
        -----
        Time O(n1 n2 layers), memory that of the result; see :func:`kernreg.gram`.
        """
        known = ("mask_constant", "pattern", "diagonal_batch", "diagonal_spatial")
        for name, value in options.items():
            if name not in known or value is not None:
                raise InvalidInputError(
                    f"kernel_fn: {name}={value!r} has no counterpart; expected x1, x2 and get."
                )
        x1 = _rows("x1", x1)
        x2 = None if x2 is None else _rows("x2", x2)
        names = Kernel._fields if get is None else (get,) if isinstance(get, str) else tuple(get)
        unknown = [name for name in names if name not in Kernel._fields]
        if unknown:
            raise InvalidInputError(
                f"kernel_fn: get must be among {', '.join(Kernel._fields)}, found {unknown[0]!r}."
            )
        net = network(self.parts, Place(x1.shape[-1], x1.shape[1:-1]))[0]
        # Equal rows are the same rows: dropout sees to that.
        same = x2 is None or np.array_equal(x1, x2)
        found: dict[str, Any] = {"x1_is_x2": same}
        kernels = tuple(name for name in ("nngp", "ntk") if name in names)
        if kernels:
            found |= dict(
                zip(kernels, gram(net, x1, None if same else x2, kernel=kernels), strict=True)
            )
        for name, rows in (("cov1", x1), ("cov2", x2)):
            if name in names:
                found[name] = None if rows is None else diag(net, rows, kernel="nngp")
        if get is None:
            return Kernel(**found)
        if isinstance(get, str):
            return found[get]
        return namedtuple("Kernels", names)(**{name: found[name] for name in names})


class Triple(NamedTuple):
    """What every function of stax returns: ``init_fn, apply_fn, kernel_fn``.

    The first two raise: networks of finite width are torch modules, of :mod:`kernreg.finite`.

    Examples
    --------
    >>> from kernreg import stax
    >>> init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(8), stax.Relu(), stax.Dense(1))
    >>> init_fn(0, (2,))
    Traceback (most recent call last):
    ...
    kernreg.exceptions.InvalidInputError: init_fn, apply_fn: kernels here are those of ...
    """

    init_fn: Any
    apply_fn: Any
    kernel_fn: KernelFn


def _finite(*_: Any, **__: Any) -> NoReturn:
    raise InvalidInputError(f"init_fn, apply_fn: {_FINITE}")


def made(parts: Parts) -> Triple:
    """The triple of some parts."""
    return Triple(_finite, _finite, KernelFn(parts))


def layer(built: nn.Layer) -> Triple:
    """The triple of a layer that leaves channels and positions as they are."""
    return made((One(lambda place: (built, place)),))


def parts_of(name: str, triples: tuple[Any, ...]) -> list[Parts]:
    """The parts of arguments."""
    found = []
    for k, triple in enumerate(triples):
        last = triple[-1] if isinstance(triple, tuple) and len(triple) == 3 else None
        if not isinstance(last, KernelFn):
            raise NetworkError(
                f"{name}: argument {k} must be what a function of kernreg.stax returned, found "
                f"{triple!r}."
            )
        found.append(last.parts)
    return found


def serial(*layers: Triple) -> Triple:
    """Layers one after another.

    Parameters
    ----------
    *layers : Triple
        Of functions of this module.

    Returns
    -------
    Triple

    Raises
    ------
    NetworkError
        If an argument is no such layer, or layers do not fit: then when a kernel is asked for.

    Examples
    --------
    >>> from kernreg import stax
    >>> stax.serial(stax.Dense(8, W_std=1.5), stax.Relu(), stax.Dense(1)).kernel_fn.network
    serial(Dense(W_std=1.5, b_std=None), Relu(), Dense(b_std=None))
    """
    return made(tuple(part for parts in parts_of("serial", layers) for part in parts))


def batch(
    kernel_fn: KernelFn, batch_size: int = 0, device_count: int = -1, store_on_device: bool = True
) -> KernelFn:
    """The kernel function itself: kernels are made in tiles anyway, and of any number of rows.

    Parameters
    ----------
    kernel_fn : KernelFn
        Of a network.
    batch_size, device_count, store_on_device
        Without effect.

    Examples
    --------
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(8), stax.Relu(), stax.Dense(1))
    >>> stax.batch(kernel_fn, batch_size=64) is kernel_fn
    True
    """
    return kernel_fn


def _rows(name: str, values: Any) -> np.ndarray:
    if isinstance(values, Kernel | KernelFn):
        raise InvalidInputError(
            f"kernel_fn: {name} must be an array of rows; put layers together with stax.serial "
            "instead of kernels."
        )
    rows = np.asarray(values)
    if rows.ndim < 2:
        raise InvalidInputError(
            f"kernel_fn: expected {name} of shape (n, features) or (n, *positions, channels), "
            f"found {rows.shape}."
        )
    return rows
