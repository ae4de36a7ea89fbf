"""The kernel of a network as a kernel of GPyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernreg import nn
from kernreg.estimators.gaussian_process.hyperparameters import parameters_of
from kernreg.exceptions import InvalidInputError
from kernreg.operators import diag, gram
from kernreg.operators.autograd import carry_numbers
from kernreg.operators.inputs import check_network

try:
    from gpytorch.kernels import Kernel
except ImportError as error:
    raise ImportError(
        "kernreg.interop.gpytorch needs GPyTorch, which is not here: pip install gpytorch"
    ) from error

__all__ = ["NetworkKernel"]


class NetworkKernel(Kernel):
    """The kernel of a network whose numbers GPyTorch trains.

    Parameters
    ----------
    network : Layer or str, optional
        The network, from :mod:`kernreg.nn`, or its code; ``nn.mlp(depth=3)`` if left out.
    kernel : {"nngp", "ntk"}, default="nngp"
        Which kernel of it.
    learn : bool, default=True
        Whether standard deviations that are not 0, and numbers of nonlinearities, are parameters of
        the module: the former by their logarithm, ``log_W_std``, the latter by their name.
    **options
        Of :class:`gpytorch.kernels.Kernel`, such as ``active_dims``.

    Raises
    ------
    InvalidInputError
        If ``kernel`` is something else.

    Notes
    -----
    Gradients go to rows too. Those by a number of the network take four Gram matrices.

    Examples
    --------
    >>> kernel = NetworkKernel("mlp(depth=1)")
    >>> [name for name, _ in kernel.named_parameters()]
    ['log_W_std', 'log_b_std']
    >>> kernel(torch.eye(3, dtype=torch.float64)).to_dense().shape
    torch.Size([3, 3])
    """

    has_lengthscale = False

    def __init__(
        self,
        network: nn.Layer | str | None = None,
        kernel: str = "nngp",
        learn: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if kernel not in ("nngp", "ntk"):
            raise InvalidInputError(f"kernel must be nngp or ntk, found {kernel!r}.")
        self.kind = kernel
        self._given = nn.mlp(depth=3) if network is None else check_network(network)
        self._learned = parameters_of(self._given, 1.0).parameters if learn else ()
        for p in self._learned:
            start = torch.tensor(p.coordinate, dtype=torch.float64)
            self.register_parameter(_name(p.name, p.scale), torch.nn.Parameter(start))

    @property
    def network(self) -> nn.Layer:
        """The network with the numbers as they are now."""
        values = {name: float(value.detach()) for name, value in self._numbers().items()}
        return self._given.with_params(**values) if values else self._given

    def _numbers(self) -> dict[str, Tensor]:
        found = {}
        for p in self._learned:
            value = getattr(self, _name(p.name, p.scale))
            found[p.name] = value.exp() if p.scale else value
        return found

    def forward(
        self, x1: Tensor, x2: Tensor, diag: bool = False, last_dim_is_batch: bool = False, **_: Any
    ) -> Tensor:
        """Entries between rows, or those of each row with itself.

        Parameters
        ----------
        x1, x2 : Tensor of shape (..., n, d), (..., m, d)
            Rows, in batches that fit each other.
        diag : bool
            Whether only pairs of equal numbers are wanted.
        last_dim_is_batch : bool
            False only.

        Returns
        -------
        Tensor of shape (..., n, m), or (..., n)
        """
        if last_dim_is_batch:
            raise InvalidInputError("a network reads whole rows: last_dim_is_batch has no meaning.")
        if x1.ndim == x2.ndim == 2:
            return self._entries(x1, x2, diag)
        shape = torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
        first, second = (x.expand(*shape, *x.shape[-2:]).flatten(0, -3) for x in (x1, x2))
        each = [self._entries(a, b, diag) for a, b in zip(first, second, strict=True)]
        return torch.stack(each).unflatten(0, shape)

    def _entries(self, x1: Tensor, x2: Tensor, only_diagonal: bool) -> Tensor:
        same = x1.shape == x2.shape and bool(torch.equal(x1, x2))
        if only_diagonal and same:
            return self._diagonal(x1)
        numbers = self._numbers()
        found: Tensor = gram(self._given, x1, None if same else x2, self.kind, params=numbers)
        return found.diagonal() if only_diagonal else found

    def _diagonal(self, x: Tensor) -> Tensor:
        found: Tensor = diag(self.network, x, self.kind)
        numbers = {k: v for k, v in self._numbers().items() if v.requires_grad}
        if not numbers or not torch.is_grad_enabled():
            return found
        network, rows = self.network, x.detach().to(torch.float64)

        def at(values: Any) -> Tensor:
            moved: Tensor = diag(network.with_params(**values), rows, self.kind)
            return moved

        return carry_numbers(found, numbers, at)


def _name(number: str, scale: bool) -> str:
    """Of a parameter of the module."""
    return f"log_{number}" if scale else number
