"""Infinitely many networks at any time of training, as ``nt.predict`` has them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.stax.kernel import KernelFn
from kernreg.stax.posterior import Gaussian, each, gp_inference
from kernreg.stax.trained import (
    Trained,
    matrix_of,
    require_one_kernel,
    shaped,
    targets_of,
    times_of,
)
from kernreg.theory.training import Ensemble, along_modes

__all__ = ["gradient_descent_mse_ensemble"]

Floats = NDArray[np.float64]


def gradient_descent_mse_ensemble(
    kernel_fn: KernelFn,
    x_train: Any,
    y_train: Any,
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Any = (-1,),
    **options: Any,
) -> Callable[..., Any]:
    """Mean and covariance of infinitely many networks at any time of gradient flow.

    Parameters
    ----------
    kernel_fn : KernelFn
        Of the network; any function ``kernel_fn(x1, x2, get)`` that returns kernels by name.
    x_train : array-like of shape (n, ...)
        Rows.
    y_train : array-like of shape (n, outputs)
        Targets.
    learning_rate : float
        Multiplies time.
    diag_reg, diag_reg_absolute_scale, trace_axes
        As of :func:`gp_inference`.
    **options
        Of ``kernel_fn``.

    Returns
    -------
    callable
        ``predict_fn(t=None, x_test=None, get=None, compute_cov=False)``: the mean at time ``t``
        (several times are the first axis; None is the end), or with ``compute_cov`` a
        :class:`Gaussian`, for ``get`` "ntk", "nngp" or both, which a namedtuple has; of the
        training rows without ``x_test``.

    Raises
    ------
    InvalidInputError
        If an argument cannot be used.

    Notes
    -----
    Time: n^3/3 operations at the end, 9 n^3 once for finite times. The covariance of "ntk" needs
    both kernels.

    Examples
    --------
    >>> from kernreg import stax
    >>> x, y = np.eye(4), np.arange(4.0)[:, None]
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1), stax.Erf(), stax.Dense(1))
    >>> predict_fn = gradient_descent_mse_ensemble(kernel_fn, x, y)
    >>> early, late = predict_fn(t=np.array([0.0, 1e6]), x_test=x, get="ntk")
    >>> bool((early == 0).all()), bool(np.abs(late - y).max() < 1e-4)
    (True, True)
    """
    require_one_kernel(trace_axes, y_train)
    if not learning_rate > 0:
        raise InvalidInputError(f"learning_rate must be above 0, found {learning_rate!r}.")
    scale = diag_reg_absolute_scale
    networks = _Networks(kernel_fn, x_train, y_train, learning_rate, diag_reg, scale, options)

    def predict_fn(
        t: Any = None, x_test: Any = None, get: Any = None, compute_cov: bool = False
    ) -> Any:
        get = ("nngp", "ntk") if get is None else get
        for name in (get,) if isinstance(get, str) else get:
            if name not in ("nngp", "ntk"):
                raise InvalidInputError(f"get must be nngp, ntk or both, found {name!r}.")
        if t is None:
            return networks.at_the_end(x_test, get, compute_cov)
        return each(get, lambda name: networks.at(t, x_test, name, compute_cov))

    return predict_fn


@dataclass(eq=False)
class _Networks:
    """What training rows and targets determine, each made when it is first needed."""

    kernel_fn: Any
    x_train: Any
    y_train: Any
    learning_rate: float
    diag_reg: float
    absolute: bool
    options: dict[str, Any]
    _have: dict[str, Floats] = field(default_factory=dict)
    _follows: dict[str, Trained] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.targets = targets_of(self.y_train)

    def _between(self, x1: Any, x2: Any, names: tuple[str, ...]) -> dict[str, Floats]:
        found = self.kernel_fn(x1, x2, names, **self.options)
        return {name: matrix_of(found, name, "kernel_fn") for name in names}

    def _own(self, *names: str) -> Floats:
        """The first of some kernels of the training rows, all of which are made in one pass."""
        missing = tuple(name for name in names if name not in self._have)
        if missing:
            self._have |= self._between(self.x_train, None, missing)
        return self._have[names[0]]

    @property
    def nngp(self) -> Floats:
        """Of the training rows."""
        return self._own("nngp")

    @property
    def ntk(self) -> Floats:
        """Of the training rows."""
        return self._own("ntk")

    @functools.cached_property
    def _posterior(self) -> Callable[..., Any]:
        return gp_inference(self, self.y_train, self.diag_reg, self.absolute)

    def _trained(self, name: str) -> Trained:
        if name not in self._follows:
            given = self._own(name), self.targets, self.diag_reg, self.absolute
            self._follows[name] = Trained(*given, self.learning_rate)
        return self._follows[name]

    @functools.cached_property
    def _bayesian(self) -> Ensemble:
        """Of the last layer: the ridge is noise that targets have."""
        follows = self._trained("nngp")
        return Ensemble(follows.modes, follows.dynamics, target_noise=follows.ridge)

    @functools.cached_property
    def _means(self) -> Ensemble:
        """Of all layers, without their spread."""
        follows = self._trained("ntk")
        return Ensemble(follows.modes, follows.dynamics)

    @functools.cached_property
    def _spread(self) -> Ensemble:
        """Of all layers."""
        follows = self._trained("ntk")
        return Ensemble(follows.modes, follows.dynamics, along_modes(follows.modes, self.nngp))

    def at(self, t: Any, x_test: Any, name: str, compute_cov: bool) -> Any:
        """At a time or several, for one kernel."""
        times = times_of(t)
        names = ("nngp",) if name == "nngp" else ("ntk", "nngp")[: 1 + compute_cov]
        self._own(*names)
        if x_test is None:
            between = self._trained(name).own()
            prior = self._have.get("nngp", between) if name == "ntk" else between
        else:
            crossed = self._between(x_test, self.x_train, names)
            between = crossed[name]
            prior = crossed.get("nngp", between)
        made = self._bayesian
        if name == "ntk":
            made = self._spread if compute_cov else self._means
        means = between @ made.coefficients(self.targets, times)
        mean = np.stack([shaped(m, self.y_train) for m in means])
        if not compute_cov:
            return mean if np.ndim(t) else mean[0]
        own = prior if x_test is None else self._between(x_test, None, ("nngp",))["nngp"]
        found = np.stack([made.covariance(between, prior, own, time) for time in times])
        return Gaussian(mean, found) if np.ndim(t) else Gaussian(mean[0], found[0])

    def at_the_end(self, x_test: Any, get: Any, compute_cov: bool) -> Any:
        """Where training leads, by one factor."""
        if x_test is None and compute_cov:
            return each(get, lambda name: self.at(np.inf, None, name, True))
        kinds = (get,) if isinstance(get, str) else tuple(get)
        wanted = tuple(dict.fromkeys([*kinds, "nngp"])) if compute_cov else kinds
        self._own(*wanted)
        if x_test is None:
            return self._posterior(get)
        between = self.kernel_fn(x_test, self.x_train, wanted, **self.options)
        own = self.kernel_fn(x_test, None, wanted, **self.options) if compute_cov else None
        return self._posterior(get, between, own)
