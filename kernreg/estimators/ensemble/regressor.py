"""Infinite ensembles of infinitely wide networks, at any time of their training."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from kernreg import nn
from kernreg.estimators.alphas import Approach
from kernreg.estimators.base import KernelModel
from kernreg.estimators.ensemble.coefficients import CoefficientsInTime
from kernreg.estimators.ensemble.plan import plan_of_ensemble
from kernreg.estimators.ensemble.training_run import TrainingRun, check_targets
from kernreg.estimators.planned import described
from kernreg.estimators.posterior import check_covariance_fits
from kernreg.estimators.predict import times_dual
from kernreg.estimators.sampling import drawn_from
from kernreg.exceptions import InvalidInputError
from kernreg.operators.budget import memory_budget
from kernreg.planning.plan import Plan
from kernreg.solvers.solution import Solution, Stats, Status
from kernreg.theory.training import LOSSES

__all__ = ["EnsembleRegressor"]

Floats = NDArray[np.float64]


class EnsembleRegressor(MultiOutputMixin, RegressorMixin, CoefficientsInTime):
    """Mean and spread of infinitely many networks of infinite width, trained for some time.

    Each network starts from its own weights, and is trained on all rows by gradient flow or by
    steps of gradient descent. In the limit of infinite width its outputs are Gaussian at every
    time, with a mean and a covariance that are known exactly.

    Parameters
    ----------
    network : Layer or str, optional
        The network, from :mod:`kernreg.nn`, or its code; ``nn.mlp(depth=3)`` if left out.
    train : {"ntk", "nngp"}, default="ntk"
        Whether all layers are trained, or only the last one.
    time : float, optional
        Time of gradient flow, in steps of ``learning_rate``; without end if neither this nor
        ``steps`` is given.
    steps : int, optional
        Steps of gradient descent, instead of flow.
    learning_rate : float, default=1.0
        See ``reduction`` for what it multiplies.
    momentum : float, default=0.0
        Of the heavy ball, from 0 to below 1; also of flow, whose drag is then ``1 - momentum``.
    alpha : float, default=0.0
        Weight decay towards the initial weights, as the ridge that it amounts to.
    alpha_scale : {"mean_diag", "absolute"}, default="mean_diag"
        Whether ``alpha`` is relative to the mean of the training kernel's diagonal.
    loss : {"mse", "cross_entropy", "logistic", "huber"} or callable, default="mse"
        What is trained on: half the squared error; the cross-entropy of the softmax of the outputs
        to targets that are probabilities; ``log(1 + exp(-y f))`` for targets +1 and -1; the squared
        error up to 1, linear beyond; or the gradient of a loss by outputs as
        ``gradient(outputs, targets)``. With any but "mse" there is no covariance, and predictions
        are those of the network that starts from 0; ``sample_y`` draws others.
    reduction : {"mean", "sum"}, default="mean"
        Whether the loss is the mean over rows (by weights) and targets, or the sum.
    target_noise : bool, default=False
        Whether every network has noise of its own in its targets, of variance ``alpha``: with
        ``train="nngp"`` and without end the ensemble then is the posterior of
        :class:`GaussianProcessRegressor`.
    fit_intercept : bool, default=False
        Whether networks are trained on targets less their weighted mean, which is added again.
    solver : {"auto", "eigh", "krylov"}, default="auto"
        One decomposition serves all times ("eigh"); where it does not fit memory, products with
        the kernel for each time and row ("krylov").
    dtype : {"float64"}, optional
        As in :class:`GaussianProcessRegressor`.
    device, backend, precision, max_memory, verbose
        As in :class:`KernelRegressor`.

    Attributes
    ----------
    largest_learning_rate_ : float
        Above it, steps of gradient descent on the squared error diverge.
    dual_coef_ : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Coefficients of the mean at the time that was asked for.
    alpha_, X_fit_, y_mean_, network_, kernel_, plan_, solution_, n_features_in_
        As in :class:`KernelRegressor`.

    Notes
    -----
    The NTK moves with the squared error of outputs that start from the NNGP: a fit of
    ``train="ntk"`` needs both kernels for its covariance.

    Time: 9 n^3 operations for the decomposition, with ``train="ntk"`` 4 n^3 for the first variance;
    then ``2 n^2`` for each time and target, ``2 n^2`` for the variance of a row at a time.
    Memory ``2 n^2`` numbers, ``3 n^2`` with variances.

    References
    ----------
    Jacot, Gabriel, Hongler, "Neural tangent kernel" (2018).
    Lee et al., "Wide neural networks of any depth evolve as linear models under gradient descent"
    (2019).

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import EnsembleRegressor, nn
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = EnsembleRegressor(nn.mlp(depth=2)).fit(X, y)
    >>> early, late = model.predict(X, time=[1.0, 1e6])
    >>> bool(np.std(y - early) > 100 * np.std(y - late))
    True
    >>> mean, std = model.predict([[0.0], [3.0]], return_std=True)
    >>> bool(std[0] < std[1])
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        name: rule
        for name, rule in KernelModel._parameter_constraints.items()
        if name not in ("kernel", "store")
    } | {
        "train": [StrOptions({"ntk", "nngp"})],
        "time": [Interval(Real, 0, None, closed="both"), None],
        "steps": [Interval(Integral, 0, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "loss": [StrOptions(set(LOSSES)), callable],
        "reduction": [StrOptions({"mean", "sum"})],
        "target_noise": ["boolean"],
        "solver": [StrOptions({"auto", "eigh", "krylov"})],
        "dtype": [StrOptions({"float64"}), type, np.dtype, None],
    }
    store = None

    def __init__(
        self,
        network: nn.Layer | str | None = None,
        train: str = "ntk",
        time: float | None = None,
        steps: int | None = None,
        learning_rate: float = 1.0,
        momentum: float = 0.0,
        alpha: float = 0.0,
        alpha_scale: str = "mean_diag",
        loss: str | Callable[[Floats, Floats], Floats] = "mse",
        reduction: str = "mean",
        target_noise: bool = False,
        fit_intercept: bool = False,
        solver: str = "auto",
        dtype: Any = None,
        device: str = "cpu",
        backend: str = "auto",
        precision: str = "tf32x3",
        max_memory: float | str | None = None,
        verbose: bool | int = 0,
        input_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.network = network
        self.train = train
        self.time = time
        self.steps = steps
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.alpha = alpha
        self.alpha_scale = alpha_scale
        self.loss = loss
        self.reduction = reduction
        self.target_noise = target_noise
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.dtype = dtype
        self.device = device
        self.backend = backend
        self.precision = precision
        self.max_memory = max_memory
        self.verbose = verbose
        self.input_shape = input_shape

    @property
    def kernel(self) -> str:  # type: ignore[override]
        """The kernel that training follows."""
        return self.train

    def _validate_params(self) -> None:
        BaseEstimator._validate_params(self)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Decompose the kernel, and train.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        sample_weight : float or array-like of shape (n_samples,), optional
            Weights of the rows in the loss.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If data or parameters cannot be used, or training has no end.
        MemoryBudgetError
            If the fit does not fit the memory budget; nothing was allocated.

        Warns
        -----
        UserWarning
            If steps of this learning rate diverge.
        """
        started = clock.perf_counter()
        self._require_one_process()
        self._asked = self._run()
        self._system = None
        X, y, weights = self._validated(X, y, sample_weight, multi_output=True, y_numeric=True)
        targets = y.reshape(len(X), -1)
        if isinstance(self.loss, str):
            check_targets(self.loss, targets)
        mean = np.average(targets, axis=0, weights=weights) * self.fit_intercept
        self._targets, self._weights = targets - mean, weights
        self.y_mean_ = mean.reshape(y.shape[1:])[()]
        self.network_ = described(self._network(), "EnsembleRegressor")
        self.kernel_, self.X_fit_ = self.train, X
        self.alpha_ = float(self.alpha)
        self.plan_ = self._plan(X, targets.shape[1], weights, self._approach(X, 1, weights))
        self.loo_ = None
        system = self._made()
        self.largest_learning_rate_ = system.largest_learning_rate
        self._asked.check_rate(self.largest_learning_rate_, self._asked.time)
        value = self._coefficients((self._asked.time,))[0].reshape(y.shape)
        self.dual_coef_ = value
        stats = Stats(seconds=clock.perf_counter() - started, peak_bytes=self.plan_.peak_bytes)
        self.solution_ = Solution(value, Status.OK, stats)
        return self

    def predict(
        self, X: Any, time: Any = None, return_std: bool = False, return_cov: bool = False
    ) -> Any:
        """Mean of the ensemble, with its spread.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Data.
        time : float or sequence of float, optional
            Another time than that of the fit, or several; steps if it was trained by steps.
        return_std : bool, default=False
            Also standard deviations over networks, in tiles of rows.
        return_cov : bool, default=False
            Also the covariance.

        Returns
        -------
        mean : ndarray of shape (n_rows,) or (n_rows, n_targets)
            Means; with several times they are the first axis, of all that is returned.
        std : ndarray of the shape of mean
            If asked for; targets have the same.
        cov : ndarray of shape (n_rows, n_rows) or (n_rows, n_rows, n_targets)
            If asked for.

        Raises
        ------
        InvalidInputError
            If a time is negative, or training has no limit at it; if the loss is not "mse" and a
            spread is asked for.
        MemoryBudgetError
            If a covariance does not fit the memory budget.
        """
        if return_std and return_cov:
            raise InvalidInputError("ask for one of return_std and return_cov")
        check_is_fitted(self, "dual_coef_")
        times = self._checked(time)
        if (return_std or return_cov) and not self._asked.linear:
            raise InvalidInputError(
                f"the spread of an ensemble is known for loss='mse' only, found "
                f"{self._asked.loss!r}"
            )
        rows = self._rows(X)
        if return_cov:
            copies = 3 + len(times) * self._targets.shape[1]
            check_covariance_fits(len(rows), len(self.X_fit_), self.max_memory, copies)
        if times == (self._asked.time,):
            coefficients = np.asarray(self.dual_coef_).reshape(1, *self._targets.shape)
        else:
            coefficients = self._coefficients(times)
        n, t = self._targets.shape
        joined = np.ascontiguousarray(coefficients.transpose(1, 0, 2).reshape(n, -1))
        between = self._fitted(rows, self.X_fit_)
        mean = times_dual(between, joined, self.max_memory).reshape(len(rows), len(times), t)
        shape = (len(times), len(rows), *np.shape(self.y_mean_))
        mean = mean.transpose(1, 0, 2).reshape(shape) + self.y_mean_
        found = [mean]
        budget = memory_budget(self.max_memory)
        if return_std:
            variance = self._made().variance(rows, times, budget)
            found.append(self._for_targets(np.sqrt(variance)))
        if return_cov:
            found.append(self._for_targets(self._made().covariance(rows, times, budget)))
        if np.ndim(time) == 0:
            found = [values[0] for values in found]
        return found[0] if len(found) == 1 else tuple(found)

    def sample_y(
        self, X: Any, n_samples: int = 1, random_state: Any = 0, *, time: Any = None
    ) -> Floats:
        """Outputs of networks drawn from the ensemble: from their start, trained on any loss.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Where to evaluate them.
        n_samples : int, default=1
            How many networks.
        random_state : int, RandomState or None, default=0
            Draws their initial outputs.
        time : float or sequence of float, optional
            Another time than that of the fit, or several of the same networks.

        Returns
        -------
        ndarray of shape (n_rows, n_samples) or (n_rows, n_targets, n_samples)
            With several times they are the first axis.

        Notes
        -----
        Initial outputs of training and new rows are drawn together: from their covariance up to
        3,000 rows, if that fits, else by products with it.
        """
        if n_samples < 1:
            raise InvalidInputError(f"expected n_samples >= 1, found {n_samples!r}")
        check_is_fitted(self, "dual_coef_")
        rows, times = self._rows(X), self._checked(time)
        rng = check_random_state(random_state)
        (n, t), m = self._targets.shape, len(rows)
        joint = self._operator(np.vstack([self.X_fit_, rows]), None, self.network_, "nngp")
        start = drawn_from(joint, t * n_samples, rng, self.max_memory)
        targets = np.repeat(self._targets, n_samples, axis=1)
        system = self._made()
        if system.target_noise:
            levels = np.sqrt(system.target_noise / self._weights)[:, None]
            targets = targets + levels * rng.standard_normal(targets.shape)
        ends = self._coefficients(times, targets, start[:n])
        learned = times_dual(
            self._fitted(rows, self.X_fit_),
            np.ascontiguousarray(ends.transpose(1, 0, 2).reshape(n, -1)),
            self.max_memory,
        ).reshape(m, len(times), -1)
        drawn = (start[n:, None] + learned).transpose(1, 0, 2).reshape(len(times), m, t, n_samples)
        drawn = drawn + np.reshape(self.y_mean_, (1, 1, -1, 1))
        drawn = drawn if np.ndim(self.y_mean_) else drawn[:, :, 0]
        return drawn[0] if np.ndim(time) == 0 else drawn

    def _run(self) -> TrainingRun:
        """What the parameters ask for, checked."""
        if self.time is not None and self.steps is not None:
            raise InvalidInputError(
                "time is of gradient flow, steps are of gradient descent: give one of them"
            )
        time = np.inf if self.time is None else self.time
        run = TrainingRun(
            float(time if self.steps is None else self.steps),
            self.steps is not None,
            float(self.learning_rate),
            float(self.momentum),
            self.loss,
            self.reduction,
            self.alpha_scale,
            self.target_noise,
        )
        run.check(str(self.solver), self.fit_intercept)
        return run

    def _approach(self, X: NDArray[Any], n_targets: int, weights: Floats) -> Approach:
        return Approach(np.array([float(self.alpha)]), False)

    def _plan(
        self,
        X: NDArray[Any],
        n_targets: int,
        weights: Floats,
        how: Approach,
        probe: Any = None,
    ) -> Plan:
        linear = isinstance(self.loss, str) and self.loss == "mse"
        return plan_of_ensemble(
            X.shape, n_targets, str(self.solver), linear, self.max_memory, self.device, probe
        )
