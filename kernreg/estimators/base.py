"""What the regressor and the classifier share: parameters, fit, blocked prediction, files."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from kernreg import nn
from kernreg.backends.sparse import sparse_or_as_it_is
from kernreg.backends.triton.tuning import PRECISIONS
from kernreg.distributed import by_rows, from_first, rank
from kernreg.estimators import persistence
from kernreg.estimators.alphas import Approach
from kernreg.estimators.duplicates import INSEPARABLE
from kernreg.estimators.inputs import check_data, check_weights
from kernreg.estimators.loo import LeaveOneOut
from kernreg.estimators.planned import Planned, described
from kernreg.estimators.predict import times_dual
from kernreg.estimators.progress import progress
from kernreg.estimators.ridge import ridge_unit, smallest_ridge
from kernreg.estimators.solve import (
    as_read,
    chosen_solver,
    dual_dtype,
    require_rows,
    solve_alphas,
)
from kernreg.estimators.targets import Targets
from kernreg.estimators.text import naming_text
from kernreg.operators.distributed import led
from kernreg.operators.inputs import check_device
from kernreg.operators.kept import kept
from kernreg.planning.plan import Plan
from kernreg.solvers.base import Solver
from kernreg.solvers.registry import by_name

__all__ = ["KernelModel"]


class KernelModel(Planned, BaseEstimator):
    """Base of the estimators: kernel ridge regression, of centred targets by default.

    Subclasses turn labels into targets and predictions into labels.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "network": [nn.Layer, torch.nn.Module, str, None],
        "kernel": [StrOptions({"ntk", "nngp"})],
        "alpha": [Interval(Real, 0, None, closed="left"), "array-like", StrOptions({"auto"})],
        "alpha_scale": [StrOptions({"mean_diag", "absolute"})],
        "fit_intercept": ["boolean"],
        "solver": [str, Solver],
        "dtype": [StrOptions({"float32", "float64"}), type, np.dtype, None],
        "device": [str],
        "backend": [str],
        "precision": [StrOptions(set(PRECISIONS))],
        "max_memory": [Interval(Real, 1, None, closed="left"), str, None],
        "verbose": ["verbose"],
        "store": [str, os.PathLike, None],
        "input_shape": ["array-like", None],
        "scale": [StrOptions({"ard"}), None],
    }

    def __init__(
        self,
        network: nn.Layer | str | None = None,
        kernel: str = "ntk",
        alpha: Any = "auto",
        alpha_scale: str = "mean_diag",
        fit_intercept: bool = True,
        solver: str | Solver = "auto",
        dtype: Any = None,
        device: str = "cpu",
        backend: str = "auto",
        precision: str = "tf32x3",
        max_memory: float | str | None = None,
        verbose: bool | int = 0,
        store: str | os.PathLike[str] | None = None,
        input_shape: tuple[int, ...] | None = None,
        scale: str | None = None,
    ) -> None:
        self.network = network
        self.kernel = kernel
        self.alpha = alpha
        self.alpha_scale = alpha_scale
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.dtype = dtype
        self.device = device
        self.backend = backend
        self.precision = precision
        self.max_memory = max_memory
        self.verbose = verbose
        self.store = store
        self.input_shape = input_shape
        self.scale = scale

    # What scikit-learn should make of sparse data; False where rows must be dense.
    _sparse_format: ClassVar[str | bool] = False
    # Whether the solver's state is needed behind the fit.
    _keeps_state: ClassVar[bool] = False

    def _keep_state(
        self, solver: Solver, state: Any, weights: NDArray[np.float64], ridge: float
    ) -> None:
        """Take over what a solver made for a ridge that is divided by the weights."""

    def _calibrate(
        self, X: NDArray[Any], targets: Targets, loo: LeaveOneOut | None, ridge: float
    ) -> None:
        """Learn from rows that are left out; X, targets and ridge are those of the fit."""

    def _own_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What a fitted model of this class has beside that of all: arrays, and JSON."""
        return {}, {}

    def _restore(self, arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> None:
        """Take over what :meth:`_own_state` gave; ValueError or LookupError if it cannot be."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = bool(self._sparse_format)
        return tags

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not hasattr(cls, "fit"):  # a base of models, which no file holds
            return
        # A class that is defined again replaces itself, and no other one.
        known = persistence.MODELS.setdefault(cls.__name__, cls)
        if known.__module__ == cls.__module__:
            persistence.MODELS[cls.__name__] = cls

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``network__name=value`` replaces the network by a changed copy.

        Parameters
        ----------
        **params : dict
            Parameters of the estimator, or of its network after ``network__``.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If a name is unknown.
        """
        head = "network__"
        inner = {k.removeprefix(head): v for k, v in params.items() if k.startswith(head)}
        super().set_params(**{k: v for k, v in params.items() if not k.startswith(head)})
        if inner:
            self.network = described(self._network(), "set_params(network__...)").with_params(
                **inner
            )
        return self

    def _validate_params(self) -> None:
        """Check parameters; solvers that were registered since have names, too."""
        solver = [StrOptions({"auto", *by_name()}), Solver]
        validate_parameter_constraints(
            self._parameter_constraints | {"solver": solver},
            self.get_params(deep=False),
            caller_name=type(self).__name__,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one file, which :func:`kernreg.load` reads.

        Parameters
        ----------
        path : path-like
            Name of the file; an existing file is replaced, at once and as a whole.
        """
        check_is_fitted(self, "dual_coef_")
        persistence.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, trusted: bool = False) -> Self:
        """Read a model of this class; see :func:`kernreg.load`.

        Parameters
        ----------
        path : path-like
            Name of the file.
        trusted : bool, default=False
            Allow a network that names Python functions, which are then imported.

        Returns
        -------
        KernelModel
            The fitted model.
        """
        return persistence.load(path, cls, trusted=trusted)

    def _validated(
        self, X: Any, y: Any, sample_weight: Any, **y_options: bool
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
        """Data, targets and weights of the rows whose weight is positive."""
        check_weights(sample_weight)
        check_data(X, y)
        X = self._as_rows(X)
        with naming_text(X, y):
            options = {"dtype": self._dtypes(), "order": "C", "copy": True, **y_options}
            X, y = validate_data(self, X, y, accept_sparse=self._sparse_format, **options)
            X = sparse_or_as_it_is(X)
            self._check_columns(self._network(), X)
            # What the caller does with its arrays afterwards is no business of the model.
            y = np.array(y, dtype=np.float64 if y_options.get("y_numeric") else None, order="C")
        if sample_weight is None:
            return X, y, np.ones(len(X))
        weights = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True, copy=True
        )
        return self._weighted(X, y, weights)

    def _weighted(
        self, X: NDArray[Any], y: NDArray[Any], weights: NDArray[np.float64]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
        """The rows whose weight is positive."""
        kept = weights > 0
        require_rows(self.solver, int(kept.sum()), len(X))
        return (X, y, weights) if kept.all() else (X[kept], y[kept], weights[kept])

    def _fit_targets(
        self, X: NDArray[Any], targets: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> None:
        """Fit to ``targets`` of shape (n,) or (n, t), rows weighted by positive ``weights``."""
        check_device(self.device)
        if self.scale == "ard":
            self._check_scalable(described(self._network(), "scale='ard'"), X)
        with self._without_scales():
            self._fit_anew(X, targets, weights)

    def _fit_anew(
        self, X: NDArray[Any], targets: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> None:
        """The same with no scales from before."""
        shown = bool(self.verbose) and rank() == 0
        wanted = Targets(targets.reshape(len(X), -1), weights, self.fit_intercept, self._correct)
        if self._merges(len(X)) or self._inseparable(X, weights):
            given = len(X)
            rows, wanted = wanted.merged(X)
            X = X if len(rows) == given else X[rows]
            require_rows(self.solver, len(X), given)
        t, weights = wanted.values.shape[1], wanted.weights
        how = from_first(lambda: self._approach(X, t, weights))
        planned = from_first(lambda: self._plan(X, t, weights, how))
        if self.scale == "ard":
            with progress(f"{type(self).__name__}: scales", shown) as bar:
                network = described(self._network(), "scale='ard'")
                self._learn_scales(network, self.kernel, (X, wanted.values, weights), bar)
        try:
            if self._worth_keeping(X, planned):
                with progress(f"{type(self).__name__}: kernel", shown) as bar:
                    self._known = X, kept(self._operator(X), bar)
            self._solve_targets(X, targets, wanted, how, planned, shown)
        finally:
            self._known = None

    def _solve_targets(
        self,
        X: NDArray[Any],
        targets: NDArray[np.float64],
        wanted: Targets,
        how: Approach,
        planned: Plan,
        shown: bool,
    ) -> None:
        """Choose alpha where that is still to be done, and solve."""
        network, t, weights = self._network(), wanted.values.shape[1], wanted.weights
        chosen: LeaveOneOut | None = None
        if how.rows:
            with progress(f"{type(self).__name__}: alpha", shown) as bar:
                chosen = from_first(lambda: self._choose(how, X, wanted, bar))
            how = replace(how, alphas=how.alphas[[chosen.best]], rows=0)
            planned = from_first(lambda: self._plan(X, t, weights, how))
        elif how.fixed:
            warnings.warn(
                f"max_memory leaves no room to choose alpha by leave-one-out: it is "
                f"{how.alphas[0]:.3g}. Give a number, or allow more memory.",
                UserWarning,
                stacklevel=4,
            )
        operator, matrix = as_read(self._operator(X), self.store)
        with progress(f"{type(self).__name__}: {planned.solver}", shown) as bar:
            solver = chosen_solver(self.solver, planned, operator, t)
            unit = ridge_unit(self.alpha_scale, operator, weights)
            choice = led(
                matrix,
                lambda operator: solve_alphas(
                    solver,
                    operator,
                    wanted,
                    alphas=how.alphas,
                    ridges=how.alphas * unit,
                    leave_one_out=how.leave_one_out,
                    callback=bar,
                    keep_state=self._keeps_state,
                ),
            )
            if self._keeps_state:
                self._keep_state(solver, choice.state, weights, float(how.alphas[0] * unit))
        shape = (len(X), *targets.shape[1:])
        # Few centres have large coefficients that cancel: these need entries in float64. Those of
        # all rows have the type of the data where that serves; the solution, with residuals of
        # float64, stays.
        kept = dual_dtype(X.dtype, operator, choice.solution.value, wanted.centered)
        rows_of_fit = X
        if choice.centres is not None:
            X, kept = X[choice.centres], np.dtype(np.float64)
        value = np.ascontiguousarray(choice.solution.value, dtype=np.float64)
        value = value.reshape(len(X), *shape[1:])
        self.network_, self.kernel_, self.plan_ = network, self.kernel, planned
        self.X_fit_ = X
        self.alpha_ = float(how.alphas[choice.best])
        self.dual_coef_ = value.astype(kept, copy=False)
        self.y_mean_ = wanted.mean.reshape(shape[1:])[()]
        self.solution_ = replace(choice.solution, value=value)
        loo = chosen or choice.loo
        self._calibrate(rows_of_fit, wanted, loo, float(self.alpha_ * unit))
        if loo is not None:
            assert loo.targets is not None
            loo = replace(
                loo,
                predictions=loo.predictions.reshape(-1, *shape[1:]),
                targets=loo.targets.reshape(-1, *shape[1:]),
            )
        self.loo_ = loo

    def _inseparable(self, X: NDArray[Any], weights: NDArray[np.float64]) -> bool:
        """Whether one ridge is so near rounding that equal rows must be one, and none is named."""
        named = isinstance(self.solver, Solver) and self.solver.names_rows
        if isinstance(self.alpha, str) or np.ndim(self.alpha) or named or self.store is not None:
            return False
        alpha = float(self.alpha)
        least = smallest_ridge(self.alpha_scale, alpha, weights, lambda: self._operator(X))
        return least < INSEPARABLE

    def _predict_targets(self, X: Any) -> NDArray[Any]:
        """Predictions of shape (n,) or (n, t), made in blocks of rows of bounded size."""
        check_is_fitted(self, "dual_coef_")
        check_data(X)
        X = self._as_fitted(X)
        with naming_text(X):
            options = {"dtype": self.X_fit_.dtype, "order": "C", "reset": False}
            X = validate_data(self, X, accept_sparse=self._sparse_format, **options)
        X = sparse_or_as_it_is(X)

        def part(start: int, stop: int) -> NDArray[Any]:
            kind = self.dual_coef_.dtype
            between = self._operator(
                X[start:stop], self.X_fit_, self.network_, self.kernel_, dtype=kind
            )
            return times_dual(between, self.dual_coef_, self.max_memory)

        # Targets may be far from 0, where float32 would round what the kernel adds.
        return by_rows(len(X), part, X, self.dual_coef_) + np.asarray(self.y_mean_, np.float64)
