"""The calls of ``nt.predict`` that have a closed form, on kernel matrices in memory.

:class:`~kernreg.GaussianProcessRegressor` and :class:`~kernreg.EnsembleRegressor` do the same for
rows that no matrix of which fits memory, choose the ridge, and tune the network.

References
----------
Lee et al., "Wide neural networks of any depth evolve as linear models under gradient descent"
(2019), equations 13 to 16; He, Lakshminarayanan, Teh, "Bayesian deep ensembles via the neural
tangent kernel" (2020), for "ntkgp".
"""

from __future__ import annotations

import functools
from collections import namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.stax.kernel import KernelFn
from kernreg.stax.trained import (
    Trained,
    matrix_of,
    require_one_kernel,
    shaped,
    symmetric,
    targets_of,
    times_of,
)
from kernreg.theory.training import Ensemble, along_modes, largest_learning_rate

__all__ = [
    "Gaussian",
    "gp_inference",
    "gradient_descent",
    "gradient_descent_mse",
    "gradient_descent_mse_ensemble",
    "max_learning_rate",
]

Floats = NDArray[np.float64]

_KINDS = ("nngp", "ntk", "ntkgp")


class Gaussian(NamedTuple):
    """Mean of shape (n, outputs), and the covariance (n, n) that all outputs have."""

    mean: Any
    covariance: Any


