"""Scores by closed-form leave-one-out, against refits, and the rounds of the search."""

import itertools

import numpy as np
import pytest

from kernreg import gram, nn
from kernreg.baseline.grid import ALPHAS, GAUSSIAN, RADIAL, Candidate, radial
from kernreg.baseline.scaling import Scaler
from kernreg.baseline.search import Stage, plan_stages, score_kernel, search, targets
from tests.baseline import brute

rng = np.random.default_rng(20)
X = rng.standard_normal((14, 2)) * [1.0, 30.0]
REAL = np.sin(2 * X[:, 0]) + X[:, 1] / 30
TWO = np.where(REAL > 0, "up", "down")
THREE = np.digitize(REAL, [-0.5, 0.5])
CANDIDATES = [
    Candidate("standard", "Relu", nn.mlp(1, nn.Relu(), 1.4, 0.3), 1, 1.4, 0.3),
    Candidate("standard", "Erf", nn.mlp(2, nn.Erf(), 2.0, 0.3), 2, 2.0, 0.3),
    Candidate("common", "Relu", nn.mlp(3, nn.Relu(), 1.4, 1.0), 3, 1.4, 1.0),
]


def silent(done, total, what):
    pass


def exact_grams(candidate, X):
    """The kernels of a candidate from the reference backend, or the formula."""
    scaled = Scaler.fit(X, candidate.scaling).transform(X)
    if candidate.network is None:
        squares = np.mean((scaled[:, None] - scaled[None]) ** 2, axis=2)
        gaussian = candidate.family == GAUSSIAN
        K = np.exp(-candidate.gamma * (squares if gaussian else np.sqrt(squares)))
        return {"rbf" if gaussian else "laplace": K}
    both = gram(candidate.network, scaled, kernel=("nngp", "ntk"), backend="reference")
    return {"nngp": both.nngp, "ntk": both.ntk}


