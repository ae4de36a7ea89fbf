"""The Mercer spectrum of a kernel, and how a target is spread over it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.theory.checks import check_count, check_number

__all__ = ["Spectrum", "as_spectrum"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues of a kernel as an integral operator over a distribution of inputs.

    Parameters
    ----------
    values : ndarray of shape (m,)
        Eigenvalues, one per level, not negative; zeros are modes that the kernel cannot express.
    multiplicity : ndarray of shape (m,) or float, default=1
        Number of eigenfunctions of a level.
    tail : float, default=0
        Sum of all eigenvalues that are left out. For a sample it acts as a ridge.
    power : ndarray of shape (m,), optional
        Mean square of the target function within each level, summed over outputs.
    tail_power : float, default=0
        Mean square of the target outside of all levels; it is never learned.
    size : float, default=inf
        Number of points of the domain.

    Raises
    ------
    InvalidInputError
        If shapes do not fit, a number is NaN, negative or infinite, or no eigenvalue is positive.

    Examples
    --------
    >>> spectrum = Spectrum([1.0, 0.1], multiplicity=[1, 10], power=[0.0, 2.0])
    >>> spectrum.trace, spectrum.modes
    (2.0, 11.0)
    """

    values: Array
    multiplicity: Array = field(default_factory=lambda: np.ones(()))
    tail: float = 0.0
    power: Array | None = None
    tail_power: float = 0.0
    size: float = math.inf

    def __post_init__(self) -> None:
        values = _one_dimensional("values", self.values)
        if not (values > 0).any():
            raise InvalidInputError(
                f"expected a spectrum with a positive eigenvalue, found none among {len(values)}."
            )
        multiplicity = np.asarray(self.multiplicity, dtype=np.float64)
        if multiplicity.ndim == 0:
            multiplicity = np.full(values.shape, float(multiplicity))
        multiplicity = _one_dimensional("multiplicity", multiplicity, len(values))
        if not (multiplicity > 0).all():
            raise InvalidInputError(
                f"expected multiplicities > 0, found {float(multiplicity.min()):g}."
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "multiplicity", multiplicity)
        if self.power is not None:
            object.__setattr__(self, "power", _one_dimensional("power", self.power, len(values)))
        for name in ("tail", "tail_power"):
            object.__setattr__(self, name, check_number(name, getattr(self, name)))
        if not self.size > 0:
            raise InvalidInputError(f"size must be > 0, found {self.size!r}.")

    @property
    def trace(self) -> float:
        """Sum of all eigenvalues: the mean of ``K(x, x)``."""
        return float(self.multiplicity @ self.values) + self.tail

    @property
    def modes(self) -> float:
        """Number of eigenfunctions with a positive eigenvalue."""
        return float(self.multiplicity[self.values > 0].sum())

    def truncated(self, levels: int) -> Spectrum:
        """The largest eigenvalues; the others go to ``tail``, their power to ``tail_power``.

        Parameters
        ----------
        levels : int
            How many levels to keep.

        Returns
        -------
        Spectrum

        Examples
        --------
        >>> Spectrum([1.0, 0.5, 0.25], power=[1.0, 2.0, 3.0]).truncated(1).tail
        0.75
        """
        if check_count("levels", levels, 1) > len(self.values):
            raise InvalidInputError(
                f"the spectrum has {len(self.values)} levels, asked for {levels}."
            )
        order = np.argsort(-self.values, kind="stable")
        kept, rest = np.sort(order[:levels]), order[levels:]
        tail = self.tail + float(self.multiplicity[rest] @ self.values[rest])
        kept_power, tail_power = None, self.tail_power
        if self.power is not None:
            kept_power, tail_power = self.power[kept], tail_power + float(self.power[rest].sum())
        return Spectrum(
            self.values[kept], self.multiplicity[kept], tail, kept_power, tail_power, self.size
        )


def as_spectrum(spectrum: Any) -> Spectrum:
    """A spectrum, from itself or from an array of eigenvalues of multiplicity 1.

    Examples
    --------
    >>> as_spectrum([2.0, 1.0]).modes
    2.0
    """
    return spectrum if isinstance(spectrum, Spectrum) else Spectrum(spectrum)


def _one_dimensional(name: str, values: Any, length: int | None = None) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or (length is not None and len(array) != length):
        expected = "(m,)" if length is None else f"({length},), one number per level,"
        raise InvalidInputError(f"{name} must be of shape {expected} found {array.shape}.")
    if not np.isfinite(array).all() or (array < 0).any():
        raise InvalidInputError(
            f"{name} must be finite and >= 0, found {array.min():g} to {array.max():g}."
        )
    return array