def gp_inference(
    k_train_train: Any,
    y_train: Any,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Any = (-1,),
) -> Callable[..., Any]:
    """Posteriors of Gaussian processes, and of networks that are trained to the end.

    Parameters
    ----------
    k_train_train : namedtuple or ndarray of shape (n, n)
        ``kernel_fn(x, None, ("nngp", "ntk"))``, or one kernel.
    y_train : array-like of shape (n, outputs)
        Targets.
    diag_reg : float
        Ridge, over the mean of the diagonal unless ``diag_reg_absolute_scale``.
    diag_reg_absolute_scale : bool
        Whether it is absolute.
    trace_axes : tuple
        ``(-1,)``: outputs share their kernel.

    Returns
    -------
    callable
        ``predict_fn(get=None, k_test_train=None, k_test_test=None)``: the mean of shape
        (m, outputs), or with ``k_test_test`` a :class:`Gaussian`, for ``get`` "nngp", "ntk" (of the
        ensemble; its covariance needs both kernels) or "ntkgp" (the process with the NTK); several
        of them, or all if it is None, as a namedtuple. Without ``k_test_train`` the training rows,
        which get their targets.

    Raises
    ------
    InvalidInputError
        If kernels are missing or do not fit.
    NotPositiveDefiniteError
        If there is no Cholesky factor: raise ``diag_reg``.

    Notes
    -----
    Time n^3/3 operations, n^2 for each test row and its covariance.

    Examples
    --------
    >>> from kernreg import stax
    >>> x, y = np.eye(4), np.arange(4.0)[:, None]
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1), stax.Erf(), stax.Dense(1))
    >>> predict_fn = gp_inference(kernel_fn(x, None, ("nngp", "ntk")), y, diag_reg=1e-6)
    >>> mean = predict_fn("ntk", kernel_fn(x, x, ("nngp", "ntk")))
    >>> bool(np.abs(mean - y).max() < 1e-4)
    True
    """
    require_one_kernel(trace_axes, y_train)
    targets = targets_of(y_train)
    one_matrix = isinstance(k_train_train, np.ndarray)  # for whatever is asked
    made: dict[str, Trained] = {}

    def trained(name: str) -> Trained:
        if name not in made:
            matrix = matrix_of(k_train_train, name, "k_train_train")
            made[name] = Trained(matrix, targets, diag_reg, diag_reg_absolute_scale)
        return made[name]

    def one(kind: str, k_test_train: Any, k_test_test: Any) -> Any:
        follows = trained("nngp" if kind == "nngp" else "ntk")
        name = "nngp" if kind == "nngp" else "ntk"
        if k_test_train is None:
            mean, n = shaped(follows.targets.copy(), y_train), len(follows.targets)
            return mean if k_test_test is None else Gaussian(mean, np.zeros((n, n)))
        between = matrix_of(k_test_train, name, "k_test_train")
        mean = shaped(between @ follows.end, y_train)
        if k_test_test is None:
            return mean
        if kind != "ntk":
            own = matrix_of(k_test_test, name, "k_test_test")
            return Gaussian(mean, symmetric(own - between @ follows.solved(between.T.copy())))
        if one_matrix:
            raise InvalidInputError(
                "predict_fn: the covariance of trained networks needs both kernels: give what "
                "kernel_fn(..., ('nngp', 'ntk')) returns, or ask for get='ntkgp'."
            )
        prior = matrix_of(k_test_train, "nngp", "k_test_train")
        own = matrix_of(k_test_test, "nngp", "k_test_test")
        moved = follows.solved(between.T.copy())
        crossed = prior @ moved
        spread = moved.T @ matrix_of(k_train_train, "nngp", "k_train_train") @ moved
        return Gaussian(mean, symmetric(own - crossed - crossed.T + spread))

    def predict_fn(get: Any = None, k_test_train: Any = None, k_test_test: Any = None) -> Any:
        here = [k for k in ("nngp", "ntk") if one_matrix or hasattr(k_train_train, k)]
        names = here if get is None else get
        return _each(names, lambda kind: one(kind, k_test_train, k_test_test))

    return predict_fn


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
    targets = targets_of(y_train)
    if not learning_rate > 0:
        raise InvalidInputError(f"learning_rate must be above 0, found {learning_rate!r}.")

    have: dict[str, Floats] = {}

    def train_train(*names: str) -> dict[str, Floats]:
        missing = tuple(name for name in names if name not in have)
        if missing:
            found = kernel_fn(x_train, None, missing, **options)
            for name in missing:
                have[name] = matrix_of(found, name, "kernel_fn(x_train)")
        return {name: have[name] for name in names}

    @functools.cache
    def trained(name: str) -> Trained:
        scale = diag_reg_absolute_scale
        return Trained(train_train(name)[name], targets, diag_reg, scale, learning_rate)

    @functools.cache
    def ensemble(name: str, spread: bool) -> Ensemble:
        follows = trained(name)
        if name == "nngp":  # Bayesian: the ridge is noise that targets have
            return Ensemble(follows.modes, follows.dynamics, target_noise=follows.ridge)
        initial = along_modes(follows.modes, train_train("nngp")["nngp"]) if spread else None
        return Ensemble(follows.modes, follows.dynamics, initial)

    def at(t: Any, x_test: Any, name: str, compute_cov: bool) -> Any:
        follows, times = trained(name), times_of(t)
        if x_test is None:
            between = follows.own()
        else:
            between = matrix_of(
                kernel_fn(x_test, x_train, (name,), **options), name, "kernel_fn(x_test)"
            )
        made = ensemble(name, compute_cov)
        means = between @ made.coefficients(targets, times)
        mean = np.stack([shaped(m, y_train) for m in means])
        if not compute_cov:
            return mean if np.ndim(t) else mean[0]
        if x_test is None:
            prior = between if name == "nngp" else train_train("nngp")["nngp"]
            own = train_train("nngp")["nngp"] if name == "ntk" else between
        elif name == "nngp":
            prior, own = (
                between,
                matrix_of(kernel_fn(x_test, None, ("nngp",), **options), "nngp", "kernel_fn"),
            )
        else:
            prior = matrix_of(
                kernel_fn(x_test, x_train, ("nngp",), **options), "nngp", "kernel_fn(x_test)"
            )
            own = matrix_of(
                kernel_fn(x_test, None, ("nngp",), **options), "nngp", "kernel_fn(x_test)"
            )
        found = np.stack([made.covariance(between, prior, own, time) for time in times])
        return Gaussian(mean, found) if np.ndim(t) else Gaussian(mean[0], found[0])

    def at_the_end(x_test: Any, get: Any, compute_cov: bool) -> Any:
        if x_test is None and compute_cov:
            return _each(get, lambda name: at(np.inf, None, name, True))
        kinds = (get,) if isinstance(get, str) else tuple(get)
        wanted = tuple({*kinds, "nngp"}) if compute_cov else kinds
        kernels = _named(train_train(*wanted))
        posterior = gp_inference(kernels, y_train, diag_reg, diag_reg_absolute_scale)
        if x_test is None:
            return posterior(get)
        between = kernel_fn(x_test, x_train, wanted, **options)
        return posterior(
            get, between, kernel_fn(x_test, None, wanted, **options) if compute_cov else None
        )

    def predict_fn(
        t: Any = None, x_test: Any = None, get: Any = None, compute_cov: bool = False
    ) -> Any:
        get = ("nngp", "ntk") if get is None else get
        for name in (get,) if isinstance(get, str) else get:
            if name not in ("nngp", "ntk"):
                raise InvalidInputError(f"get must be nngp, ntk or both, found {name!r}.")
        if t is None:
            return at_the_end(x_test, get, compute_cov)
        return _each(get, lambda name: at(t, x_test, name, compute_cov))

    return predict_fn


