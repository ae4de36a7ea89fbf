"""What the regressor and the classifier share: parameters, fit, blocked prediction, files."""

from __future__ import annotations

import os
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_is_fitted,
    validate_data,
)

from kernreg import nn
from kernreg.backends.triton.tuning import PRECISIONS
from kernreg.distributed import by_rows, from_first, rank
from kernreg.estimators import persistence
from kernreg.estimators._duplicates import merge_equal_rows
from kernreg.estimators._explain import Explanation
from kernreg.estimators._predict import times_dual
from kernreg.estimators._progress import progress
from kernreg.estimators._ridge import ridge_unit, smallest_ridge
from kernreg.estimators._solve import (
    as_read,
    chosen_solver,
    read_dtype,
    require_leave_one_out,
    require_rows,
    solve_alphas,
)
from kernreg.estimators._text import naming_text
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.linalg.candidates import NAMES
from kernreg.linalg.cholesky import Cholesky
from kernreg.linalg.distributed import led
from kernreg.linalg.eigh import Eigh
from kernreg.linalg.inputs import check_device
from kernreg.linalg.operator import KernelOperator
from kernreg.linalg.out_of_core import OutOfCoreCholesky
from kernreg.linalg.pcg import PCG
from kernreg.linalg.plan import Plan, plan
from kernreg.linalg.probe import Probe
from kernreg.linalg.restricted import Restricted
from kernreg.linalg.sketch import SketchAndProject

__all__ = ["KernelModel"]


