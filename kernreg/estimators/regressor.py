"""Kernel ridge regression with the kernel of an infinitely wide network."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils.validation import check_is_fitted

from kernreg.estimators.base import KernelModel
from kernreg.estimators.checks import check_members
from kernreg.estimators.held_out import held_out_scores
from kernreg.estimators.intervals import ascending, bounds_of, check_level
from kernreg.estimators.loo import LeaveOneOut
from kernreg.estimators.targets import Members, Targets
from kernreg.exceptions import InvalidInputError
from kernreg.operators.base import Operator

__all__ = ["KernelRegressor"]

# Names of arrays in model files.
_SEEN = ("targets", "weights", "group")


class KernelRegressor(MultiOutputMixin, RegressorMixin, KernelModel):
    """Regression with the prediction of an infinitely wide network.

    With ``kernel="ntk"`` and a small ``alpha`` this is the mean prediction of the network trained
    by gradient descent, with ``kernel="nngp"`` the posterior mean of the Bayesian network.
    Features are used as they are: scale them before, for example with
    :class:`sklearn.preprocessing.StandardScaler` in a pipeline.

    Parameters
    ----------
    network : Layer or str, optional
        The network, from :mod:`kernreg.nn`, or its code, such as ``"mlp(depth=2)"``;
        ``nn.mlp(depth=3)`` if left out. Its parameters are reached as ``network__name``, also in a
        grid search.
    kernel : {"ntk", "nngp"}, default="ntk"
        Which kernel of the network.
    alpha : "auto", float or array-like of shape (n_alphas,), default="auto"
        Ridge. Of several values the one with the smallest leave-one-out squared error is taken.
        "auto" are 17 values from 1e-8 (1e-6 for float32 data) to 1, relative to the mean diagonal.
    alpha_scale : {"mean_diag", "absolute"}, default="mean_diag"
        Whether ``alpha`` is relative to the (sample-weighted) mean of the kernel's diagonal over
        the training rows, or is added to the diagonal as it is.
    fit_intercept : bool, default=True
        Whether to subtract the weighted mean of the targets before the fit and to add it to every
        prediction. neural-tangents does not: ``False`` gives its predictions.
    solver : str or a solver, default="auto"
        "cholesky", "banded", "eigh", "pcg", "restricted" or "sketch": how the system is solved; or
        a :class:`~kernreg.solvers.Cholesky`, ``Banded``, ``Eigh``, ``PCG``,
        ``OutOfCoreCholesky``, ``Restricted`` or ``SketchAndProject`` with settings of its own;
        ``explain`` tells what "auto" chooses. Conjugate gradients ("pcg") keep as much of the
        matrix as fits, down to nothing; "restricted" is approximate, with coefficients for 2,000
        rows, which ``X_fit_`` then holds. The first three and "restricted" choose among alphas.
    dtype : {"float32", "float64"} or dtype, optional
        Precision of kernel and predictions. If left out, float32 data stay float32 and all other
        data become float64.
    device : str, default="cpu"
        Where to compute: "cpu", or "cuda" for a GPU, which then holds the factor.
    backend : str, default="auto"
        Which implementation of the kernel to use; ``explain`` lists them.
    precision : {"tf32x3", "ieee", "tf32", "bf16x3"}, default="tf32x3"
        Of float32 products on the matrix units of a GPU, see :func:`kernreg.gram`; without effect
        on the CPU and in float64.
    max_memory : int or str, optional
        Memory budget in bytes or as text such as "4GB"; 90 % of the free memory of the device if
        left out.
    verbose : bool or int, default=0
        Show a progress bar.
    store : path-like, optional
        A tile store of the kernel of the training rows, as ``kernreg gram`` and
        :func:`kernreg.operators.write_store` make: its tiles are read in the place of
        evaluations, and refined with those where they are narrower than the answer and the network
        is for vectors; entries of images are not worked out again. For
        "cholesky", "pcg" and ``OutOfCoreCholesky``; "banded" and "eigh" read float64 ones only.
    input_shape : tuple of int, optional
        ``(height, width, channels)`` of the images that flat rows hold, for a spatial network.
        Arrays of shape (n, height, width, channels) need none.
    scale : {"ard"}, optional
        "ard" multiplies each column by a scale of its own, learned as
        :class:`~kernreg.ColumnScales` does with this network and kernel on up to 700 rows before
        the fit, and kept if rows left out of that are predicted better with it.
        Networks on vectors only.

    Attributes
    ----------
    dual_coef_ : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Coefficients of the kernel functions of the rows of ``X_fit_``.
    X_fit_ : ndarray or sparse array of shape (n_samples, n_features)
        Training rows of positive weight; where alpha is 0 or below rounding, 1.5e-8 of the mean
        diagonal, and with "auto" up to 3,000 rows, one of each set of equal rows.
    y_mean_ : float or ndarray of shape (n_targets,)
        Weighted mean of the targets, which every prediction starts from; 0 without intercept.
    alpha_ : float
        The value of ``alpha`` that was used.
    loo_ : LeaveOneOut or None
        Leave-one-out errors in closed form, if ``alpha`` is "auto" or a sequence or the solver is
        "banded" or "eigh".
    network_ : Layer
        The network that was used.
    kernel_ : str
        The kernel that was used.
    plan_ : Plan
        Solver and memory as planned.
    solution_ : Solution
        Coefficients in float64, as the solver gave them, with the status and the cost of the solve.
    scales_ : ndarray of shape (n_features,)
        With ``scale="ard"``: what columns are multiplied by; all 1 if that predicts better.
        ``X_fit_`` holds the columns as they came.
    feature_importances_ : ndarray of shape (n_features,)
        With ``scale="ard"``: shares of the columns in the squared slopes of predictions.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X has names that are all strings.

    Notes
    -----
    The coefficients solve ``(K + r diag(1/w)) c = y - y_mean_``, with the ridge ``r`` from
    ``alpha`` and sample weights ``w``. A row of weight 2 is exactly two equal rows; a row of
    weight 0 is no row.

    Leave-one-out removes a row with all its weight, and re-estimates the mean of the targets; the
    ridge stays as it is. With "auto" up to 3,000 rows are left out in turn, with all their copies:
    all rows, or a sample (``loo_.rows``) of more, or where the solver gives no such errors, to
    which Eigh or Banded is fitted before. With fewer than three rows, or without the memory for 48,
    it is 1e-3.

    Time: n^2/2 kernel entries and n^3/3 operations; with Banded 8/3 n^3 for all alphas together;
    with "auto" at most that of 3,000 rows, and one fit.
    Memory: n^2/2 numbers (Cholesky) or n^2 (Banded), see ``explain``. A prediction costs
    n kernel entries.

    References
    ----------
    Jacot, Gabriel, Hongler, "Neural tangent kernel" (2018).
    Lee et al., "Deep neural networks as Gaussian processes" (2018).

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 4))
    >>> y = np.maximum(X @ [1.0, -1.0, 0.5, 0.0], 0) + 3
    >>> model = KernelRegressor("mlp(depth=2)").fit(X, y)
    >>> model.alpha_ < 0.1, model.score(X, y) > 0.95
    (True, True)
    """

    _sparse_format = "csr"
    # Sizes of residuals of rows left out, and what they can be found from.
    _sizes: NDArray[np.float64] | None
    _seen: tuple[Members, float, bool] | None

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like or sparse array of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        sample_weight : float or array-like of shape (n_samples,), optional
            Weights of the rows, not negative.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If data or parameters cannot be used.
        MemoryBudgetError
            If the fit does not fit the memory budget; nothing was allocated.
        NotPositiveDefiniteError
            If the kernel matrix has no Cholesky factor even with a jitter.

        Warns
        -----
        JitterWarning
            If the ridge had to be raised, for instance for nearly equal rows with ``alpha=0``.
        """
        X, y, weights = self._validated(X, y, sample_weight, multi_output=True, y_numeric=True)
        self._fit_targets(X, y, weights)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict targets, in blocks of rows of bounded memory.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets)
            Predictions, in float64: what the precision of the model gives, plus the mean.
        """
        return self._predict_targets(X)

    def predict_interval(self, X: Any, level: Any = 0.9) -> tuple[NDArray[Any], NDArray[Any]]:
        """Bounds that a new observation is within with some probability, equally wide everywhere.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Data.
        level : float or sequence of float, default=0.9
            The probability, between 0 and 1; of several, results have an axis for them in front.

        Returns
        -------
        lower, upper : ndarray of shape (n_rows,) or (n_rows, n_targets)
            Predictions less and plus the quantile of leave-one-out residuals, which the first call
            finds for at most 3,000 rows. Rows count equally, whatever their weights.

        Raises
        ------
        InvalidInputError
            If the level is not between 0 and 1, fewer rows were left out than it needs, or none
            can be: the model has centres only, and ``alpha`` was one number.

        See Also
        --------
        GaussianProcessRegressor : Intervals that are wider where data are few.
        """
        check_level(level)
        check_is_fitted(self, "dual_coef_")
        if self._sizes is None:
            self._sizes = self._residuals_left_out()
        return bounds_of(self._sizes, level, self.predict(X), 1.0)

    def _residuals_left_out(self) -> NDArray[np.float64]:
        """Sizes of leave-one-out residuals, ascending, shape (n, t)."""
        loo = self.loo_
        if loo is not None and loo.targets is not None and loo.group is not None:
            residuals = loo.targets - loo.predictions[loo.group]
        elif self._seen is not None:
            members, ridge, centred = self._seen

            def kernel(numbers: NDArray[np.intp]) -> Operator:
                part = self._read(self.X_fit_, numbers, self.network_, self.kernel_)
                return part.astype("float64")

            found = held_out_scores(
                kernel,
                self.X_fit_,
                Targets.of(members, centred, self._correct),
                ridge,
                "absolute",
                self.max_memory,
            )
            residuals = found.targets - found.predictions
        else:
            raise InvalidInputError(
                "this model keeps too little to learn intervals from, or was saved by a kernreg "
                "that gave none: fit it with alpha='auto', or fit GaussianProcessRegressor"
            )
        return ascending(np.abs(residuals.reshape(len(residuals), -1)))

    def _calibrate(
        self, X: NDArray[Any], targets: Targets, loo: LeaveOneOut | None, ridge: float
    ) -> None:
        # Learned when it is asked for, from all rows.
        self._sizes = self._seen = None
        if loo is None and len(X) == len(self.X_fit_):
            self._seen = targets.of_members, ridge, self.fit_intercept

    def _own_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        if self._seen is None:
            return {}, {}
        members, ridge, centred = self._seen
        arrays = dict(zip(_SEEN, (members.values, members.weights, members.group), strict=True))
        return arrays, {"seen": [ridge, centred]}

    def _restore(self, arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> None:
        self._sizes = self._seen = None
        if "seen" in header:
            members = Members(*(arrays[name] for name in _SEEN))
            outputs = int(np.prod(self.dual_coef_.shape[1:], dtype=int))
            check_members(members, len(self.X_fit_), outputs)
            ridge, centred = header["seen"]
            if not 0 <= ridge < np.inf or not isinstance(centred, bool):
                raise ValueError(f"expected a ridge and a flag, found {header['seen']}")
            self._seen = members, float(ridge), centred
