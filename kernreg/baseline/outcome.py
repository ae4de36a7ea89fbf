"""The whole baseline: splits, search, comparison, final fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from kernreg.baseline.compare import Score, constant, evaluate, radial_ridge, ridge
from kernreg.baseline.competitors import available, score_competitor
from kernreg.baseline.grid import RADIAL, convolutions, networks, on_learned_scales, radial
from kernreg.baseline.importances import importances
from kernreg.baseline.learned import learned_scaler
from kernreg.baseline.model import TableModel, fit_model
from kernreg.baseline.scaling import Scaler, scalings_for
from kernreg.baseline.search import Stage, Trial, plan_stages, search
from kernreg.baseline.uncertainty import Intervals, Probabilities, uncertainty
from kernreg.datasets import Dataset
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.operators.budget import memory_budget
from kernreg.planning.plan import Plan, plan
from kernreg.wording import counted

__all__ = ["Fold", "Outcome", "Settings", "plan_search", "run", "splits"]

MIN_ROWS = 10
EIGH_ROWS = 2000
_SCALED_ROWS = 1000

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Settings:
    """Choices of the user.

    Parameters
    ----------
    folds : int
        Test splits: 1 holds out a fifth of the rows (or the first split of the data's own).
    seed : int
        Of splits and subsets.
    max_rows : int or None
        Training rows at most, chosen at random.
    max_memory : str, int or None
        See :func:`kernreg.operators.memory_budget`.
    scaling : {"auto", "standard", "common"}
        Scaling of the inputs; "auto" also tries "common" where the columns look alike.
    quick : bool
        A smaller grid on fewer rows.
    scales : bool
        Also learn one scale per column, where that predicts rows better that were held out.
    competitors : bool
        Also fit models of other libraries, with their own settings, for the comparison.

    Examples
    --------
    >>> settings = Settings(folds=5, quick=True)
    >>> settings.seed, settings.scaling, settings.max_memory
    (0, 'auto', '4GB')
    """

    folds: int = 1
    seed: int = 0
    max_rows: int | None = None
    max_memory: str | int | None = "4GB"
    scaling: Literal["auto", "standard", "common"] = "auto"
    quick: bool = False
    scales: bool = True
    competitors: bool = True


@dataclass(frozen=True, eq=False)
class Fold:
    """What came out of one split.

    Parameters
    ----------
    train, test : ndarray of int
        Rows.
    rounds : list of list of Trial
        The search over networks, best first in each round.
    radial : dict of str to list of list of Trial
        The search over kernels of distances, by family.
    scores : tuple of Score
        On the test rows; the chosen network is the first.
    importances : dict of str to float
        Which columns the chosen network's predictions depend on, see
        :func:`kernreg.baseline.importances.importances`; empty for networks on images.
    truth, predicted : ndarray
        Of the test rows.
    model : TableModel
        The chosen network, fitted to all training rows.
    seconds : dict
        Time of the search, the comparison and the final fit.
    uncertainty : Intervals, Probabilities or None
        How sure the model is of the test rows; None if too few rows were fitted.

    Examples
    --------
    >>> from kernreg.datasets import load
    >>> settings = Settings(max_rows=12, scaling="standard", quick=True, competitors=False)
    >>> (fold,) = run(load("iris"), settings).folds
    >>> len(fold.train), len(fold.test), fold.scores[-1].model
    (12, 30, 'constant')
    >>> bool(np.mean(fold.predicted == fold.truth) == fold.scores[0].test)
    True
    """

    train: np.ndarray
    test: np.ndarray
    rounds: list[list[Trial]]
    radial: dict[str, list[list[Trial]]]
    scores: tuple[Score, ...]
    importances: dict[str, float]
    truth: np.ndarray
    predicted: np.ndarray
    model: TableModel
    seconds: dict[str, float]
    uncertainty: Intervals | Probabilities | None = None

    @property
    def winner(self) -> Trial:
        """The chosen network, kernel and ridge."""
        return self.rounds[-1][0]


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished baseline.

    Examples
    --------
    >>> from kernreg.datasets import load
    >>> settings = Settings(max_rows=12, scaling="standard", quick=True, competitors=False)
    >>> found = run(load("iris"), settings)
    >>> found.data.name, len(found.folds), found.settings.max_rows
    ('iris', 1, 12)
    """

    data: Dataset
    settings: Settings
    folds: tuple[Fold, ...]


def splits(data: Dataset, settings: Settings) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and test rows of every fold.

    The data's own test rows if they have them; otherwise random ones, in equal shares per class.

    Raises
    ------
    InvalidInputError
        If there are too few rows or more folds asked for than the data prescribe.

    Examples
    --------
    >>> from kernreg.datasets import load
    >>> [(len(train), len(test)) for train, test in splits(load("iris"), Settings(folds=3))]
    [(100, 50), (100, 50), (100, 50)]
    """
    from sklearn.model_selection import (
        KFold,
        ShuffleSplit,
        StratifiedKFold,
        StratifiedShuffleSplit,
    )

    n = len(data.X)
    if n < MIN_ROWS:
        raise InvalidInputError(
            f"{data.name} has {counted(n, 'row')}; a baseline needs at least {MIN_ROWS}."
        )
    if settings.folds < 1:
        raise InvalidInputError(f"Expected at least 1 fold, found {settings.folds}.")
    if data.test_mask is not None:
        if settings.folds > data.test_mask.shape[1]:
            raise InvalidInputError(
                f"{data.name} prescribes {counted(data.test_mask.shape[1], 'test split')}; found "
                f"--folds {settings.folds}."
            )
        masks = data.test_mask.T[: settings.folds]
        pairs = [(np.flatnonzero(~mask), np.flatnonzero(mask)) for mask in masks]
    else:
        if settings.folds > n // 2:
            raise InvalidInputError(
                f"{counted(settings.folds, 'fold')} are too many for {counted(n, 'row')}."
            )
        equal_shares = False
        if data.classes is not None:
            smallest = int(np.unique(data.y, return_counts=True)[1].min())
            equal_shares = smallest >= max(2, settings.folds) and len(data.classes) <= n // 5
        if settings.folds == 1:
            shuffle = StratifiedShuffleSplit if equal_shares else ShuffleSplit
            splitter = shuffle(n_splits=1, test_size=0.2, random_state=settings.seed)
        else:
            k_fold = StratifiedKFold if equal_shares else KFold
            splitter = k_fold(settings.folds, shuffle=True, random_state=settings.seed)
        pairs = list(splitter.split(data.X, data.y))
    rng = np.random.default_rng(settings.seed)
    result = []
    for train, test in pairs:
        if settings.max_rows is not None and len(train) > settings.max_rows:
            train = rng.choice(train, settings.max_rows, replace=False)
        train = np.sort(train)
        if len(train) < 2 or len(np.unique(data.y[train])) < 2:
            raise InvalidInputError(
                f"The {len(train)} training rows have fewer than 2 different targets; use more."
            )
        result.append((train, np.sort(test)))
    return result


def run(data: Dataset, settings: Settings, progress: Progress | None = None) -> Outcome:
    """Search, compare and fit, for every fold.

    Parameters
    ----------
    data : Dataset
        The data.
    settings : Settings
        The choices.
    progress : callable, optional
        Called as ``progress(done, total, description)``.

    Raises
    ------
    InvalidInputError
        If the data are too small for what is asked.
    MemoryBudgetError
        If the final fit would not fit in ``max_memory``; before any work.

    Examples
    --------
    >>> from kernreg.datasets import load
    >>> settings = Settings(max_rows=12, scaling="standard", quick=True, competitors=False)
    >>> fold = run(load("iris"), settings).folds[0]
    >>> [score.model for score in fold.scores[1:]]
    ['Gaussian kernel ridge', 'Laplace kernel ridge', 'ridge', 'constant']
    >>> fold.scores[0].test > fold.scores[-1].test
    True
    """
    report = progress or (lambda done, total, what: None)
    pairs = splits(data, settings)
    budget = memory_budget(settings.max_memory)
    stages, _ = plan_search(data, settings, max(len(train) for train, _ in pairs))
    return Outcome(
        data,
        settings,
        tuple(_fold(data, settings, pair, stages, budget, report) for pair in pairs),
    )


def plan_search(data: Dataset, settings: Settings, n: int) -> tuple[tuple[Stage, ...], Plan]:
    """Rounds of the search and the plan of the final fit to ``n`` rows.

    Raises
    ------
    MemoryBudgetError
        If one of them does not fit in ``max_memory``.
    """
    budget = memory_budget(settings.max_memory)
    outputs = 1 if data.classes is None or len(data.classes) == 2 else len(data.classes)
    fit = plan(n, data.X.shape[1], outputs, "float64", max_memory=budget)
    return _stages(n, outputs, budget, settings.quick), fit


def _stages(n: int, outputs: int, budget: int, quick: bool) -> tuple[Stage, ...]:
    # Two kernels of one pass, the matrix that is decomposed, its eigenvectors, one spare.
    per_entry, per_row = 5 * 8, 8 * 200 * (outputs + 1)
    limit = min(EIGH_ROWS, int((budget / per_entry) ** 0.5))
    if limit < min(n, 100):
        raise MemoryBudgetError(
            f"The search needs {100 * (100 * per_entry + per_row) / 1e6:.1f} MB for 100 rows; "
            "raise --max-memory."
        )
    return plan_stages(n, limit, quick)


def _fold(
    data: Dataset,
    settings: Settings,
    pair: tuple[np.ndarray, np.ndarray],
    stages: tuple[Stage, ...],
    budget: int,
    report: Progress,
) -> Fold:
    train, test = pair
    X, y = data.X[train], data.y[train]
    scalings = scalings_for(settings.scaling, X)
    started = time.perf_counter()
    rounds, learned = _search_networks(data, X, y, settings, stages, budget, report)
    searched = time.perf_counter()
    # Of the few bandwidths of a family three stay: a larger share than of networks.
    few = [replace(stage, keep=min(stage.keep, 3)) for stage in stages]
    of_distances = {
        family: search(
            radial(family, scalings, settings.quick),
            X,
            y,
            data.classes,
            few,
            np.random.default_rng(settings.seed),
            lambda done, total, what: report(done, total, f"comparison: {what}"),
        )
        for family in RADIAL
    }
    compared = time.perf_counter()
    report(0, 1, f"fitting the chosen network to {counted(len(train), 'row')}")
    best = rounds[-1][0]
    model = fit_model(
        data,
        train,
        best.candidate.network,
        best.kernel,
        best.alpha,
        learned or best.candidate.scaling,
        budget,
    )
    predicted = model.predict(data.X[test])
    fitted = time.perf_counter()
    unsure = uncertainty(model, data.X[test], data.y[test])
    score, rmse = evaluate(data, data.y[test], predicted)
    chosen = Score(
        f"{best.candidate.family} network",
        f"{best.candidate.describe()}, {best.kernel}, alpha = {best.alpha:.3g}",
        len(train),
        score,
        rmse,
        best.score,
        fitted - compared,
    )
    found = importances(model, X)
    looked = time.perf_counter()
    others = tuple(_others(data, pair, settings, of_distances, budget, report))
    report(1, 1, "done")
    seconds = {
        "search": searched - started,
        "comparison": compared - searched + time.perf_counter() - looked,
        "fit": fitted - compared,
    }
    return Fold(
        train,
        test,
        rounds,
        of_distances,
        (chosen, *others),
        found,
        data.y[test],
        predicted,
        model,
        seconds,
        unsure,
    )


def _others(
    data: Dataset,
    pair: tuple[np.ndarray, np.ndarray],
    settings: Settings,
    of_distances: dict[str, list[list[Trial]]],
    budget: int,
    report: Progress,
) -> Iterator[Score]:
    """Scores of everything that the network is compared with."""
    train, test = pair
    most_rows = int((0.8 * budget / 24) ** 0.5)  # the matrix, and copies of two libraries
    for family, rounds in of_distances.items():
        report(0, 1, f"comparison: {family}, {counted(len(train), 'row')}")
        yield radial_ridge(data, train, test, rounds[-1][0], most_rows)
    for competitor in available() if settings.competitors else ():
        report(0, 1, f"comparison: {competitor.name}, {counted(len(train), 'row')}")
        yield score_competitor(competitor, data, train, test, settings.seed)
    yield ridge(data, train, test)
    yield constant(data, train, test)


def _search_networks(
    data: Dataset,
    X: np.ndarray,
    y: np.ndarray,
    settings: Settings,
    stages: tuple[Stage, ...],
    budget: int,
    report: Progress,
) -> tuple[list[list[Trial]], Scaler | None]:
    """All rounds over networks, and the learned scaling that the last one was on."""
    quick = settings.quick
    scalings = scalings_for(settings.scaling, X)
    rounds = search(
        networks(scalings, quick) + convolutions(data.shape, quick),
        X,
        y,
        data.classes,
        stages,
        np.random.default_rng(settings.seed),
        lambda done, total, what: report(done, total, f"networks: {what}"),
        data.shape,
    )
    if not settings.scales or settings.scaling != "auto":
        return rounds, None
    best = rounds[-1][0]
    learned = learned_scaler(best, X, y, data.classes, settings.seed, budget, report, quick)
    if learned is not None:
        rows = min(len(X), _SCALED_ROWS, stages[-1].rows)
        rounds += search(
            on_learned_scales(best.candidate),
            X,
            y,
            data.classes,
            (Stage(rows, 1),),
            np.random.default_rng(settings.seed),
            lambda done, total, what: report(done, total, f"learned scales: {what}"),
            learned=learned,
        )
    return rounds, learned
