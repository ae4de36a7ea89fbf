"""Search by closed-form leave-one-out: one eigendecomposition scores every ridge at once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kernreg.baseline.grid import ALPHAS, Candidate
from kernreg.baseline.scaling import Kind, Scaler
from kernreg.exceptions import JitterWarning
from kernreg.operators.matrix import MatrixOperator
from kernreg.solvers.eigh import Eigh, EighState

__all__ = ["Stage", "Trial", "plan_stages", "score_kernel", "search", "targets"]


@dataclass(frozen=True, eq=False)
class Trial:
    """Leave-one-out scores of one kernel on one set of rows.

    Parameters
    ----------
    candidate : Candidate
        What was scored.
    kernel : str
        ``"nngp"``, ``"ntk"`` or ``"rbf"``.
    rows : int
        Number of rows.
    alphas : ndarray of shape (n_alphas,)
        Ridges relative to the mean diagonal.
    squared_error : ndarray of shape (n_alphas,)
        Mean over rows and outputs.
    accuracy : ndarray of shape (n_alphas,) or None
        None for regression.
    variance : float
        Mean square of the centred targets: squared error of predicting the mean.
    spectrum : ndarray of shape (rows,)
        Eigenvalues of the kernel matrix over their mean, descending.
    seconds : float
        Time of the kernel (shared among those of one pass) and the scores.
    """

    candidate: Candidate
    kernel: str
    rows: int
    alphas: np.ndarray
    squared_error: np.ndarray
    accuracy: np.ndarray | None
    variance: float
    spectrum: np.ndarray
    seconds: float

    @property
    def scores(self) -> np.ndarray:
        """Accuracy, or R2 = 1 - squared error / variance, for each ridge."""
        if self.accuracy is not None:
            return self.accuracy
        return np.asarray(1 - self.squared_error / self.variance)

    @property
    def best(self) -> int:
        """Index of the best ridge: by squared error, ties by score."""
        return int(np.lexsort((-self.scores, self.squared_error))[0])

    @property
    def alpha(self) -> float:
        """The best ridge."""
        return float(self.alphas[self.best])

    @property
    def score(self) -> float:
        """Score at the best ridge."""
        return float(self.scores[self.best])

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better."""
        return -self.score, float(self.squared_error[self.best])


@dataclass(frozen=True)
class Stage:
    """One round of the search.

    Parameters
    ----------
    rows : int
        Rows that every kernel is scored on.
    keep : int
        Kernels that stay for the next round.
    """

    rows: int
    keep: int


def plan_stages(n: int, limit: int, quick: bool = False) -> tuple[Stage, ...]:
    """Rounds with more rows and fewer kernels each, up to ``min(n, limit)`` rows.

    Examples
    --------
    >>> plan_stages(10_000, 2000)
    (Stage(rows=500, keep=24), Stage(rows=1000, keep=8), Stage(rows=2000, keep=1))
    >>> plan_stages(700, 2000)
    (Stage(rows=500, keep=24), Stage(rows=700, keep=1))
    """
    top = min(n, limit)
    ladder = [(300, 8), (1000, 3)] if quick else [(500, 24), (1000, 8)]
    stages = [Stage(rows, keep) for rows, keep in ladder if rows < top]
    return (*stages, Stage(top, 1))


