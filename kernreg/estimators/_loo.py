"""Leave-one-out predictions in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["LeaveOneOut", "held_out_residuals"]


@dataclass(frozen=True)
class LeaveOneOut:
    """What each training row gets when the model is fitted to all other rows.

    Parameters
    ----------
    alphas : ndarray of shape (n_alphas,)
        The values of ``alpha`` that were tried.
    squared_error : ndarray of shape (n_alphas,)
        Mean squared error over rows (by their weights) and targets. For a classifier the targets
        are the +1/-1 codes.
    accuracy : ndarray of shape (n_alphas,) or None
        Weighted share of rows that a classifier labels correctly; None for a regressor.
    best : int
        Index of the chosen ``alpha``.
    predictions : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Leave-one-out predictions (decision values for a classifier) at the chosen ``alpha``, for
        the training rows: those of ``X_fit_``, unless that holds centres only.
    """

    alphas: np.ndarray
    squared_error: np.ndarray
    accuracy: np.ndarray | None
    best: int
    predictions: np.ndarray


def held_out_residuals(
    dual: np.ndarray,
    dual_of_ones: np.ndarray,
    inverse_diagonal: np.ndarray,
    centered: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """Targets minus leave-one-out predictions, the mean of the targets re-estimated each time.

    Parameters
    ----------
    dual : ndarray of shape (n_samples, n_targets)
        ``inv(A) @ centered`` with ``A`` the kernel matrix plus ridge.
    dual_of_ones : ndarray of shape (n_samples,)
        ``inv(A) @ 1``; zeros if the mean is not an estimate.
    inverse_diagonal : ndarray of shape (n_samples,)
        Diagonal of ``inv(A)``.
    centered : ndarray of shape (n_samples, n_targets)
        Targets minus their weighted mean.
    weights : ndarray of shape (n_samples,)
        Sample weights, at least two of them.

    Returns
    -------
    ndarray of shape (n_samples, n_targets)

    Notes
    -----
    For targets ``t`` that do not depend on the row left out, the residual is
    ``(inv(A) t)_i / inv(A)_ii`` [1]_, linear in ``t``. Leaving row ``i`` out moves the mean by
    ``w_i (y_i - mean) / (sum(w) - w_i)``, a constant over the rows that stay, which the solution
    for the targets 1 accounts for.

    References
    ----------
    .. [1] Rasmussen and Williams, "Gaussian Processes for Machine Learning", eq. 5.12.
    """
    shift = (weights / (weights.sum() - weights))[:, None] * centered
    return (dual + shift * dual_of_ones[:, None]) / inverse_diagonal[:, None]
