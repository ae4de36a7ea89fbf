"""Kernel regression that learns a metric of its inputs from its own gradients."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from kernreg import nn
from kernreg.estimators.classifier import KernelClassifier
from kernreg.estimators.input_gradients import input_gradient
from kernreg.estimators.regressor import KernelRegressor
from kernreg.exceptions import InvalidInputError
from kernreg.solvers.base import Solver

__all__ = ["FeatureClassifier", "FeatureRegressor"]

# Rows whose gradients are averaged.
_ROWS = 2000


class _FeatureModel(BaseEstimator):
    """What both share: turns of fitting, and of averaging outer products of gradients."""

    _kind: ClassVar[type[KernelRegressor | KernelClassifier]]
    model_: Any
    root_: NDArray[np.float64]

    def __init__(
        self,
        network: nn.Layer | str | None = None,
        kernel: str = "ntk",
        alpha: Any = "auto",
        turns: int = 5,
        power: float = 0.5,
        metric: str = "full",
        held_out: float = 0.2,
        solver: str | Solver = "auto",
        max_memory: float | str | None = None,
        random_state: Any = 0,
    ) -> None:
        self.network = network
        self.kernel = kernel
        self.alpha = alpha
        self.turns = turns
        self.power = power
        self.metric = metric
        self.held_out = held_out
        self.solver = solver
        self.max_memory = max_memory
        self.random_state = random_state

    def _inner(self) -> Any:
        return self._kind(
            self.network,
            kernel=self.kernel,
            alpha=copy.copy(self.alpha),
            solver=self.solver,
            max_memory=self.max_memory,
        )

    def _check(self) -> None:
        whole = isinstance(self.turns, int | np.integer) and not isinstance(self.turns, bool)
        if not whole or self.turns < 0:
            raise InvalidInputError(f"turns must be a whole number from 0, found {self.turns!r}.")
        if self.metric not in ("full", "diagonal"):
            raise InvalidInputError(f"metric must be 'full' or 'diagonal', found {self.metric!r}.")
        if not 0 < self.power <= 1:
            raise InvalidInputError(f"power must be in (0, 1], found {self.power!r}.")
        if not 0 < self.held_out < 1:
            raise InvalidInputError(f"held_out must be between 0 and 1, found {self.held_out!r}.")

    def _fit(self, X: NDArray[np.float64], y: NDArray[Any]) -> None:
        self._check()
        random = check_random_state(self.random_state)
        order = random.permutation(len(X))
        split = min(len(X) - 1, max(2, round((1.0 - self.held_out) * len(X))))
        inside, outside = order[:split], order[split:]
        root, roots, scores = np.eye(X.shape[1]), [], []
        for turn in range(self.turns + 1):
            try:
                model = self._inner().fit(X[inside] @ root, y[inside])
                score = float(model.score(X[outside] @ root, y[outside]))
            except ValueError:
                if turn == 0:
                    raise
                break  # a metric that leaves no usable kernel ends the turns
            roots.append(root)
            scores.append(score if np.isfinite(score) else -np.inf)
            # Two turns without gain: the gradients of a model that fits worse say less.
            if turn - int(np.argmax(scores)) >= 2 or turn == self.turns:
                break
            root = self._next(model, X[inside], root, random)
        self.turn_ = int(np.argmax(scores))
        self.scores_ = np.array(scores)
        self.root_ = roots[self.turn_]
        self.metric_ = self.root_ @ self.root_.T
        self.model_ = self._inner().fit(X @ self.root_, y)

    def _next(self, model: Any, X: NDArray[Any], root: NDArray[Any], random: Any) -> NDArray[Any]:
        """The root of the average outer product of gradients by the columns as they came."""
        rows = X if len(X) <= _ROWS else X[random.choice(len(X), _ROWS, replace=False)]
        found = input_gradient(model, rows @ root)
        slopes = found.reshape(-1, X.shape[1]) @ root.T
        outer = slopes.T @ slopes / len(rows)
        if self.metric == "diagonal":
            made = np.diag(np.diagonal(outer) ** (self.power / 2.0))
        else:
            values, vectors = np.linalg.eigh(outer)
            made = (vectors * np.maximum(values, 0.0) ** (self.power / 2.0)) @ vectors.T
        # Rows keep their mean square, so that the network meets them as it did.
        before, after = (float(np.mean((rows @ r) ** 2)) for r in (np.eye(len(made)), made))
        return np.asarray(made * np.sqrt(before / after) if after > 0 else np.eye(len(made)))

    def _rows(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self, "model_")
        rows = validate_data(self, X, reset=False, dtype=np.float64)
        return np.asarray(rows @ self.root_)

    @property
    def feature_importances_(self) -> NDArray[np.float64]:
        """Diagonal of the metric, summing to 1."""
        shares = np.diagonal(self.metric_)
        return np.asarray(shares / shares.sum())


class FeatureRegressor(RegressorMixin, _FeatureModel):
    """Kernel ridge regression on ``X M^(1/2)`` with a metric ``M`` that is learned.

    Each turn fits the kernel, averages the outer products of the gradients of its predictions,
    ``M = (mean grad f grad f^T)^power``, and goes on with ``X M^(1/2)``: a recursive feature
    machine with the kernel of a network. Which turn is taken is decided on rows that were held
    out; turn 0 is the plain kernel.

    Parameters
    ----------
    network : Layer or str, optional
        The network; ``mlp(depth=3)`` if left out.
    kernel : {"ntk", "nngp"}, default="ntk"
        Which kernel.
    alpha : "auto", float or sequence of float, default="auto"
        As for :class:`~kernreg.KernelRegressor`.
    turns : int, default=5
        Turns at most; two in a row without gain end them.
    power : float, default=0.5
        Of the average outer product, in (0, 1]; the smaller, the gentler.
    metric : {"full", "diagonal"}, default="full"
        Directions of their own, or one scale per column.
    held_out : float, default=0.2
        Share of the rows that choose the turn.
    solver, max_memory
        As for :class:`~kernreg.KernelRegressor`.
    random_state : int, RandomState or None, default=0
        Chooses the rows.

    Attributes
    ----------
    metric_ : ndarray of shape (n_features, n_features)
        The metric of the turn that was taken.
    root_ : ndarray of shape (n_features, n_features)
        Its root, which rows are multiplied by.
    turn_ : int
        Which turn that was.
    scores_ : ndarray
        Score of every turn on the rows that were held out.
    model_ : KernelRegressor
        Fitted to all rows.
    feature_importances_ : ndarray of shape (n_features,)
        Diagonal of the metric, summing to 1.

    Notes
    -----
    A turn costs one fit and one tile pass with derivatives over at most 2,000 rows. Columns should
    be on a common scale before.

    References
    ----------
    Radhakrishnan, Beaglehole, Pandit, Belkin, "Mechanism for feature learning in neural networks
    and backpropagation-free machine learning models" (2024).

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import FeatureRegressor
    >>> X = np.random.default_rng(0).standard_normal((200, 8))
    >>> model = FeatureRegressor("mlp(depth=1)").fit(X, np.sin(2 * X[:, 3]))
    >>> int(model.feature_importances_.argmax())
    3
    """

    _kind = KernelRegressor

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the metric and fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If data or parameters cannot be used.
        """
        X, y = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=3
        )
        self._fit(X, y)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets)
        """
        rows = self._rows(X)
        return np.asarray(self.model_.predict(rows))


class FeatureClassifier(ClassifierMixin, _FeatureModel):
    """Classification with the kernel of a network on ``X M^(1/2)``, ``M`` learned.

    See :class:`FeatureRegressor`, which it is in all but the targets.

    Attributes
    ----------
    classes_ : ndarray
        The labels.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import FeatureClassifier
    >>> X = np.random.default_rng(0).standard_normal((200, 8))
    >>> model = FeatureClassifier("mlp(depth=1)").fit(X, X[:, 3] > 0)
    >>> model.score(X, X[:, 3] > 0) > 0.95
    True
    """

    _kind = KernelClassifier

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the metric and fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If data or parameters cannot be used.
        """
        from sklearn.utils.multiclass import check_classification_targets

        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=3)
        check_classification_targets(y)
        self._fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        rows = self._rows(X)
        return np.asarray(self.model_.predict(rows))

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Decision values, as of :class:`~kernreg.KernelClassifier`."""
        rows = self._rows(X)
        return np.asarray(self.model_.decision_function(rows))

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities of the labels, as of :class:`~kernreg.KernelClassifier`."""
        rows = self._rows(X)
        return np.asarray(self.model_.predict_proba(rows))
