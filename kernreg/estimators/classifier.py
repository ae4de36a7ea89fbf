"""Classification by kernel regression onto coded labels."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from kernreg import nn
from kernreg.distributed import from_first
from kernreg.estimators.base import KernelModel
from kernreg.estimators.calibration import Calibration, calibrated
from kernreg.estimators.decisions import Decisions
from kernreg.estimators.held_out import held_out_scores
from kernreg.estimators.labels import as_targets
from kernreg.estimators.loo import LeaveOneOut
from kernreg.estimators.targets import Targets
from kernreg.exceptions import InvalidInputError
from kernreg.operators.base import Operator
from kernreg.solvers.base import Solver

__all__ = ["KernelClassifier"]


class KernelClassifier(Decisions, KernelModel):
    """Classification with an infinitely wide network trained on the squared error.

    Each class is coded as a target that is +1 for its rows and -1 for all others (one such target
    for two classes); the class with the largest prediction wins. Probabilities are learned from
    leave-one-out predictions. Features are used as they are: scale them before, for example with
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
        Ridge. Of several values the one with the smallest leave-one-out squared error of the coded
        targets is taken; the accuracy breaks ties. "auto" are 17 values from 1e-8 to 1, see
        :class:`KernelRegressor`.
    alpha_scale : {"mean_diag", "absolute"}, default="mean_diag"
        Whether ``alpha`` is relative to the (sample-weighted) mean of the kernel's diagonal over
        the training rows, or is added to the diagonal as it is.
    fit_intercept : bool, default=True
        Whether to subtract the weighted mean of the coded targets before the fit and to add it to
        every decision value.
    solver : str or a solver, default="auto"
        "cholesky", "banded", "eigh", "pcg", "restricted" or "sketch": how the system is solved; or
        a :class:`~kernreg.solvers.Cholesky`, ``Banded``, ``Eigh``, ``PCG``,
        ``OutOfCoreCholesky``, ``Restricted`` or ``SketchAndProject`` with settings of its own;
        ``explain`` tells what "auto" chooses. Conjugate gradients ("pcg") keep as much of the
        matrix as fits, down to nothing; "restricted" is approximate, with coefficients for 2,000
        rows, which ``X_fit_`` then holds. The first three and "restricted" choose among alphas.
    dtype : {"float32", "float64"} or dtype, optional
        Precision of kernel and decision values. If left out, float32 data stay float32 and all
        other data become float64.
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
    class_weight : dict or "balanced", optional
        Factors of the weights of the rows of each class, 1 for those that a dict lacks; "balanced"
        gives all classes the same weight in total.
    scale : {"ard"}, optional
        "ard" multiplies each column by a scale of its own, learned as
        :class:`~kernreg.ColumnScales` does with this network and kernel on up to 700 rows before
        the fit, and kept if rows left out of that are predicted better with it.
        Networks on vectors only.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of the training rows, sorted.
    dual_coef_ : ndarray of shape (n_samples,) or (n_samples, n_classes)
        Coefficients of the kernel functions of the rows of ``X_fit_``; one column for two classes.
    X_fit_ : ndarray or sparse array of shape (n_samples, n_features)
        Training rows of positive weight; where alpha is 0 or below rounding, 1.5e-8 of the mean
        diagonal, and with "auto" up to 3,000 rows, one of each set of equal rows.
    y_mean_ : float or ndarray of shape (n_classes,)
        Weighted mean of the coded targets, which every decision value starts from; 0 without
        intercept.
    alpha_ : float
        The value of ``alpha`` that was used.
    loo_ : LeaveOneOut or None
        Leave-one-out accuracy and errors in closed form, if ``alpha`` is "auto" or a sequence or
        the solver is "banded" or "eigh".
    calibration_ : Calibration
        How decision values become probabilities.
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
    See :class:`KernelRegressor` for weights, leave-one-out and cost; more classes cost little
    more than two.

    References
    ----------
    Arora et al., "Harnessing the power of infinitely wide deep nets on small-data tasks" (2020).

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelClassifier, nn
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 2))
    >>> y = np.where(X[:, 0] * X[:, 1] > 0, "same", "different")
    >>> model = KernelClassifier(nn.mlp(depth=2)).fit(X, y)
    >>> model.predict([[1.0, 1.0], [-1.0, 1.0]]).tolist()
    ['same', 'different']
    """

    _sparse_format = "csr"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **KernelModel._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
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
        class_weight: Any = None,
        scale: str | None = None,
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
            scale,
        )
        self.class_weight = class_weight

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like or sparse array of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Labels: numbers or strings.
        sample_weight : float or array-like of shape (n_samples,), optional
            Weights of the rows, not negative.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If data or parameters cannot be used, or rows of positive weight are all of one class.
        MemoryBudgetError
            If the fit does not fit the memory budget; nothing was allocated.
        NotPositiveDefiniteError
            If the kernel matrix has no Cholesky factor even with a jitter.

        Warns
        -----
        JitterWarning
            If the ridge had to be raised, for instance for nearly equal rows with ``alpha=0``.
        """
        X, y, weights = self._validated(X, y, sample_weight)
        check_classification_targets(y)
        if self.class_weight is not None:
            weights = weights * self._factors(y, weights)
            X, y, weights = self._weighted(X, y, weights)
        classes, targets = as_targets(y, type(self).__name__)
        self._fit_targets(X, targets, weights)
        self.classes_ = classes
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            In the order of ``classes_``; the largest is the class that ``predict`` names.

        Notes
        -----
        They are a function of the decision values that ``fit`` learned from leave-one-out decision
        values, of at most 3,000 rows, weighted as the fit is.
        """
        scores = np.asarray(self.decision_function(X), dtype=np.float64)
        if self.calibration_ is None:
            raise InvalidInputError(
                "this model was saved by a kernreg that gave no probabilities: fit it again"
            )
        return self.calibration_.probabilities(scores)

    def _calibrate(
        self, X: NDArray[Any], targets: Targets, loo: LeaveOneOut | None, ridge: float
    ) -> None:
        def learned() -> Calibration:
            if loo is not None and loo.targets is not None and loo.weights is not None:
                return calibrated(loo.predictions[loo.group], loo.targets, loo.weights)

            def kernel(numbers: NDArray[np.intp]) -> Operator:
                return self._read(X, numbers).astype("float64")

            found = held_out_scores(
                kernel, X, targets, self.alpha_, self.alpha_scale, self.max_memory
            )
            return calibrated(found.predictions, found.targets, found.weights)

        self.calibration_: Calibration | None = from_first(learned)

    def _factors(self, y: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """What ``class_weight`` multiplies the weight of each row by."""
        classes, codes = np.unique(y, return_inverse=True)
        if self.class_weight == "balanced":
            # A row of weight 2 counts as two rows, which scikit-learn's own count does not know.
            factors = weights.sum() / (len(classes) * np.bincount(codes, weights))
        else:
            factors = compute_class_weight(self.class_weight, classes=classes, y=y)
        if not (np.isfinite(factors).all() and (factors >= 0).all()):
            raise InvalidInputError(
                f"class_weight must hold finite numbers >= 0, found {self.class_weight!r}."
            )
        return np.asarray(factors, dtype=np.float64)[codes]
