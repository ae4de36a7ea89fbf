"""What Gaussian process regression and classification share: tuning, posterior, files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from kernreg import nn
from kernreg.estimators.alphas import Approach
from kernreg.estimators.base import KernelModel
from kernreg.estimators.checks import check_numbers
from kernreg.estimators.error_bars import ErrorBars
from kernreg.estimators.gaussian_process.hyperparameters import Hyperparameters, parameters_of
from kernreg.estimators.gaussian_process.marginal import Evidence, log_density
from kernreg.estimators.gaussian_process.tuning import TUNED_ROWS, tuned
from kernreg.estimators.posterior import Posterior
from kernreg.estimators.progress import progress
from kernreg.estimators.solve import as_read, chosen_solver
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.finite.as_network import ModuleNetwork
from kernreg.operators.budget import memory_budget
from kernreg.operators.parts import Parts
from kernreg.operators.store.store import TileStore
from kernreg.sizes import readable
from kernreg.solvers.base import Solver

__all__ = ["GaussianProcess", "Kept"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Kept:
    """What a fit leaves for variances: the solver and its state, or features of centres.

    Of a model that was read from a file there are features or nothing, and no solver.
    """

    solver: Any
    state: Any
    features: Floats | None


class GaussianProcess(ErrorBars):
    """Base of the Gaussian processes: a kernel model whose numbers the likelihood tunes."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **KernelModel._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left"), "array-like"],
        "dtype": [StrOptions({"float64"}), type, np.dtype, None],
        "optimizer": [StrOptions({"fmin_l_bfgs_b"}), callable, None],
        "n_restarts_optimizer": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
    }
    _keeps_state = True

    def __init__(
        self,
        network: nn.Layer | str | None = None,
        kernel: str = "nngp",
        alpha: Any = 1e-2,
        alpha_scale: str = "mean_diag",
        optimizer: str | Callable[..., Any] | None = "fmin_l_bfgs_b",
        n_restarts_optimizer: int = 0,
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
        random_state: Any = None,
    ) -> None:
        super().__init__(
            network,
            kernel,
            alpha,
            alpha_scale,
            fit_intercept,
            solver,
            dtype,
            device,
            backend,
            precision,
            max_memory,
            verbose,
            store,
            input_shape,
        )
        self.optimizer = optimizer
        self.n_restarts_optimizer = n_restarts_optimizer
        self.random_state = random_state

    def __getstate__(self) -> dict[str, Any]:
        # A factor is made again from the rows when it is needed.
        state = dict(super().__getstate__())
        if "_kept" in state:
            state["_kept"] = replace(state["_kept"], state=None)
        return state

    def _fit_process(
        self, X: NDArray[Any], y: Floats, weights: Floats, alpha: float, counted: bool
    ) -> None:
        """Tune, and solve for targets of shape (n,) or (n, t), in the units that they are in."""
        self.__dict__.pop("_kept", None)  # an old factor would stand beside the new one
        if self.store is not None and TileStore.open(self.store).entries != np.float64:
            raise InvalidInputError(
                f"{self.store} holds entries too coarse for variances: write a store of float64 "
                "ones, or leave store out"
            )
        if self.store is not None and self.optimizer is not None:
            raise InvalidInputError(
                "a store is of one network, which tuning would change: give optimizer=None, or "
                "leave store out"
            )
        targets = y.reshape(len(X), -1)
        mean = np.average(targets, axis=0, weights=weights) * self.fit_intercept
        hyper = parameters_of(self._network(), alpha)
        network = hyper.network
        if self.optimizer is not None:
            theta = self._tuned(hyper, X, targets - mean, weights, counted)
            network, alpha = hyper.network_at(theta), hyper.alpha_at(theta)
        given = network.module if isinstance(network, ModuleNetwork) else network
        fitting = clone(self).set_params(network=given, alpha=alpha, optimizer=None)
        fitting._fit_targets(X, y, weights)
        for name, value in vars(fitting).items():
            if name.endswith("_") or name in ("_kept", "_held_out", "_ridge"):
                setattr(self, name, value)
        self._targets, self._weights = targets - mean, weights
        self._centred, self._scale = self.fit_intercept, self.alpha_scale
        self._counted = counted
        tuned_to = parameters_of(self.network_, self.alpha_)
        self.theta_, self.theta_names_ = tuned_to.theta, tuned_to.names
        determinant = self.solution_.stats.log_determinant
        self.log_marginal_likelihood_value_ = None
        if determinant is not None:
            dual = np.asarray(self.solution_.value).reshape(len(X), -1)
            value = log_density(dual, self._targets, determinant)
            evidence = self._evidence(
                tuned_to, X, self._targets, weights, self.kernel_, self._scale, counted
            )
            self.log_marginal_likelihood_value_ = value + evidence.of_copies(self._ridge)

    def log_marginal_likelihood(
        self, theta: Any = None, eval_gradient: bool = False, clone_kernel: bool = True
    ) -> Any:
        """Log marginal likelihood of the training rows, and its gradient.

        Parameters
        ----------
        theta : array-like of shape (k,), optional
            Hyperparameters as in ``theta_``; those of the fit if left out.
        eval_gradient : bool, default=False
            Also the gradient.
        clone_kernel : bool, default=True
            Without effect: networks do not change. Here as in scikit-learn.

        Returns
        -------
        value : float
            Summed over targets; minus infinity where the matrix has no Cholesky factor.
        gradient : ndarray of shape (k,)
            By ``theta``, if asked for.

        Raises
        ------
        MemoryBudgetError
            If the matrices do not fit the memory budget.
        """
        check_is_fitted(self, "dual_coef_")
        if theta is None and not eval_gradient and self.log_marginal_likelihood_value_ is not None:
            return self.log_marginal_likelihood_value_
        if len(self._targets) != len(self.X_fit_):
            raise InvalidInputError(
                "this model keeps its centres only: log_marginal_likelihood needs all rows, fit "
                "with another solver"
            )
        hyper = parameters_of(self.network_, self.alpha_)
        evidence = self._evidence(
            hyper,
            self.X_fit_,
            self._targets,
            self._weights,
            self.kernel_,
            self._scale,
            self._counted,
        )
        needed, budget = evidence.bytes_needed(), memory_budget(self.max_memory)
        if needed > budget:
            raise MemoryBudgetError(
                f"The likelihood of {len(self.X_fit_)} rows takes {readable(needed)}, "
                f"{readable(budget)} may be used: fit to fewer rows."
            )
        vector = hyper.theta if theta is None else np.asarray(theta, dtype=np.float64)
        if vector.shape != hyper.theta.shape:
            raise InvalidInputError(
                f"expected theta of shape {hyper.theta.shape} ({', '.join(hyper.names)}), found "
                f"{vector.shape}"
            )
        return evidence.gradient(vector) if eval_gradient else evidence.value(vector)

    def _noise(self, X: Any, sample_weight: Any) -> tuple[float, Any, bool]:
        """Mean noise, weights that divide it, and whether these count equal rows."""
        if np.ndim(self.alpha) == 0:
            alpha = float(self.alpha)
            if self.optimizer is not None and alpha == 0:
                raise InvalidInputError(
                    "alpha=0 cannot be tuned by its logarithm: give a small number, such as 1e-6, "
                    "or optimizer=None"
                )
            return alpha, sample_weight, True
        try:
            levels = np.asarray(self.alpha, dtype=np.float64)
        except (TypeError, ValueError):
            levels = np.array(np.nan)
        if sample_weight is not None:
            raise InvalidInputError(
                "alpha for each row and sample_weight both say how much noise a row has: give one"
            )
        usable = np.isfinite(levels) & (levels > 0)
        if levels.shape != (len(X),) or not usable.all():
            found = f"shape {levels.shape}" if usable.all() else str(np.ravel(self.alpha)[0])
            if levels.ndim == 1 and not usable.all():
                found = f"{levels[~usable][0]:g}"
            raise InvalidInputError(
                f"expected alpha as one number, or {len(X)} finite numbers > 0, one for each row; "
                f"found {found}"
            )
        return float(levels.mean()), levels.mean() / levels, False

    def _approach(self, X: NDArray[Any], n_targets: int, weights: Floats) -> Approach:
        return Approach(np.array([float(np.mean(self.alpha))]), False)

    def _keep_state(self, solver: Solver, state: Any, weights: Floats, ridge: float) -> None:
        self.noise_ = self._ridge = ridge
        features = solver.features(state)
        self._kept = Kept(solver, state if features is None else None, features)

    def _tuned(
        self,
        hyper: Hyperparameters,
        X: NDArray[Any],
        targets: Floats,
        weights: Floats,
        counted: bool,
    ) -> Floats:
        rows = np.arange(len(X))
        if len(X) > TUNED_ROWS:
            rows = np.sort(np.random.default_rng(0).permutation(len(X))[:TUNED_ROWS])
        evidence = self._evidence(
            hyper, X[rows], targets[rows], weights[rows], self.kernel, self.alpha_scale, counted
        )
        needed, budget = evidence.bytes_needed(), memory_budget(self.max_memory)
        if needed > budget:
            raise MemoryBudgetError(
                f"Tuning on {len(rows)} rows takes {readable(needed)}, {readable(budget)} may be "
                "used: allow more memory, or give optimizer=None."
            )
        with progress(f"{type(self).__name__}: tuning", bool(self.verbose)) as bar:
            theta, _ = tuned(
                evidence,
                self.kernel,
                self.optimizer,  # type: ignore[arg-type]
                self.n_restarts_optimizer,
                check_random_state(self.random_state),
                bar,
            )
        return theta

    def _evidence(
        self,
        hyper: Hyperparameters,
        X: NDArray[Any],
        targets: Floats,
        weights: Floats,
        kernel: str,
        scale: str,
        counted: bool,
    ) -> Evidence:
        def operator(rows: NDArray[Any], network: nn.Layer | ModuleNetwork) -> Parts:
            return self._operator(rows, None, network, kernel)

        return Evidence(X, targets, weights, hyper, scale == "mean_diag", operator, counted)

    def _after(self) -> Posterior:
        """The posterior; its system is made again where only coefficients were kept."""
        kept = self._kept
        if kept.state is None and kept.features is None:
            operator, matrix = as_read(self._fitted(self.X_fit_), self.store)
            n_outputs = self._targets.shape[1]
            solver = kept.solver or chosen_solver(self.solver, self.plan_, operator, n_outputs)
            state = solver.init_weighted(matrix, self._ridge, self._weights)
            self._kept = kept = Kept(solver, state, None)
        return Posterior(kept.solver, kept.state, kept.features, self.X_fit_, self._fitted)

    def _own_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays, header = super()._own_state()
        if self._kept.features is not None:
            arrays["features"] = self._kept.features
        value = self.log_marginal_likelihood_value_
        return arrays, header | {
            "noise": self._ridge,
            "log_likelihood": value,
            "centred": self._centred,
            "counted": self._counted,
            "scale": self._scale,
        }

    def _restore(self, arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> None:
        super()._restore(arrays, header)
        features = arrays.get("features")
        self._kept = Kept(None, None, features)
        self.noise_ = self._ridge = float(header["noise"])
        self._scale = str(header["scale"])
        self._centred, self._counted = bool(header["centred"]), bool(header["counted"])
        value = header["log_likelihood"]
        self.log_marginal_likelihood_value_ = None if value is None else float(value)
        if features is not None:
            check_numbers(features, (len(self.X_fit_), -1))
        elif len(self._targets) != len(self.X_fit_):
            raise ValueError("data and targets do not belong together")
        if not 0 <= self.noise_ < np.inf:
            raise ValueError(f"expected a noise of at least 0, found {self.noise_}")
        hyper = parameters_of(self.network_, self.alpha_)
        self.theta_, self.theta_names_ = hyper.theta, hyper.names
