"""The kernel of a network as a kernel object of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel

from kernreg import nn
from kernreg.estimators.gaussian_process.hyperparameters import Parameter, parameters_of
from kernreg.exceptions import InvalidInputError
from kernreg.numerics.differences import STENCIL, STENCIL_UNIT
from kernreg.operators import diag, gram
from kernreg.operators.inputs import check_network

__all__ = ["NetworkKernel"]

Floats = NDArray[np.float64]


class NetworkKernel(Kernel):
    """The kernel of a network for ``sklearn.gaussian_process``, ``SVC`` and ``Nystroem``.

    It is added to and multiplied by the kernels of scikit-learn, which fits the numbers of the
    network with theirs. Called with whole matrices, also by ``Nystroem(kernel=NetworkKernel(...))``
    and ``pairwise_kernels(X, metric=NetworkKernel(...))``.

    Parameters
    ----------
    network : Layer or str, optional
        The network, from :mod:`kernreg.nn`, or its code; ``nn.mlp(depth=3)`` if left out.
    kernel : {"nngp", "ntk"}, default="nngp"
        Which kernel of it.
    network_bounds : "fixed" or None, default=None
        "fixed" keeps the numbers of the network; None lets standard deviations change by a factor
        of 1e5 either way, other numbers by 10 times their size.

    Attributes
    ----------
    theta : ndarray of shape (k,)
        What is fitted: logarithms of standard deviations that are not 0, other numbers of
        nonlinearities as they are.
    theta_names : list of str
        What each is.

    Raises
    ------
    InvalidInputError
        If ``kernel`` or ``network_bounds`` is something else.

    Notes
    -----
    A gradient takes four Gram matrices for each number (differences of order four, 3e-10 of the
    derivative) and ``k n^2`` numbers of memory, as scikit-learn wants it whole;
    :class:`kernreg.GaussianProcessRegressor` works in tiles.

    References
    ----------
    Rasmussen, Williams, "Gaussian processes for machine learning" (2006), section 5.4.1.

    Examples
    --------
    >>> from sklearn.gaussian_process import GaussianProcessRegressor
    >>> from sklearn.gaussian_process.kernels import WhiteKernel
    >>> X = np.linspace(-2, 2, 20)[:, None]
    >>> kernel = NetworkKernel("mlp(depth=1)") + WhiteKernel(1e-2)
    >>> process = GaussianProcessRegressor(kernel).fit(X, np.sin(2 * X[:, 0]))
    >>> kernel.k1.theta_names, process.score(X, np.sin(2 * X[:, 0])) > 0.99
    (['log(W_std)', 'log(b_std)'], True)
    """

    def __init__(
        self,
        network: nn.Layer | str | None = None,
        kernel: str = "nngp",
        network_bounds: str | None = None,
    ) -> None:
        self.network = network
        self.kernel = kernel
        self.network_bounds = network_bounds

    def _network(self) -> nn.Layer:
        if self.kernel not in ("nngp", "ntk"):
            raise InvalidInputError(f"kernel must be nngp or ntk, found {self.kernel!r}.")
        if self.network_bounds not in (None, "fixed"):
            raise InvalidInputError(
                f"network_bounds must be 'fixed' or None, found {self.network_bounds!r}."
            )
        return nn.mlp(depth=3) if self.network is None else check_network(self.network)

    def _parameters(self) -> tuple[Parameter, ...]:
        fixed = self.network_bounds == "fixed"
        return () if fixed else parameters_of(self._network(), 1.0).parameters

    @property
    def theta_names(self) -> list[str]:
        """What each number of ``theta`` is."""
        return [f"log({p.name})" if p.scale else p.name for p in self._parameters()]

    @property
    def hyperparameters(self) -> list[Hyperparameter]:
        """Those of ``theta``, as scikit-learn describes them."""
        return [
            Hyperparameter(p.name, "numeric", tuple(map(p.at, p.bounds)))
            for p in self._parameters()
        ]

    @property
    def theta(self) -> Floats:
        """The numbers of the network that are fitted, shape (k,)."""
        return np.array([p.coordinate for p in self._parameters()], dtype=np.float64)

    @theta.setter
    def theta(self, values: Any) -> None:
        self.network = self._moved(np.asarray(values, dtype=np.float64))

    def _moved(self, theta: Floats) -> nn.Layer:
        parameters, network = self._parameters(), self._network()
        if theta.shape != (len(parameters),):
            raise InvalidInputError(
                f"expected theta of shape ({len(parameters)},), found {theta.shape}."
            )
        values = {p.name: p.at(float(x)) for p, x in zip(parameters, theta, strict=True)}
        return network.with_params(**values) if values else network

    @property
    def bounds(self) -> Floats:
        """Lower and upper bounds of ``theta``, shape (k, 2)."""
        return np.array([p.bounds for p in self._parameters()], dtype=np.float64).reshape(-1, 2)

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        """The kernel matrix, and its derivatives by ``theta``.

        Parameters
        ----------
        X : array-like of shape (n, features)
            Rows.
        Y : array-like of shape (m, features), optional
            Columns; those of ``X`` if left out.
        eval_gradient : bool, default=False
            Whether derivatives are wanted, of ``X`` with itself only.

        Returns
        -------
        K : ndarray of shape (n, m)
        gradient : ndarray of shape (n, n, k)
            If asked for.

        Raises
        ------
        InvalidInputError
            If derivatives are asked for between two sets of rows, or data cannot be used.
        """
        if eval_gradient and Y is not None:
            raise InvalidInputError("eval_gradient is for one set of rows: leave Y out.")
        X = np.asarray(X, dtype=np.float64)
        Y = None if Y is None else np.asarray(Y, dtype=np.float64)
        K = gram(self._network(), X, Y, self.kernel)
        return (K, self._gradient(X)) if eval_gradient else K

    def _gradient(self, X: Floats) -> Floats:
        theta, parameters = self.theta, self._parameters()
        found = np.zeros((len(X), len(X), len(theta)))
        for k, parameter in enumerate(parameters):
            for times, weight in STENCIL:
                moved = theta.copy()
                moved[k] += times * parameter.step
                found[..., k] += weight * gram(self._moved(moved), X, kernel=self.kernel)
            found[..., k] /= STENCIL_UNIT * parameter.step
        return found

    def diag(self, X: Any) -> Floats:
        """The kernel of each row with itself, shape (n,), in O(n)."""
        X = np.asarray(X, dtype=np.float64)
        return np.asarray(diag(self._network(), X, self.kernel))

    def is_stationary(self) -> bool:
        """False: it depends on more than differences of rows."""
        return False

    def __repr__(self) -> str:
        network = self.network if isinstance(self.network, str) else repr(self._network())
        return f"NetworkKernel({network}, kernel={self.kernel!r})"