@pytest.mark.parametrize("alpha", [1e-8, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("y", [REAL, TWO, THREE], ids=["real", "two classes", "three classes"])
def test_scores_are_those_of_refits(y, alpha):
    K = exact_grams(CANDIDATES[0], X)["ntk"]
    Y = targets(y, None if y is REAL else np.unique(y))
    predictions, _ = score_kernel(K, Y, np.array([alpha]))
    bound = brute.rounding(K, Y, alpha)
    # At the smallest ridge too the bound is far below what distinguishes two kernels.
    assert bound < 1e-3
    assert np.abs(predictions[0] - brute.leave_one_out(K, Y, alpha)).max() < bound


@pytest.mark.parametrize("y", [REAL, TWO, THREE], ids=["real", "two classes", "three classes"])
def test_the_choice_is_that_of_refits(y):
    classes = None if y is REAL else np.unique(y)
    Y = targets(y, classes)
    ridges = ALPHAS[ALPHAS >= 1e-6]
    distances = [radial(family, ("standard",), quick=True) for family in RADIAL]
    everything = [*CANDIDATES, *distances[0], *distances[1]]
    (trials,) = search(everything, X, y, classes, [Stage(14, 1)], rng, silent)
    scored = {}
    for candidate in everything:
        for kernel, K in exact_grams(candidate, X).items():
            for alpha in ridges:
                held_out = brute.leave_one_out(K, Y, alpha)
                squared = np.mean((held_out - Y) ** 2)
                if classes is None:
                    score = 1 - squared / np.mean((Y - Y.mean(axis=0)) ** 2)
                elif len(classes) == 2:
                    score = np.mean((held_out > 0) == (Y > 0))
                else:
                    score = np.mean(held_out.argmax(axis=1) == Y.argmax(axis=1))
                scored[candidate, kernel, alpha] = -score, squared
    # The ridge of each kernel by the squared error, and of these kernels the best score.
    chosen_ridge = {}
    for place, (negative, squared) in scored.items():
        if squared < chosen_ridge.get(place[:2], (None, np.inf))[1]:
            chosen_ridge[place[:2]] = place[2], squared, negative
    assert len(trials) == 2 * len(CANDIDATES) + 6
    for trial in trials:
        # Ridges below 1e-6 are left out on both sides: rounding could reorder near ties there.
        held = [scored[trial.candidate, trial.kernel, alpha] for alpha in ridges]
        assert np.allclose(trial.scores[ALPHAS >= 1e-6], [-s for s, _ in held], rtol=0, atol=1e-6)
        assert np.allclose(trial.squared_error[ALPHAS >= 1e-6], [e for _, e in held], rtol=1e-6)
    chosen = min(chosen_ridge, key=lambda name: (chosen_ridge[name][2], chosen_ridge[name][1]))
    chosen = (*chosen, chosen_ridge[chosen][0])
    best = trials[0]
    assert best.alpha >= 1e-6
    assert (best.candidate, best.kernel, best.alpha) == chosen
    assert best.score == pytest.approx(-scored[chosen][0], abs=1e-6)


def test_trials_come_best_first():
    (trials,) = search(CANDIDATES, X, THREE, np.unique(THREE), [Stage(14, 1)], rng, silent)
    ranks = [(-t.score, t.squared_error[t.best]) for t in trials]
    assert ranks == sorted(ranks)
    for trial in trials:
        assert trial.squared_error[trial.best] == trial.squared_error.min()
        assert trial.score == trial.scores[trial.best]


def test_spectrum():
    (trials,) = search(CANDIDATES[:1], X, REAL, None, [Stage(14, 1)], rng, silent)
    for trial in trials:
        values = np.linalg.eigvalsh(exact_grams(trial.candidate, X)[trial.kernel])[::-1]
        # Weyl: eigenvalues move by at most the norm of the rounding errors.
        assert np.abs(trial.spectrum - values / values.mean()).max() < 1e-12 * 14
        assert trial.spectrum.mean() == pytest.approx(1, abs=1e-12)


class Recorder:
    """A candidate that remembers the rows it was scored on."""

    family, network = "recorder", None

    def __init__(self, kernels, bandwidth, scaling="standard"):
        self.kernels, self.bandwidth, self.scaling = kernels, bandwidth, scaling
        self.seen = []

    def grams(self, X):
        self.seen.append(X)
        squares = np.sum((X[:, None] - X[None]) ** 2, axis=2)
        for index, _ in enumerate(self.kernels):
            yield np.exp(-squares * self.bandwidth * (index + 1))


def test_rounds_grow_and_keep_the_best():
    features = rng.standard_normal((60, 1))
    y = np.sin(features[:, 0])
    entrants = [Recorder(("nngp", "ntk"), b) for b in (1e-6, 0.3, 1.0, 1e3)]
    stages = [Stage(20, 3), Stage(40, 1), Stage(60, 1)]
    rounds = search(entrants, features, y, None, stages, np.random.default_rng(1), silent)
    assert [len(r) for r in rounds] == [8, 3, 1]
    assert [{t.rows for t in r} for r in rounds] == [{20}, {40}, {60}]
    for earlier, later in itertools.pairwise(rounds):
        kept = {(t.candidate, t.kernel) for t in earlier[: len(later)]}
        assert {(t.candidate, t.kernel) for t in later} == kept
    # White noise kernels are no match for smooth ones on a sine.
    assert entrants[3] not in {t.candidate for t in rounds[1]}
    winner = rounds[-1][0].candidate
    assert [len(X) for X in winner.seen] == [20, 40, 60]


def test_rows_of_a_round_contain_those_before():
    features = np.arange(60.0)[:, None]
    recorder = Recorder(("rbf",), 0.1)
    stages = [Stage(20, 1), Stage(40, 1), Stage(60, 1)]
    search([recorder], features, features[:, 0], None, stages, np.random.default_rng(1), silent)
    rows = []
    for count, seen in zip((20, 40, 60), recorder.seen, strict=True):
        # Scaling is undone by its two known points: the smallest and largest row of the round.
        order = np.random.default_rng(1).permutation(60)[:count]
        expected = Scaler.fit(features[np.sort(order)], "standard")
        rows.append(set(np.rint(seen[:, 0] * expected.scale + expected.mean).astype(int).tolist()))
        assert rows[-1] == set(order.tolist())
    assert rows[0] < rows[1] < rows[2]


@pytest.mark.parametrize(
    ("n", "limit", "quick", "rows"),
    [
        (100, 4000, False, [100]),
        (500, 4000, False, [500]),
        (501, 4000, False, [500, 501]),
        (1500, 4000, False, [500, 1000, 1500]),
        (9000, 4000, False, [500, 1000, 4000]),
        (9000, 700, False, [500, 700]),
        (9000, 200, False, [200]),
        (9000, 4000, True, [300, 1000, 4000]),
        (2, 4000, True, [2]),
    ],
)
def test_stages(n, limit, quick, rows):
    stages = plan_stages(n, limit, quick)
    assert [stage.rows for stage in stages] == rows
    keep = [stage.keep for stage in stages]
    assert keep == sorted(keep, reverse=True)
    assert keep[-1] == 1


def test_progress_reaches_the_end():
    seen = []
    stages = [Stage(10, 2), Stage(14, 1)]
    search(CANDIDATES, X, REAL, None, stages, rng, lambda *args: seen.append(args))
    assert all(0 <= done <= total for done, total, _ in seen)
    assert [what for done, total, what in seen if done == total] == [
        "round 1 of 2",
        "round 2 of 2",
    ]
    assert seen[0] == (0, 3, "round 1 of 2, 10 rows, Relu")


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([2, 3], [[2.0], [3.0]]),
        (["b", "a", "b"], [[1], [-1], [1]]),
        (["b", "a", "c"], [[-1, 1, -1], [1, -1, -1], [-1, -1, 1]]),
    ],
)
def test_targets(y, expected):
    y = np.array(y)
    classes = np.unique(y) if y.dtype.kind == "U" else None
    coded = targets(y, classes)
    assert coded.dtype == np.float64
    assert coded.tolist() == expected
