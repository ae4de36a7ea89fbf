"""What a nonlinearity sees of a pair of inputs, and what it answers.

The engine carries correlations, not covariances: with standard deviations ``s1``, ``s2`` of the
two preactivations, ``rho`` is their correlation and ``gap = 1 - |rho|`` is carried beside it, so
that nearly parallel inputs keep all their digits through any number of layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

__all__ = ["Dual", "Moments", "Pair", "correlation", "normalised"]


@dataclass(frozen=True)
class Pair:
    """Two jointly Gaussian preactivations with mean zero.

    Parameters
    ----------
    rho : value
        Correlation, in [-1, 1].
    gap : value
        ``1 - |rho|``, accurate where ``rho`` itself is not.
    s1, s2 : value
        Standard deviations.
    """

    rho: Any
    gap: Any
    s1: Any
    s2: Any

    @property
    def q1(self) -> Any:
        """Variance of the first preactivation."""
        return self.s1 * self.s1

    @property
    def q2(self) -> Any:
        """Variance of the second preactivation."""
        return self.s2 * self.s2

    @property
    def k(self) -> Any:
        """Covariance."""
        return self.s1 * self.s2 * self.rho


@dataclass(frozen=True)
class Moments:
    """Gaussian averages of a nonlinearity ``phi`` over a :class:`Pair`.

    Parameters
    ----------
    kappa : value
        ``E[phi(u) phi(v)]``.
    kappa_dot : value
        ``E[phi'(u) phi'(v)]``.
    gap : value, optional
        ``1 - |kappa| / sqrt(kappa(u, u) kappa(v, v))`` from a formula without cancellation, not
        negative and exactly 0 for equal rows; left out, it is formed by subtraction, which keeps
        equal rows equal, but leaves nearly equal ones only the digits that a subtraction has.
    """

    kappa: Any
    kappa_dot: Any
    gap: Any = None


def correlation(xp: Any, rho: Any, gap: Any) -> Any:
    """``rho``, from the gap where that is the smaller one and so has more digits.

    What rounding does to ``rho`` would else be handed on, and grown, from layer to layer.
    """
    return xp.where(gap < 0.5, xp.where(rho > 0, 1.0 - gap, gap - 1.0), rho)


def normalised(xp: Any, p: Pair, moments: Moments, rho: Any) -> tuple[Any, Any]:
    """Correlation and gap behind a nonlinearity; ``rho`` is the normalised ``kappa``."""
    gap = moments.gap
    if gap is None:
        # Rounding must not move rows apart that are equal; opposite ones may differ behind it.
        apart = xp.where(p.rho > 0.0, xp.maximum(p.gap, xp.abs(p.s1 - p.s2)), 1.0)
        gap = xp.where(apart > 0.0, xp.maximum(1.0 - xp.abs(rho), 0.0), 0.0)
    return correlation(xp, rho, gap), gap


class Dual(Protocol):
    """A nonlinearity as the compiler sees it (see :class:`kernreg.nn.Nonlinearity`)."""

    homogeneous: ClassVar[int | None]
    parameters: ClassVar[tuple[str, ...]]
    smooth: ClassVar[bool]
    nonnegative: ClassVar[bool]

    @property
    def closed_form(self) -> bool:
        """Whether ``dual`` is written, rather than found by quadrature of ``phi``."""
        ...

    def __hash__(self) -> int: ...

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Gaussian averages, written with the primitives of ``xp``."""
        ...

    def phi(self, xp: Any, x: Any) -> Any:
        """The nonlinearity itself."""
        ...

    def bind(self, values: tuple[Any, ...]) -> Dual:
        """The same nonlinearity with other run-time parameters."""
        ...

    def structure(self) -> tuple[Any, ...]:
        """Everything but the run-time parameters, hashable."""
        ...