def targets(y: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """Targets as columns: y itself, or +1/-1 codes (one column for two classes)."""
    if classes is None:
        return y.astype(np.float64)[:, None]
    if len(classes) == 2:
        classes = classes[1:]
    return np.where(y[:, None] == classes[None, :], 1.0, -1.0)


def score_kernel(
    K: np.ndarray, Y: np.ndarray, alphas: np.ndarray = ALPHAS
) -> tuple[np.ndarray, EighState]:
    """Leave-one-out predictions for every ridge.

    Each row is predicted by the fit to all other rows, whose mean is subtracted from the targets
    and added to the predictions, as in :class:`kernreg.KernelRegressor`; the ridge is
    ``alpha`` times the mean diagonal of ``K``.

    Parameters
    ----------
    K : ndarray of shape (n, n)
        Kernel matrix.
    Y : ndarray of shape (n, t)
        Targets.
    alphas : ndarray of shape (n_alphas,)
        Ridges relative to the mean diagonal.

    Returns
    -------
    predictions : ndarray of shape (n_alphas, n, t)
    state : EighState
        The eigendecomposition.

    Notes
    -----
    One eigendecomposition, about 9 n^3 operations, and ``2 n^2 (t + 2)`` for each ridge. Leaving
    row i out moves the mean by ``(y_i - mean) / (n - 1)``, a constant on the rows that stay;
    residuals are linear in the targets, so the column of ones accounts for it.
    """
    n = len(K)
    solver = Eigh()
    state = solver.init(MatrixOperator(K))
    centred = Y - Y.mean(axis=0)
    scale = float(np.mean(np.diagonal(K))) or 1.0
    with warnings.catch_warnings():
        # Duplicate rows with the smallest ridges: the jitter is below what float64 resolves.
        warnings.simplefilter("ignore", JitterWarning)
        path = solver.path(state, np.column_stack([centred, np.ones(n)]), alphas * scale)
    residuals = path.loo_residuals
    held_out = residuals[:, :, :-1] + residuals[:, :, -1:] * (centred / (n - 1))
    return Y - held_out, state


def _trial(
    candidate: Candidate,
    kernel: str,
    K: np.ndarray,
    Y: np.ndarray,
    classify: bool,
    gram_seconds: float,
) -> Trial:
    started = time.perf_counter()
    predictions, state = score_kernel(K, Y)
    squared = np.mean((predictions - Y) ** 2, axis=(1, 2))
    accuracy = None
    if classify and Y.shape[1] == 1:
        accuracy = np.mean((predictions > 0) == (Y > 0), axis=(1, 2))
    elif classify:
        accuracy = np.mean(predictions.argmax(axis=2) == Y.argmax(axis=1), axis=1)
    spectrum = np.maximum(state.values[::-1], 0.0)
    mean = float(spectrum.mean()) or 1.0
    return Trial(
        candidate,
        kernel,
        len(K),
        ALPHAS,
        squared,
        accuracy,
        float(np.mean((Y - Y.mean(axis=0)) ** 2)),
        spectrum / mean,
        gram_seconds + time.perf_counter() - started,
    )


def search(
    candidates: Iterable[Candidate],
    X: np.ndarray,
    y: np.ndarray,
    classes: np.ndarray | None,
    stages: Sequence[Stage],
    rng: np.random.Generator,
    progress: Callable[[int, int, str], None],
    shape: tuple[int, ...] | None = None,
    learned: Scaler | None = None,
) -> list[list[Trial]]:
    """Score candidates on growing subsets of the rows, keeping the best of each round.

    Parameters
    ----------
    candidates : iterable of Candidate
        What to score.
    X : ndarray of shape (n, d)
        Training rows, not scaled.
    y : ndarray of shape (n,)
        Targets or labels.
    classes : ndarray or None
        Labels, for classification.
    stages : sequence of Stage
        The rounds.
    rng : numpy.random.Generator
        Chooses the subsets; the rows of a round contain those of the round before.
    progress : callable
        Called as ``progress(done, total, description)``.
    shape : tuple of int, optional
        Of the images that rows hold.
    learned : Scaler, optional
        That of candidates whose scaling is "learned".

    Returns
    -------
    list of list of Trial
        Of each round, best first.
    """
    order = rng.permutation(len(X))
    Y = targets(y, classes)
    rounds: list[list[Trial]] = []
    entrants = [(c, c.kernels) for c in candidates]
    for number, stage in enumerate(stages, start=1):
        rows = np.sort(order[: stage.rows])
        scaled: dict[Kind, np.ndarray] = {}
        trials: list[Trial] = []
        for index, (candidate, kernels) in enumerate(entrants):
            kind = candidate.scaling
            if kind not in scaled:
                scaler = Scaler.fit(X[rows], kind, shape) if kind != "learned" else learned
                assert scaler is not None
                scaled[kind] = scaler.transform(X[rows])
            what = f"round {number} of {len(stages)}, {stage.rows:,} rows, {candidate.family}"
            progress(index, len(entrants), what)
            started = time.perf_counter()
            grams = list(candidate.grams(scaled[kind]))
            seconds = (time.perf_counter() - started) / len(grams)
            for kernel, K in zip(candidate.kernels, grams, strict=True):
                if kernel in kernels:
                    trial = _trial(candidate, kernel, K, Y[rows], classes is not None, seconds)
                    trials.append(trial)
        progress(len(entrants), len(entrants), f"round {number} of {len(stages)}")
        trials.sort(key=lambda trial: trial.rank)
        rounds.append(trials)
        entrants = _grouped(trials[: stage.keep])
    return rounds


def _grouped(trials: Sequence[Trial]) -> list[tuple[Candidate, tuple[str, ...]]]:
    kept: dict[Candidate, list[str]] = {}
    for trial in trials:
        kept.setdefault(trial.candidate, []).append(trial.kernel)
    return [(candidate, tuple(kernels)) for candidate, kernels in kept.items()]
