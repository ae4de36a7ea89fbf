"""Taylor expansions of modules in their parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, jvp

from kernreg.exceptions import InvalidInputError

__all__ = ["TaylorModule", "linearized", "taylor"]


class TaylorModule(torch.nn.Module):
    """A module's Taylor polynomial in its parameters; made by :func:`taylor`.

    Attributes
    ----------
    module : Module
        Holds the parameters that are trained.
    degree : int
        Of the polynomial.

    Examples
    --------
    >>> f = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    >>> linear = linearized(f)
    >>> linear.degree, sorted(linear.start())
    (1, ['0.bias', '0.weight', '2.bias', '2.weight'])
    """

    def __init__(self, module: torch.nn.Module, degree: int) -> None:
        super().__init__()
        self.module, self.degree = copy.deepcopy(module), degree
        self._names = [name for name, _ in self.module.named_parameters()]
        for k, p in enumerate(self.module.parameters()):
            self.register_buffer(f"start_{k}", p.detach().clone())

    def start(self) -> dict[str, Tensor]:
        """The parameters that the expansion is around."""
        return {name: self.get_buffer(f"start_{k}") for k, name in enumerate(self._names)}

    def forward(self, X: Tensor) -> Tensor:
        """The polynomial at the parameters as they are."""
        start, now = self.start(), dict(self.module.named_parameters())

        def along(step: Tensor) -> Tensor:
            moved = {n: start[n] + step * (now[n] - start[n]) for n in start}
            found: Tensor = functional_call(self.module, moved, (X,))
            return found

        def slope(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            def derivative(step: Tensor) -> Tensor:
                found: Tensor = jvp(f, (step,), (torch.ones_like(step),))[1]
                return found

            return derivative

        zero = next(iter(start.values())).new_zeros(())
        f: Callable[[Tensor], Tensor] = along
        total = f(zero)
        for order in range(1, self.degree + 1):
            f = slope(f)
            total = total + f(zero) / math.factorial(order)
        return total


def taylor(module: torch.nn.Module, degree: int) -> TaylorModule:
    """Expand a module in its parameters, around those that it has.

    Parameters
    ----------
    module : Module
        A copy is taken.
    degree : int
        From 0 on; 1 is the linear model whose training the tangent kernel describes.

    Returns
    -------
    TaylorModule
        A module with the same parameters, which can be trained.

    Raises
    ------
    InvalidInputError
        If the degree is no whole number from 0 on.

    Notes
    -----
    A value costs ``2^degree`` of the module's.

    Examples
    --------
    >>> f = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    >>> X = torch.ones(4, 2)
    >>> bool(torch.allclose(taylor(f, 2)(X), f(X)))
    True
    """
    given: Any = degree
    if not isinstance(given, int) or type(given) is bool or given < 0:
        raise InvalidInputError(f"degree must be a whole number from 0 on, found {degree!r}.")
    if next(module.parameters(), None) is None:
        raise InvalidInputError(f"{type(module).__name__} has no parameters to expand in.")
    return TaylorModule(module, int(degree))


def linearized(module: torch.nn.Module) -> TaylorModule:
    """The linear model ``f(x; p0) + <df/dp, p - p0>`` of a module, see :func:`taylor`.

    Parameters
    ----------
    module : Module
        A copy is taken.

    Returns
    -------
    TaylorModule

    References
    ----------
    Lee et al., "Wide neural networks of any depth evolve as linear models" (2019), equation 3.

    Examples
    --------
    >>> f = torch.nn.Linear(2, 1)
    >>> bool(torch.allclose(linearized(f)(torch.ones(1, 2)), f(torch.ones(1, 2))))
    True
    """
    return taylor(module, 1)
