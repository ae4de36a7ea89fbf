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

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.stax.ensemble import gradient_descent_mse_ensemble
from kernreg.stax.posterior import Gaussian, gp_inference
from kernreg.stax.trained import (
    Trained,
    matrix_of,
    require_one_kernel,
    shaped,
    targets_of,
    times_of,
)
from kernreg.theory.training import Ensemble, largest_learning_rate

__all__ = [
    "Gaussian",
    "gp_inference",
    "gradient_descent",
    "gradient_descent_mse",
    "gradient_descent_mse_ensemble",
    "max_learning_rate",
]

Floats = NDArray[np.float64]


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
    """Raises: other losses are those of :class:`~kernreg.EnsembleRegressor`.

    Examples
    --------
    >>> gradient_descent("loss", np.eye(2), np.ones((2, 1)))
    Traceback (most recent call last):
    ...
    kernreg.exceptions.InvalidInputError: gradient_descent: use EnsembleRegressor(...
    """
    raise InvalidInputError(
        "gradient_descent: use EnsembleRegressor(kernel_fn.network, loss=..., momentum=...), or "
        "from given outputs kernreg.theory.training.trajectory."
    )
