"""Gaussian process classification with the kernel of an infinitely wide network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context

from kernreg.estimators.calibration import Calibration, calibrated
from kernreg.estimators.decisions import Decisions
from kernreg.estimators.gaussian_process.base import GaussianProcess
from kernreg.estimators.held_out import held_out_scores
from kernreg.estimators.labels import as_targets
from kernreg.estimators.targets import Targets

__all__ = ["GaussianProcessClassifier"]

Floats = NDArray[np.float64]


class GaussianProcessClassifier(Decisions, GaussianProcess):
    """Classification by a network of infinite width that knows how sure it is.

    Classes are coded as in :class:`KernelClassifier`, and the codes are regressed on by the
    posterior of :class:`GaussianProcessRegressor`, tuned by their likelihood. Probabilities are a
    function of mean and variance that is learned from rows that are left out: the larger the
    variance, the more equal they are.

    Parameters
    ----------
    network, kernel, alpha, alpha_scale, optimizer, n_restarts_optimizer, fit_intercept, solver, \
dtype, device, backend, precision, max_memory, verbose, store, random_state
        As in :class:`GaussianProcessRegressor`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of the training rows, sorted.
    calibration_ : Calibration
        How decision values and their variances become probabilities.
    log_marginal_likelihood_value_ : float or None
        Of the codes, as Gaussian data.
    network_, noise_, alpha_, theta_, theta_names_, dual_coef_, X_fit_, y_mean_, kernel_, plan_, \
solution_, n_features_in_, feature_names_in_
        As in :class:`GaussianProcessRegressor`.

    Notes
    -----
    One factorisation serves all classes. That of at most 3,000 rows is made again for the rows
    left out. Time and memory are those of :class:`GaussianProcessRegressor`.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), section 6.5.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import GaussianProcessClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 2))
    >>> y = np.where(X[:, 0] > 0, "right", "left")
    >>> model = GaussianProcessClassifier("mlp(depth=1, activation='erf')").fit(X, y)
    >>> model.predict([[1.0, 0.0], [-1.0, 0.0]]).tolist()
    ['right', 'left']
    >>> bool(model.predict_proba([[1.0, 0.0]])[0, 1] > 0.9)
    True
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Tune the hyperparameters, solve for the posterior, and learn probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Labels: numbers or strings.
        sample_weight : float or array-like of shape (n_samples,), optional
            The noise of a row is divided by its weight; rows of weight 0 are left out.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If data or parameters cannot be used, or rows of positive weight are all of one class.
        MemoryBudgetError
            If the fit does not fit the memory budget; nothing was allocated.
        """
        self._require_one_process()
        alpha, sample_weight, counted = self._noise(X, sample_weight)
        X, y, weights = self._validated(X, y, sample_weight)
        classes, targets = as_targets(y, type(self).__name__)
        self._fit_process(X, targets, weights, alpha, counted)
        self.classes_ = classes
        return self

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            In the order of ``classes_``; the largest is the class that ``predict`` names.
        """
        scores = np.asarray(self.decision_function(X), dtype=np.float64)
        variance = self._after().variance(self._rows(X))
        assert self.calibration_ is not None
        return self.calibration_.probabilities(scores, variance)

    def _calibrate(self, X: NDArray[Any], targets: Targets, loo: Any, ridge: float) -> None:
        found = held_out_scores(
            lambda rows: self._fitted(X[rows]),
            X,
            targets,
            self.alpha_,
            self.alpha_scale,
            self.max_memory,
        )
        learned = calibrated(
            found.predictions, found.targets, found.weights, found.variance / found.size
        )
        # For variances as they are.
        self.calibration_: Calibration | None = replace(
            learned, shrinkage=learned.shrinkage / found.size
        )

    def _restore(self, arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> None:
        super()._restore(arrays, header)
        if self.calibration_ is None:
            raise ValueError("expected a calibration")