def gradient_descent_mse(
    k_train_train: Any,
    y_train: Any,
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Any = (-1,),
) -> Callable[..., Any]:
    """Outputs of one network at any time of gradient flow, from those it starts with.

    Parameters
    ----------
    k_train_train : ndarray of shape (n, n)
        The kernel that training follows, in most cases the NTK.
    y_train : array-like of shape (n, outputs)
        Targets.
    learning_rate, diag_reg, diag_reg_absolute_scale, trace_axes
        As of :func:`gradient_descent_mse_ensemble`.

    Returns
    -------
    callable
        ``predict_fn(t=None, fx_train_0=0.0, fx_test_0=None, k_test_train=None)``: outputs of the
        training rows, and beside them those of the test rows if ``fx_test_0`` and their kernel are
        given; the latter alone where ``fx_train_0`` is None, for a network that starts from 0.

    Examples
    --------
    >>> predict_fn = gradient_descent_mse(np.eye(2), np.array([[1.0], [2.0]]))
    >>> predict_fn(t=0.0).ravel(), predict_fn(t=None).ravel()
    (array([0., 0.]), array([1., 2.]))
    """
    require_one_kernel(trace_axes, y_train)
    targets, matrix = targets_of(y_train), matrix_of(k_train_train, "ntk", "k_train_train")
    follows = Trained(matrix, targets, diag_reg, diag_reg_absolute_scale, learning_rate)

    def predict_fn(
        t: Any = None, fx_train_0: Any = 0.0, fx_test_0: Any = None, k_test_train: Any = None
    ) -> Any:
        if fx_test_0 is not None and k_test_train is None:
            raise InvalidInputError("predict_fn: fx_test_0 needs k_test_train.")
        if fx_train_0 is None and fx_test_0 is None:
            raise InvalidInputError("predict_fn: give fx_train_0, fx_test_0 or both.")
        first = 0.0 if fx_train_0 is None else fx_train_0
        start = np.broadcast_to(np.asarray(first, float), np.shape(y_train))
        missing = targets - start.reshape(targets.shape)
        if t is None:
            moved = follows.solved(missing)[None]
        else:
            moved = Ensemble(follows.modes, follows.dynamics).coefficients(missing, times_of(t))

        def outputs(initial: Any, kernel: Floats) -> Any:
            found = np.stack([initial + shaped(kernel @ m, y_train) for m in moved])
            return found if np.ndim(t) else found[0]

        train = None if fx_train_0 is None else outputs(start, follows.own())
        if fx_test_0 is None:
            return train
        between = matrix_of(k_test_train, "ntk", "k_test_train")
        test = outputs(np.asarray(fx_test_0, float), between)
        return test if train is None else (train, test)

    return predict_fn


def max_learning_rate(
    ntk_train_train: Any, y_train_size: int | None = None, momentum: float = 0.0, eps: float = 1e-12
) -> float:
    """The learning rate from which on steps of gradient descent diverge.

    Parameters
    ----------
    ntk_train_train : ndarray of shape (n, n)
        NTK of the training rows.
    y_train_size : int, optional
        Numbers in the targets; n if left out.
    momentum : float
        Of the heavy ball.
    eps : float
        Added to the largest eigenvalue.

    Examples
    --------
    >>> round(max_learning_rate(2.0 * np.eye(3), 3), 6)
    3.0
    """
    matrix = matrix_of(ntk_train_train, "ntk", "ntk_train_train")
    largest = float(np.linalg.eigvalsh(matrix)[-1]) + eps
    return (y_train_size or len(matrix)) * largest_learning_rate(largest, momentum)


def gradient_descent(*_: Any, **__: Any) -> NoReturn:
    """Raises: other losses are those of :class:`~kernreg.EnsembleRegressor`."""
    raise InvalidInputError(
        "gradient_descent: use EnsembleRegressor(kernel_fn.network, loss=..., momentum=...), or "
        "from given outputs kernreg.theory.training.trajectory."
    )


def _named(found: dict[str, Any]) -> Any:
    return namedtuple("Gaussians", found)(**found)


def _each(names: Any, one: Callable[[str], Any]) -> Any:
    """What one name gives, or a namedtuple of what each gives."""
    kinds = (names,) if isinstance(names, str) else tuple(names)
    for kind in kinds:
        if kind not in _KINDS:
            raise InvalidInputError(f"get must be among {', '.join(_KINDS)}, found {kind!r}.")
    if isinstance(names, str):
        return one(names)
    return _named({kind: one(kind) for kind in kinds})
