"""From a kernel to the nonlinearity of one hidden layer that has it.

With first-layer preactivations of variance 1 and ``phi = sum_k s_k b_k h_k``, ``s_k = +-1``, a
network with one hidden layer has the NNGP kernel ``sum_k b_k^2 rho^k`` and the tangent kernel
``sum_k (k + 1) b_k^2 rho^k``, so that every power series without negative coefficients is the
kernel of some nonlinearity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import comb

from kernreg import nn
from kernreg.exceptions import InvalidInputError
from kernreg.operators.inputs import check_network, kernel_names
from kernreg.theory.checks import check_count, check_number
from kernreg.theory.inverse.hermite_module import HermiteActivation, ShallowNetwork
from kernreg.theory.inverse.network_series import kernel_coefficients
from kernreg.theory.inverse.power_series import (
    INSIDE,
    ROUNDING,
    PowerSeries,
    function_coefficients,
)

__all__ = ["DesignedActivation", "activation_from_kernel", "equivalent_shallow"]

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class DesignedActivation:
    """A nonlinearity, and the network with one hidden layer that has the kernel asked for.

    Parameters
    ----------
    nonlinearity : Hermite
        The nonlinearity.
    network : Layer
        ``serial(Dense, nonlinearity, Dense)``, for inputs with ``|x|^2 = d``.
    kernel : str
        Which of its kernels is the target, "ntk" or "nngp".
    series : PowerSeries
        That kernel in powers of ``rho = (1 - bias_share) c + bias_share`` with ``c = <x, x'> / d``,
        output weights and bias left out; ``tail`` and ``inside`` are its truncation errors.
    W_std, b_std : float
        Of the output layer.
    bias_share : float
        Share of the bias in the variance behind the first layer.

    Examples
    --------
    >>> made = activation_from_kernel([0.0, 0.0, 0.0, 1.0], "ntk")
    >>> made.nonlinearity
    Hermite(coef=(0.0, 0.0, 0.0, -0.5))
    """

    nonlinearity: nn.Hermite
    network: nn.Layer
    kernel: str
    series: PowerSeries
    W_std: float
    b_std: float
    bias_share: float

    @property
    def degree(self) -> int:
        """Of the nonlinearity."""
        return len(self.nonlinearity.coef) - 1

    @property
    def tail(self) -> float:
        """The target minus the kernel of ``network`` at ``c = 1``, its largest error."""
        return self.W_std**2 * self.series.tail

    @property
    def inside(self) -> float:
        """The target minus the kernel at ``c = 0.95``, the largest error for ``|c| <= 0.95``."""
        return self.W_std**2 * self.series.inside

    def kernel_at(self, c: ArrayLike) -> Any:
        """The kernel of ``network`` for inputs at the cosine ``c``, elementwise.

        Parameters
        ----------
        c : array_like
            In [-1, 1].

        Returns
        -------
        float or ndarray of the shape of ``c``
        """
        rho = (1.0 - self.bias_share) * np.asarray(c, dtype=np.float64) + self.bias_share
        return self.b_std**2 + self.W_std**2 * self.series(rho)

    def torch_activation(self) -> HermiteActivation:
        """The nonlinearity as a torch module.

        Returns
        -------
        HermiteActivation
        """
        return HermiteActivation(self.nonlinearity.coef)

    def to_torch(
        self, n_features: int, width: int, seed: int = 0, n_outputs: int = 1
    ) -> ShallowNetwork:
        """The network at a finite width, at random initial weights.

        Parameters
        ----------
        n_features : int
            Numbers per input; inputs should have ``|x|^2 = n_features``.
        width : int
            Hidden units.
        seed : int
            Of the weights.
        n_outputs : int
            Outputs.

        Returns
        -------
        ShallowNetwork
            In the "ntk" parameterization and float32; ``.double()`` for float64.
        """
        s = self.bias_share
        return ShallowNetwork(
            self.torch_activation(),
            n_features,
            width,
            n_outputs,
            first=(math.sqrt(1.0 - s), math.sqrt(s)),
            second=(self.W_std, self.b_std),
            seed=seed,
        )

    def __str__(self) -> str:
        return (
            f"{self.kernel}, one hidden layer, Hermite degree {self.degree}: "
            f"error {self.tail:.2g} at c = 1, {self.inside:.2g} for |c| <= {INSIDE}"
        )


def activation_from_kernel(
    target: ArrayLike | Callable[[Any], Any] | PowerSeries | nn.Layer,
    kernel: str = "ntk",
    *,
    degree: int | None = None,
    signs: str | Sequence[int] = "++--",
    W_std: float = 1.0,
    b_std: float = 0.0,
    bias_share: float = 0.0,
) -> DesignedActivation:
    """The nonlinearity whose one-hidden-layer network has a given kernel on the sphere.

    Parameters
    ----------
    target : array_like of shape (n,), callable, PowerSeries or Layer
        ``K(c)`` for inputs with ``|x|^2 = d`` and ``c = <x, x'> / d``: its coefficients ``a_k``,
        the constant first; an analytic function of complex arrays (see
        :func:`kernreg.theory.inverse.function_coefficients`); or a network, whose
        ``kernel`` is meant.
    kernel : {"ntk", "nngp"}
        Which kernel of the new network is to be ``K``: "ntk" with both layers trained.
    degree : int, optional
        Where the series is cut off; 40 for functions and networks, all that is given otherwise.
    signs : str or sequence of {1, -1}
        Signs of the Hermite coefficients, repeated. They do not change the kernel; the default
        keeps the nonlinearity small, as the terms of a sine or cosine have these signs.
    W_std, b_std : float
        Of the output layer: the kernel is ``W_std^2`` times that of the nonlinearity, plus
        ``b_std^2``.
    bias_share : float
        ``s`` in [0, 1): the first layer has ``W_std^2 = 1 - s`` and ``b_std^2 = s``, and ``K``
        is taken in powers of ``rho = (1 - s) c + s``.

    Returns
    -------
    DesignedActivation

    Raises
    ------
    InvalidInputError
        If a coefficient is negative (it is named), the sum of the coefficients is infinite, all
        are 0, or an argument is unusable.

    Notes
    -----
    In a finite network the Hermite series costs O(degree) per unit. As a kernel it is stable: at
    degree 80 on rows of one norm the reference, cpu and triton backends are exact to 2e-15 in
    float64 and 2e-7 in float32. Its code grows with the square of the degree, so that backends
    take long to prepare for one far above 40. On rows of other norms the network has its own
    kernel, not the target.

    References
    ----------
    J. Simon, S. Anand, M. DeWeese, Reverse engineering the neural tangent kernel, ICML 2022,
    theorem 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> made = activation_from_kernel(lambda c: np.exp(c - 1), "ntk", degree=12)
    >>> print(made)
    ntk, one hidden layer, Hermite degree 12: error 6.4e-11 at c = 1, 3.3e-11 for |c| <= 0.95
    >>> from kernreg import gram
    >>> gram(made.network, np.eye(2) * 2**0.5).round(4)
    array([[1.    , 0.3679],
           [0.3679, 1.    ]])
    """
    (kernel,) = kernel_names(kernel, single=True)
    _check_layers(W_std, b_std, bias_share)
    pattern = _pattern(signs)
    series = _series(target, kernel, degree, bias_share)
    a = _feasible(series, b_std, bias_share)
    scale = 1.0 / W_std**2
    made = PowerSeries(
        a * scale, series.tail * scale, series.inside * scale, series.accuracy * scale
    )
    k = np.arange(len(a))
    squares = made.coefficients / (k + 1.0) if kernel == "ntk" else made.coefficients
    last = int(np.flatnonzero(squares)[-1])
    b = np.resize(pattern, last + 1) * np.sqrt(squares[: last + 1])
    nonlinearity = nn.Hermite(tuple((b + 0.0).tolist()))
    first = nn.Dense(math.sqrt(1.0 - bias_share), math.sqrt(bias_share))
    network = nn.serial(first, nonlinearity, nn.Dense(W_std, b_std))
    return DesignedActivation(nonlinearity, network, kernel, made, W_std, b_std, bias_share)


def equivalent_shallow(
    net: nn.Layer | str,
    kernel: str = "ntk",
    degree: int = 40,
    *,
    signs: str | Sequence[int] = "++--",
) -> DesignedActivation:
    """The network with one hidden layer that has the kernel of a deep one on the sphere.

    Parameters
    ----------
    net : Layer
        A fully connected network of any depth.
    kernel : {"ntk", "nngp"}
        Which kernel is to be the same.
    degree : int
        Where the series is cut off.
    signs : str or sequence of {1, -1}
        See :func:`activation_from_kernel`.

    Returns
    -------
    DesignedActivation
        ``tail`` and ``inside`` say how far its kernel is from that of ``net``, which
        :func:`kernreg.gram` gave at ``c = 1`` and ``c = 0.95``.

    Raises
    ------
    InvalidInputError
        See :func:`kernreg.theory.inverse.kernel_coefficients`.

    Notes
    -----
    A kink makes ``a_k`` fall as slowly as ``k^(-3/2)``: for the tangent kernel of four ReLU layers
    the mass beyond degree 100 is 5 % of ``K(1)``. Inside the sphere cap ``|c| <= 0.95`` the error
    is then 2e-5.

    Examples
    --------
    >>> from kernreg import nn
    >>> deep = nn.mlp(depth=4, activation=nn.Erf(), W_std=1.5, b_std=0.1)
    >>> shallow = equivalent_shallow(deep, "nngp", degree=20)
    >>> bool(0 < shallow.inside < 1e-2)
    True
    """
    return activation_from_kernel(check_network(net), kernel, degree=degree, signs=signs)


def _series(target: Any, kernel: str, degree: int | None, bias_share: float) -> PowerSeries:
    """The target in powers of ``rho``."""
    cut = 40 if degree is None else check_count("degree", degree)
    if isinstance(target, nn.Layer):
        target = kernel_coefficients(target, kernel, cut)
    elif callable(target) and not isinstance(target, PowerSeries):
        return function_coefficients(target, cut, bias_share=bias_share)
    if not isinstance(target, PowerSeries):
        target = PowerSeries(_coefficients(target))
    if degree is not None:
        target = target.truncated(cut)
    return _in_powers_of_rho(target, bias_share) if bias_share else target


def _coefficients(target: Any) -> Array:
    """Given coefficients as an array, checked."""
    try:
        a = np.asarray(target, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            "target must be a vector of coefficients, a function, a PowerSeries or a network, "
            f"found {target!r}."
        ) from error
    if a.ndim != 1 or a.size == 0:
        raise InvalidInputError(
            f"target must be a vector of coefficients a_0, a_1, ..., found shape {a.shape}."
        )
    if not np.isfinite(a).all():
        k = int(np.argmin(np.isfinite(a)))
        raise InvalidInputError(
            f"coefficient a_{k} = {a[k]} is not finite, so the sum of the coefficients, which is "
            "the kernel at c = 1, is not."
        )
    return a


def _in_powers_of_rho(series: PowerSeries, s: float) -> PowerSeries:
    """The polynomial in ``c = (rho - s) / (1 - s)``, expanded."""
    a = series.coefficients
    n, k = np.arange(len(a))[:, None], np.arange(len(a))
    with np.errstate(over="ignore", invalid="ignore"):
        terms = a[:, None] * comb(n, k) * (-s) ** np.maximum(n - k, 0) / (1.0 - s) ** n
    found, size = terms.sum(axis=0), np.abs(terms).sum(axis=0)
    noise = 4.0 * len(a) * _EPS * size
    if not noise.max() <= 1e-9 * np.abs(a).sum():
        raise InvalidInputError(
            f"bias_share = {s:g} is too large for a series of degree {series.degree}: in powers of "
            "rho its terms cancel to rounding errors. Lower bias_share or degree."
        )
    found[np.abs(found) <= noise] = 0.0
    # The same function, so the same errors.
    return PowerSeries(found, series.tail, series.inside, float(noise.max()))


def _feasible(series: PowerSeries, b_std: float, bias_share: float) -> Array:
    """The coefficients without the output bias, checked: none is negative, not all are 0."""
    a, constant = series.coefficients.copy(), float(series.coefficients[0])
    a[0] -= b_std**2
    a[np.abs(a) <= max(series.accuracy, ROUNDING * np.abs(series.coefficients).sum())] = 0.0
    power = "rho" if bias_share else "c"
    if a[0] < 0 <= constant:
        raise InvalidInputError(
            f"the output bias is too large: b_std^2 = {b_std**2:.6g} is more than the constant "
            f"coefficient a_0 = {constant:.6g}. Use b_std <= {math.sqrt(constant):.6g}."
        )
    if (a < 0).any():
        k = int(np.argmax(a < 0))
        hint = f" in powers of rho = {1 - bias_share:g} c + {bias_share:g}" if bias_share else ""
        raise InvalidInputError(
            f"no nonlinearity has this kernel: the coefficient a_{k} = {a[k]:.6g} of {power}^{k}"
            f"{hint} is negative, so the kernel is not positive semi-definite on spheres of every "
            f"dimension.{' Try a smaller bias_share.' if bias_share else ''}"
        )
    if series.tail < -1e-9 * a.sum():
        raise InvalidInputError(
            f"no nonlinearity has this kernel: the coefficients beyond {power}^{len(a) - 1} add up "
            f"to {series.tail:.6g}, so some of them are negative. Raise degree to see which."
        )
    if not a.any():
        raise InvalidInputError(
            "all coefficients up to the degree are 0, so there is no nonlinearity to make; raise "
            "degree, or check b_std, whose square is subtracted from a_0."
        )
    return a


def _check_layers(W_std: Any, b_std: Any, bias_share: Any) -> None:
    for name, value in (("W_std", W_std), ("b_std", b_std), ("bias_share", bias_share)):
        check_number(name, value)
    if W_std == 0:
        raise InvalidInputError("W_std must be positive, found 0: the output would be the bias.")
    if bias_share >= 1:
        raise InvalidInputError(
            f"bias_share must be below 1, found {bias_share!r}: the first layer needs weights."
        )


def _pattern(signs: Any) -> Array:
    """Signs as an array, to be repeated."""
    known = {"+": 1.0, "-": -1.0, 1: 1.0, -1: -1.0}
    try:
        found = [known[s] for s in signs]
    except (KeyError, TypeError):
        found = []
    if not found:
        raise InvalidInputError(
            f"signs must be a pattern such as '++--' or (1, 1, -1, -1), found {signs!r}."
        )
    return np.array(found)