class KernelModel(BaseEstimator):
    """Base of the estimators: kernel ridge regression, of centred targets by default.

    Subclasses turn labels into targets and predictions into labels.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "network": [nn.Layer, None],
        "kernel": [StrOptions({"ntk", "nngp"})],
        "alpha": [Interval(Real, 0, None, closed="left"), "array-like"],
        "alpha_scale": [StrOptions({"mean_diag", "absolute"})],
        "fit_intercept": ["boolean"],
        "solver": [
            StrOptions({"auto", *NAMES}),
            Cholesky,
            Eigh,
            PCG,
            OutOfCoreCholesky,
            Restricted,
            SketchAndProject,
        ],
        "dtype": [StrOptions({"float32", "float64"}), type, np.dtype, None],
        "device": [str],
        "backend": [str],
        "precision": [StrOptions(set(PRECISIONS))],
        "max_memory": [Interval(Real, 1, None, closed="left"), str, None],
        "verbose": ["verbose"],
        "store": [str, os.PathLike, None],
    }

    def __init__(
        self,
        network: nn.Layer | None = None,
        kernel: str = "ntk",
        alpha: Any = 1e-3,
        alpha_scale: str = "mean_diag",
        fit_intercept: bool = True,
        solver: Any = "auto",
        dtype: Any = None,
        device: str = "cpu",
        backend: str = "auto",
        precision: str = "tf32x3",
        max_memory: float | str | None = None,
        verbose: bool | int = 0,
        store: str | os.PathLike[str] | None = None,
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
            self.network = self._network().with_params(**inner)
        return self

    def explain(self, X: Any, y: Any = None, *, seconds: bool = True) -> Explanation:
        """Say what ``fit(X, y)`` would do, without doing it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), optional
            Targets or labels; only their number matters, one if left out.
        seconds : bool, default=True
            Predict times, by some seconds of measurements on a part of the rows; without it
            only the shape and type of the data matter, and nothing is computed but, where alpha
            is absolute, the diagonal of the kernel.

        Returns
        -------
        Explanation
            Network, program, cost, backends with reasons, and the solver's plan.

        Examples
        --------
        >>> import numpy as np
        >>> from kernreg import KernelRegressor
        >>> report = KernelRegressor().explain(np.ones((1000, 20)))
        >>> report.plan.solver, report.fits
        ('cholesky', True)
        """
        from kernreg import backends

        self._validate_params()
        check_device(self.device)
        with naming_text(X):
            X = check_array(X, dtype=self._dtypes(), estimator=self, input_name="X")
        program = self._network().program()
        n_targets = 1 if y is None else self._count_targets(y)
        found: Plan | MemoryBudgetError
        try:
            probe = self._probe(X) if seconds else None
            found = self._plan(X, n_targets, np.ones(len(X)), probe)
        except MemoryBudgetError as error:
            found = error
        return Explanation(
            model=type(self).__name__,
            network=repr(self._network()),
            kernel=self.kernel,
            program=str(program),
            n_samples=X.shape[0],
            n_features=X.shape[1],
            n_targets=n_targets,
            dtype=X.dtype.name,
            alphas=tuple(self._alphas().tolist()),
            flops_per_entry=program.flops(),
            backends=tuple(backends.explain(program, check_device(self.device))),
            plan=found,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one file; see :func:`kernreg.estimators.persistence.save`.

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
        KernelRegressor or KernelClassifier
            The fitted model.
        """
        return persistence.load(path, cls, trusted=trusted)

    def _network(self) -> nn.Layer:
        return nn.mlp(depth=3) if self.network is None else self.network

    def _dtypes(self) -> Any:
        """What ``validate_data`` should make of X: by default float32 stays, all else is float64.

        Raises
        ------
        InvalidInputError
            If ``dtype`` is a type other than these two.
        """
        if self.dtype is None:
            return [np.float64, np.float32]
        name = np.dtype(self.dtype).name
        if name not in ("float32", "float64"):
            raise InvalidInputError(f"dtype must be float32, float64 or None, found {name}.")
        return np.dtype(name)

    def _alphas(self) -> NDArray[np.float64]:
        """All values of ``alpha``, of shape (n_alphas,)."""
        alphas = np.atleast_1d(np.asarray(self.alpha))
        if alphas.ndim != 1 or alphas.size == 0 or alphas.dtype.kind not in "biuf":
            raise InvalidInputError(
                f"alpha must be a number or a non-empty sequence of numbers, found {self.alpha!r}."
            )
        alphas = alphas.astype(np.float64)
        if not (np.isfinite(alphas).all() and (alphas >= 0).all()):
            raise InvalidInputError(f"alpha must be finite and >= 0, found {self.alpha!r}.")
        return alphas

    def _wants_loo(self, n: int) -> bool:
        """Leave-one-out comes with a choice of alpha, and for free with an eigendecomposition.

        Raises
        ------
        InvalidInputError
            If alpha is to be chosen on a single row.
        """
        if np.ndim(self.alpha):
            if n < 2:
                raise InvalidInputError(
                    "A choice of alpha by leave-one-out needs at least two rows, found "
                    "n_samples=1: give alpha as one number."
                )
            require_leave_one_out(self.solver)
            return True
        return n > 1 and (self.solver == "eigh" or isinstance(self.solver, Eigh))

    def _probe(self, X: NDArray[Any]) -> Probe:
        """Measurements on the kernel of some rows, made when they are needed."""
        operator = self._operator(X)
        unit = ridge_unit(self.alpha_scale, operator, np.ones(len(X)))
        return Probe(operator, float(self._alphas()[0]) * unit)

    def _operator(
        self,
        X: NDArray[Any],
        X2: NDArray[Any] | None = None,
        network: nn.Layer | None = None,
        dtype: Any = None,
    ) -> KernelOperator:
        return KernelOperator(
            network or self._network(),
            X,
            X2,
            kernel=self.kernel,
            dtype=dtype or X.dtype,
            device=self.device,
            backend=self.backend,
            precision=self.precision,
        )

    def _plan(
        self,
        X: NDArray[Any],
        n_targets: int,
        weights: NDArray[np.float64],
        probe: Probe | None = None,
    ) -> Plan:
        alphas = self._alphas()
        return plan(
            X.shape[0],
            X.shape[1],
            n_outputs=n_targets + self._wants_loo(len(X)),
            dtype=read_dtype(X.dtype, self.store),
            solver=self.solver,
            max_memory=self.max_memory,
            n_alphas=len(alphas),
            device=self.device,
            leave_one_out=self._wants_loo(len(X)),
            ridge=smallest_ridge(
                self.alpha_scale, float(alphas.min()), weights, lambda: self._operator(X)
            ),
            probe=probe,
        )

    def _count_targets(self, y: Any) -> int:
        shape = np.shape(y)
        return shape[1] if len(shape) == 2 else 1

    def _validated(
        self, X: Any, y: Any, sample_weight: Any, **y_options: bool
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
        """Data, targets and weights of the rows whose weight is positive."""
        with naming_text(X, y):
            options = {"dtype": self._dtypes(), "order": "C", "copy": True, **y_options}
            X, y = validate_data(self, X, y, **options)
            if y_options.get("y_numeric"):
                y = y.astype(np.float64, copy=False)
        if sample_weight is None:
            return X, y, np.ones(len(X))
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        kept = weights > 0
        require_rows(self.solver, int(kept.sum()), len(X))
        return (X, y, weights) if kept.all() else (X[kept], y[kept], weights[kept])

    def _fit_targets(
        self, X: NDArray[Any], targets: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> None:
        """Fit to ``targets`` of shape (n,) or (n, t), rows weighted by positive ``weights``."""
        check_device(self.device)
        alphas = self._alphas()
        columns = targets.reshape(len(X), -1)
        if not alphas.all():
            given = len(X)
            X, columns, weights = merge_equal_rows(X, columns, weights)
            require_rows(self.solver, len(X), given)
        network = self._network()
        planned = from_first(lambda: self._plan(X, columns.shape[1], weights))
        operator, matrix = as_read(self._operator(X), self.store)
        shown = bool(self.verbose) and rank() == 0
        with progress(f"{type(self).__name__}: {planned.solver}", shown) as bar:
            mean = np.average(columns, axis=0, weights=weights) * self.fit_intercept
            solver = chosen_solver(self.solver, planned, operator, columns.shape[1])
            unit = ridge_unit(self.alpha_scale, operator, weights)
            choice = led(
                matrix,
                lambda operator: solve_alphas(
                    solver,
                    operator,
                    alphas=alphas,
                    ridges=alphas * unit,
                    targets=columns,
                    mean=mean,
                    fit_intercept=self.fit_intercept,
                    weights=weights,
                    correct=self._correct,
                    leave_one_out=self._wants_loo(len(X)),
                    callback=bar,
                ),
            )
        shape = (len(X), *targets.shape[1:])
        # Few centres have large coefficients that cancel: these need entries in float64. Those of
        # all rows have the type of the data; the solution, with residuals of float64, stays.
        kept: Any = X.dtype
        if choice.centres is not None:
            X, kept = X[choice.centres], np.float64
        value = np.ascontiguousarray(choice.solution.value, dtype=np.float64)
        value = value.reshape(len(X), *shape[1:])
        self.network_, self.plan_ = network, planned
        self.X_fit_ = X
        self.alpha_ = float(alphas[choice.best])
        self.dual_coef_ = value.astype(kept, copy=False)
        self.y_mean_ = mean.reshape(shape[1:])[()]
        self.solution_ = replace(choice.solution, value=value)
        self.loo_ = choice.loo and replace(
            choice.loo, predictions=choice.loo.predictions.reshape(shape)
        )

    def _correct(
        self, targets: NDArray[np.float64], predictions: NDArray[np.float64]
    ) -> NDArray[np.bool_] | None:
        """Rows whose predicted label is right; None if there are no labels."""
        return None

    def _predict_targets(self, X: Any) -> NDArray[Any]:
        """Predictions of shape (n,) or (n, t), made in blocks of rows of bounded size."""
        check_is_fitted(self, "dual_coef_")
        with naming_text(X):
            X = validate_data(self, X, dtype=self.X_fit_.dtype, order="C", reset=False)

        def part(start: int, stop: int) -> NDArray[Any]:
            kind = self.dual_coef_.dtype
            between = self._operator(X[start:stop], self.X_fit_, self.network_, kind)
            return times_dual(between, self.dual_coef_, self.max_memory).astype(X.dtype, copy=False)

        result = by_rows(len(X), part, X, self.dual_coef_)
        result += np.asarray(self.y_mean_, dtype=X.dtype)
        return result
