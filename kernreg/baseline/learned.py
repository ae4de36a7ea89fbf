"""Scales of columns that are learned after the search."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kernreg import nn
from kernreg.baseline.grid import CONVOLUTION
from kernreg.baseline.scaling import Scaler
from kernreg.baseline.search import Trial, targets
from kernreg.estimators.scales import learn_scales

__all__ = ["learned_scaler"]

_COLUMNS = 2000
"""More columns than this are left as they are: a gradient step would see too few rows for each."""

# Of the derivatives of an entry, while they are worked out.
_BYTES = 1000


def learned_scaler(
    best: Trial,
    X: np.ndarray,
    y: np.ndarray,
    classes: np.ndarray | None,
    seed: int,
    budget: int,
    progress: Callable[[int, int, str], None],
    quick: bool = False,
) -> Scaler | None:
    """Standard scaling with learned scales; None where these do not help.

    They are learned with a plain network of two layers: which columns matter depends little on
    it, and a step with a nonlinearity that is not homogeneous takes three times as long.

    Parameters
    ----------
    best : Trial
        Winner of the search.
    X : ndarray of shape (n, d)
        Training rows, not scaled.
    y : ndarray of shape (n,)
        Targets or labels.
    classes : ndarray or None
        Labels, for classification.
    seed : int
        Chooses rows.
    budget : int
        Bytes that may be used.
    progress : callable
        Called as ``progress(done, total, description)``.
    quick : bool
        Fewer rows and steps.
    """
    candidate = best.candidate
    rows, steps = (300, 25) if quick else (700, 60)
    rows = min(rows, int((budget / _BYTES) ** 0.5))
    few = len(X) < 30 or rows < 30
    if candidate.family == CONVOLUTION or not 1 < X.shape[1] <= _COLUMNS or few:
        return None
    scaler = Scaler.fit(X, "standard")
    found = learn_scales(
        nn.mlp(2, nn.Relu(), 2**0.5, 0.3),
        "ntk",
        scaler.transform(X),
        targets(y, classes),
        rows,
        steps,
        random_state=seed,
        callback=lambda step: progress(min(step, steps), steps, "learning scales of columns"),
    )
    return scaler.times(found.scales) if found.better else None
