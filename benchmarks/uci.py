"""The table of Arora et al., "Harnessing the power of infinitely wide deep nets on small-data
tasks" (1910.01663): NTK machines beside a Gaussian SVM and random forests on small UCI tables.

    python -m benchmarks.uci run --max-rows 1000
    python -m benchmarks.uci run --protocol nested
    python -m benchmarks.uci show

The sets are those of ``KERNREG_DATA/uci_classification`` that come without a test file and have at
most 5,000 rows, with the splits of Fernandez-Delgado et al. (2014) that the files hold: numbers are
chosen on one split into halves, then a model is fitted to the training rows of each of four folds
and accuracies on its test rows are averaged. The halves hold the test rows of the folds, too, as
they did there. ``--protocol nested`` chooses for each fold anew, on those rows of the halves that
are training rows of the fold. Ties go to the shallower network and the smaller number.

``run`` appends a line for every set and model to ``benchmarks/results/uci.jsonl``, smallest sets
first, and skips what is there. SVMs and forests take one thread; set ``KERNREG_NUM_THREADS`` and
``OMP_NUM_THREADS`` for the rest.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import euclidean_distances
from sklearn.svm import SVC

from benchmarks.lines import append, drop_torn, read
from benchmarks.problems import data_dir
from kernreg import gram, nn
from kernreg.operators.matrix import MatrixOperator
from kernreg.solvers import Cholesky

RESULTS = Path(__file__).parent / "results" / "uci.jsonl"
MOST_ROWS = 5000

NTK_SVM, NTK_RIDGE, GAUSSIAN, FOREST = "NTK, SVM", "NTK, ridge", "Gaussian SVM", "random forest"
FAMILIES = {"ntk": (NTK_SVM, NTK_RIDGE), "gaussian": (GAUSSIAN,), "forest": (FOREST,)}

DEPTHS = (1, 2, 3, 4, 5)
COSTS = tuple(10.0**k for k in range(-2, 5))
RIDGES = tuple(10.0**k for k in range(-4, 3))
GAMMAS = tuple(4.0**k for k in range(-8, 5))
TREES = 500
COLUMNS_TRIED = (2, 4, 6, 8)
MOST_STEPS = 1_000_000
"""Of an SVM: linear kernels with large C take ten times more, minutes each, to no better end."""

PUBLISHED = {
    NTK_SVM: (81.95, 14.10, 88.89, 72.22, 95.72, 28.34),
    GAUSSIAN: (81.03, None, None, None, None, None),
    FOREST: (81.56, None, None, None, None, None),
}
"""Table 1 of the paper from memory: average, its deviation over the 90 sets, P90, P95, PMA in %,
and Friedman rank. Of the last four the best and the ranks are among the paper's models and the 179
classifiers of Fernandez-Delgado et al., so that they cannot be compared with ours, among four."""

Rows = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Split = tuple[Rows, Rows]
Machine = Callable[[Any, Split, NDArray[Any], Sequence[Any]], Iterator[tuple[NDArray[Any], bool]]]


@dataclass(frozen=True)
class Problem:
    """A table with labels 0, 1, ..., the halves to choose on, and the folds to measure on."""

    name: str
    X: Floats
    y: NDArray[Any]
    halves: Split
    folds: tuple[Split, ...]


@dataclass(frozen=True)
class Candidate:
    """A model whose last number, ``name``, is open: ``machine`` fits it for each of ``grid``."""

    model: str
    settings: dict[str, Any]
    data: Any
    machine: Machine
    name: str
    grid: Sequence[Any]


@dataclass
class Choice:
    """The best of the candidates so far, by accuracy on rows held out."""

    held_out: float = -1.0
    candidate: Candidate | None = None
    value: Any = None


def problems(most_rows: int = MOST_ROWS) -> list[Problem]:
    """The sets, smallest first."""
    found = [_read(path) for path in sorted((data_dir() / "uci_classification").glob("*.npz"))]
    kept = [p for p in found if p is not None and len(p.X) <= most_rows]
    return sorted(kept, key=lambda p: len(p.X))


def _read(path: Path) -> Problem | None:
    with np.load(path) as file:
        if file["is_test"].any():
            return None
        halves = file["tune_train"], file["tune_val"]
        folds = tuple((file[f"fold{k}_train"], file[f"fold{k}_test"]) for k in range(4))
        return Problem(path.stem, file["X"], file["y"], halves, folds)


def network(depth: int, fixed: int) -> nn.Layer:
    """``depth`` layers of weights with ReLU between, the first ``fixed`` of them not trained."""
    layers: list[nn.Layer] = []
    for k in range(depth):
        layers += [nn.Dense(1.0, None, trainable=k >= fixed), nn.Relu()]
    return nn.serial(*layers[:-1])


def ntk_kernels(X: Floats) -> Iterator[tuple[dict[str, Any], Floats]]:
    """The NTK of every depth and number of fixed layers, between all rows.

    The first layer takes ``x . z``, without a factor 1/columns, and no layer a factor 2: so the
    paper's authors computed it, and C and the ridge depend on the scale.
    """
    X = X * np.sqrt(X.shape[1])
    for depth in DEPTHS:
        # The last layer's part of the NTK is the NNGP, which comes along with the first.
        both = gram(network(depth, 0), X, kernel=("ntk", "nngp"))
        for fixed in range(depth):
            settings = {"depth": depth, "fixed": fixed}
            if fixed == depth - 1:
                yield settings, both.nngp
            else:
                yield settings, both.ntk if fixed == 0 else gram(network(depth, fixed), X)


def svm(
    K: Floats, split: Split, y: NDArray[Any], costs: Sequence[float]
) -> Iterator[tuple[NDArray[Any], bool]]:
    """Predictions of an SVM for each C, and whether it got to its end."""
    train, new = split
    K_train, K_new, labels = K[np.ix_(train, train)], K[np.ix_(new, train)], y[train]
    for C in costs:
        if (labels == labels[0]).all():
            yield np.full(len(new), labels[0]), True
            continue
        model = SVC(kernel="precomputed", C=C, max_iter=MOST_STEPS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(K_train, labels)
        yield model.predict(K_new), bool(np.max(model.n_iter_) < MOST_STEPS)


def ridge(
    K: Floats, split: Split, y: NDArray[Any], alphas: Sequence[float]
) -> Iterator[tuple[NDArray[Any], bool]]:
    """Predictions of kernel ridge regression to centred indicators of the classes."""
    train, new = split
    classes = int(y.max()) + 1
    operator = MatrixOperator(K[np.ix_(train, train)])
    targets = np.eye(classes)[y[train]] - 1 / classes
    K_new = K[np.ix_(new, train)]
    solver = Cholesky()
    for alpha in alphas:
        weights = solver.solve(solver.init(operator, alpha), targets).value
        yield (K_new @ weights).argmax(axis=1), True


def forest(
    X: Floats, split: Split, y: NDArray[Any], tried: Sequence[int]
) -> Iterator[tuple[NDArray[Any], bool]]:
    """Predictions of a random forest for each number of columns tried at a node."""
    train, new = split
    for count in tried:
        model = RandomForestClassifier(TREES, max_features=count, random_state=0)
        yield model.fit(X[train], y[train]).predict(X[new]), True


def candidates(family: str, X: Floats) -> Iterator[Candidate]:
    """All that a family of models chooses from, one matrix in memory after the other."""
    if family == "ntk":
        for settings, K in ntk_kernels(X):
            yield Candidate(NTK_SVM, settings, K, svm, "C", COSTS)
            yield Candidate(NTK_RIDGE, settings, K, ridge, "alpha", RIDGES)
    elif family == "gaussian":
        squares = euclidean_distances(X, squared=True)
        for gamma in GAMMAS:
            yield Candidate(GAUSSIAN, {"gamma": gamma}, np.exp(-gamma * squares), svm, "C", COSTS)
    else:
        tried = [m for m in COLUMNS_TRIED if m <= X.shape[1]] or [X.shape[1]]
        yield Candidate(FOREST, {}, X, forest, "columns", tried)


def splits_to_choose_on(problem: Problem, protocol: str) -> list[Split]:
    """One split for all folds, or one for each that holds none of its test rows."""
    if protocol == "paper":
        return [problem.halves]
    first, second = problem.halves
    return [(np.intersect1d(first, t), np.intersect1d(second, t)) for t, _ in problem.folds]


def measure(problem: Problem, family: str, protocol: str) -> list[dict[str, Any]]:
    """Choose and measure the models of a family: a line for each.

    ``seconds`` are those of the processor, of all fits and predictions of a model;
    ``kernel_seconds`` those of all kernels, which the models of a family share.
    """
    splits, y = splits_to_choose_on(problem, protocol), problem.y
    best = {model: [Choice() for _ in splits] for model in FAMILIES[family]}
    seconds = dict.fromkeys(best, 0.0)
    stopped = dict.fromkeys(best, 0)
    begun, wall = time.process_time(), time.perf_counter()
    for candidate in candidates(family, problem.X):
        started = time.process_time()
        for split, choice in zip(splits, best[candidate.model], strict=True):
            fits = candidate.machine(candidate.data, split, y, candidate.grid)
            for value, (found, ended) in zip(candidate.grid, fits, strict=True):
                score = float(np.mean(found == y[split[1]]))
                stopped[candidate.model] += not ended
                if score > choice.held_out:
                    choice.held_out, choice.candidate, choice.value = score, candidate, value
        seconds[candidate.model] += time.process_time() - started
    kernels = time.process_time() - begun - sum(seconds.values())
    place = {"set": problem.name, "protocol": protocol, "rows": len(y)}
    place |= {"columns": problem.X.shape[1], "classes": int(y.max()) + 1}
    tested = {m: _test(problem, m, choices, seconds[m]) for m, choices in best.items()}
    wall = time.perf_counter() - wall
    common = {"kernel_seconds": kernels, "family_wall_seconds": wall}
    return [
        place | line | common | {"stopped_while_choosing": stopped[model]}
        for model, line in tested.items()
    ]


def _test(problem: Problem, model: str, choices: list[Choice], seconds: float) -> dict[str, Any]:
    """Accuracy on the folds; one choice serves all of them, or each has its own."""
    started = time.process_time()
    accuracies, stopped = [], 0
    for k, split in enumerate(problem.folds):
        choice = choices[k % len(choices)]
        assert choice.candidate is not None
        fits = choice.candidate.machine(choice.candidate.data, split, problem.y, [choice.value])
        found, ended = next(fits)
        accuracies.append(float(np.mean(found == problem.y[split[1]])))
        stopped += not ended
    return {
        "model": model,
        "accuracy": float(np.mean(accuracies)),
        "folds": accuracies,
        "held_out": [choice.held_out for choice in choices],
        "chosen": [c.candidate.settings | {c.candidate.name: c.value} for c in choices],  # type: ignore[union-attr]
        "stopped": stopped,
        "seconds": seconds + time.process_time() - started,
    }


def run(protocol: str, most_rows: int, names: list[str] | None) -> None:
    """Measure what has not been measured, smallest sets first."""
    drop_torn(RESULTS)
    done = {(r["set"], r["protocol"], r["model"]) for r in lines()}
    for problem in problems(most_rows):
        if names and problem.name not in names:
            continue
        for family, models in FAMILIES.items():
            if all((problem.name, protocol, model) in done for model in models):
                continue
            for line in measure(problem, family, protocol):
                if (problem.name, protocol, line["model"]) not in done:
                    append(RESULTS, line)
                    print(problem.name, line["model"], f"{line['accuracy']:.4f}", flush=True)


def lines() -> list[dict[str, Any]]:
    """What has been measured."""
    return read(RESULTS)


@dataclass(frozen=True)
class Statistics:
    """Of a model over sets: what the paper reports, shares in %.

    Parameters
    ----------
    average, deviation : float
        Mean accuracy, and its standard deviation over sets.
    p90, p95 : float
        Share of the sets on which it has at least 90 or 95 % of the best model's accuracy.
    pma : float
        Its mean share of the best model's accuracy.
    rank : float
        Friedman rank: the mean rank, 1 the best, where equal ones share the mean of their ranks.
    """

    average: float
    deviation: float
    p90: float
    p95: float
    pma: float
    rank: float


def statistics(accuracies: Floats) -> list[Statistics]:
    """The statistics of each column of accuracies, in 0 to 1, with a row for each set.

    Parameters
    ----------
    accuracies : ndarray of shape (sets, models)
        Of at least two sets.

    Returns
    -------
    list of Statistics
        For each model.
    """
    # Accuracies are means of quotients: what differs in the last digits only is equal.
    shares = np.round(accuracies / accuracies.max(axis=1, keepdims=True), 9)
    ranks = rankdata(-np.round(accuracies, 9), axis=1)
    return [
        Statistics(
            average=100 * float(accuracies[:, j].mean()),
            deviation=100 * float(accuracies[:, j].std(ddof=1)),
            p90=100 * float(np.mean(shares[:, j] >= 0.9)),
            p95=100 * float(np.mean(shares[:, j] >= 0.95)),
            pma=100 * float(shares[:, j].mean()),
            rank=float(ranks[:, j].mean()),
        )
        for j in range(accuracies.shape[1])
    ]


def show(protocol: str) -> None:
    """The table of the paper and the accuracies on each set, of sets that have all models."""
    models = [model for family in FAMILIES.values() for model in family]
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for line in lines():
        if line["protocol"] == protocol:
            found.setdefault(line["set"], {})[line["model"]] = line
    full = {name: of for name, of in found.items() if all(m in of for m in models)}
    if len(full) < 2:
        print("fewer than two sets have all models")
        return
    table = np.array([[of[m]["accuracy"] for m in models] for of in full.values()])
    print(f"{len(full)} of {len(found)} sets begun have all models; protocol: {protocol}\n")
    print("| model | average | P90 | P95 | PMA | Friedman rank | CPU seconds | published average |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: |")
    for model, s in zip(models, statistics(table), strict=True):
        seconds = sum(of[model]["seconds"] for of in full.values())
        published = PUBLISHED.get(model)
        print(
            f"| {model} | {s.average:.2f} ± {s.deviation:.2f} | {s.p90:.2f} | {s.p95:.2f} "
            f"| {s.pma:.2f} | {s.rank:.2f} | {seconds:.0f} "
            f"| {'' if published is None else published[0]} |"
        )
    print("\n| set | rows | " + " | ".join(models) + " | chosen NTK |")
    print("| --- | --: |" + " --: |" * len(models) + " --- |")
    for name, of in sorted(full.items()):
        row = " | ".join(f"{100 * of[m]['accuracy']:.2f}" for m in models)
        chosen = of[NTK_SVM]["chosen"]
        what = f"{chosen[0]}" if len(chosen) == 1 else f"{len(chosen)} choices"
        print(f"| {name} | {of[NTK_SVM]['rows']} | {row} | {what} |")


def main() -> None:
    """Run or show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "show"])
    parser.add_argument("--protocol", choices=["paper", "nested"], default="paper")
    parser.add_argument("--max-rows", type=int, default=MOST_ROWS)
    parser.add_argument("--sets", nargs="+")
    options = parser.parse_args()
    if options.what == "run":
        run(options.protocol, options.max_rows, options.sets)
    show(options.protocol)


if __name__ == "__main__":
    main()
