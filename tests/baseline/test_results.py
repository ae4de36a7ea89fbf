"""results.json, results.csv and predictions.csv."""

import copy
import csv
import dataclasses
import json

import numpy as np
import pytest

import kernreg
from kernreg import nn
from kernreg.baseline.grid import convolutions
from kernreg.baseline.results import code, comparison, summary, table, write
from kernreg.baseline.scaling import Scaler
from tests.baseline.problems import quick


@pytest.fixture
def folder(outcome, tmp_path):
    write(outcome, tmp_path, "<html>text of the report</html>")
    return tmp_path


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files(folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "model.safetensors",
        "predictions.csv",
        "report.html",
        "results.csv",
        "results.json",
    ]
    assert (folder / "report.html").read_text() == "<html>text of the report</html>"


def test_json(outcome, folder):
    found = json.loads((folder / "results.json").read_text())
    data, first = outcome.data, outcome.folds[0]
    assert (found["format"], found["version"]) == ("kernreg-baseline", 1)
    assert found["metric"] == ("R2" if data.classes is None else "accuracy")
    assert found["data"] == {
        "name": data.name,
        "task": data.task,
        "target": data.target_name,
        "rows": len(data.X),
        "features": data.X.shape[1],
        "classes": None if data.classes is None else data.classes.tolist(),
        "notes": list(data.notes),
    }
    assert found["settings"] == dataclasses.asdict(outcome.settings)
    assert found["environment"]["kernreg"] == kernreg.__version__
    assert found["environment"]["numpy"] == np.__version__
    for fold, entry in zip(outcome.folds, found["folds"], strict=True):
        assert entry["train_rows"] == len(fold.train)
        assert entry["test_rows"] == len(fold.test)
        assert [s["test"] for s in entry["scores"]] == [s.test for s in fold.scores]
        assert (entry["kernel"], entry["alpha"]) == (fold.winner.kernel, fold.winner.alpha)
        assert entry["network"] == repr(fold.winner.candidate.network)
        assert len(entry["finalists"]) == len(fold.rounds[-1])
        best = entry["finalists"][0]
        assert best["leave_one_out_by_alpha"] == fold.winner.scores.tolist()
        place = best["alphas"].index(fold.winner.alpha)
        assert best["leave_one_out"] == best["leave_one_out_by_alpha"][place]
    chosen = found["chosen"]
    assert nn.from_json(json.dumps(chosen["network_json"])) == first.winner.candidate.network
    assert chosen["kernel"] == first.winner.kernel
    assert chosen["alpha"] == first.winner.alpha
    assert chosen["scaling"] == first.winner.candidate.scaling
    assert (folder / chosen["model_file"]).is_file()


def test_the_summary_is_a_copy(regression):
    """Changing it, say to drop the times, must not reach into the outcome."""
    outcome = quick(regression.data)
    found = summary(outcome)
    found["folds"][0]["scores"][0]["test"] = None
    found["data"]["notes"].clear()
    assert outcome.folds[0].scores[0].test == regression.folds[0].scores[0].test
    assert outcome.data.notes


def test_comparison_is_the_mean_over_folds(outcome):
    rows = comparison(outcome)
    others = [row["test"] for row in rows[1:]]
    assert others == sorted(others, reverse=True)
    names = [score.model for score in outcome.folds[0].scores]
    assert sorted(row["model"] for row in rows[1:]) == sorted(names[1:])
    for place, row in enumerate(rows):
        index = names.index(row["model"]) if place else 0
        scores = [fold.scores[index] for fold in outcome.folds]
        assert row["test"] == pytest.approx(np.mean([s.test for s in scores]), rel=1e-15)
        if len(scores) == 1:
            assert row["test_std"] is None
            assert row["model"] == scores[0].model
        else:
            assert row["test_std"] == pytest.approx(np.std([s.test for s in scores]), rel=1e-12)
        if scores[0].rmse is not None:
            assert row["rmse"] == pytest.approx(np.mean([s.rmse for s in scores]), rel=1e-15)


def test_folds_that_chose_different_networks(classification):
    one, other = classification.folds[:2]
    scores = (dataclasses.replace(other.scores[0], model="Other network"), *other.scores[1:])
    two = dataclasses.replace(
        classification, folds=(one, dataclasses.replace(other, scores=scores))
    )
    row = comparison(two)[0]
    assert (row["model"], row["description"]) == ("network", "a choice for each fold")


def test_csv_has_every_kernel_of_every_round(outcome, folder):
    rows = read_csv(folder / "results.csv")
    trials = [
        (number, index, trial)
        for number, fold in enumerate(outcome.folds)
        for rounds in (fold.rounds, *fold.radial.values())
        for index, trials in enumerate(rounds, start=1)
        for trial in trials
    ]
    assert len(rows) == len(trials)
    for row, (number, index, trial) in zip(rows, trials, strict=True):
        c = trial.candidate
        assert (int(row["fold"]), int(row["round"]), int(row["rows"])) == (
            number,
            index,
            trial.rows,
        )
        assert (row["family"], row["kernel"], row["scaling"]) == (
            c.family,
            trial.kernel,
            c.scaling,
        )
        assert (int(row["depth"]), float(row["W_std"]), float(row["b_std"])) == (
            c.depth,
            c.W_std,
            c.b_std,
        )
        assert float(row["gamma"]) == c.gamma
        assert bool(int(row["unit_rows"])) == c.unit_rows
        # Six significant digits.
        assert float(row["alpha"]) == pytest.approx(trial.alpha, rel=5e-6)
        assert float(row["leave_one_out"]) == pytest.approx(trial.score, rel=5e-6)
        assert float(row["squared_error"]) == pytest.approx(
            trial.squared_error[trial.best], rel=5e-6
        )
        assert float(row["seconds"]) >= 0


def test_predictions(outcome, folder):
    rows = read_csv(folder / "predictions.csv")
    fold, kind = outcome.folds[0], (float if outcome.data.classes is None else str)
    assert [int(row["row"]) for row in rows] == fold.test.tolist()
    # repr of a float is exact.
    assert [kind(row["true"]) for row in rows] == fold.truth.tolist()
    assert [kind(row["predicted"]) for row in rows] == fold.predicted.tolist()


def test_code_makes_the_chosen_estimator(outcome):
    fold = outcome.folds[0]
    names = {}
    exec(code(fold), names)
    estimator = names["model"][-1]
    assert type(estimator) is type(fold.model.estimator)
    assert estimator.network == fold.winner.candidate.network
    assert estimator.kernel == fold.winner.kernel
    assert estimator.alpha == fold.winner.alpha


@pytest.mark.parametrize("scaling", ["standard", "common"])
def test_code_scales_as_the_model_does(scaling, regression):
    """Constant columns included; scikit-learn's sums round in another order."""
    X = np.c_[regression.data.X, np.full(len(regression.data.X), 7.0)]
    fold = regression.folds[0]
    scaler = Scaler.fit(X, scaling)
    trial = dataclasses.replace(fold.winner.candidate, scaling=scaling)
    model = dataclasses.replace(fold.model, scaler=scaler)
    rounds = [[dataclasses.replace(fold.winner, candidate=trial)]]
    names = {}
    exec(code(dataclasses.replace(fold, rounds=rounds, model=model)), names)
    found = names["model"][0].fit_transform(X)
    np.testing.assert_allclose(found, scaler.transform(X), rtol=1e-12, atol=1e-12)


def test_code_of_a_convolution_scales_channels_and_reads_flat_rows(regression):
    fold, shape = regression.folds[0], (4, 5, 2)
    X = 3.0 + np.random.default_rng(5).normal(size=(20, 40))
    (candidate, *_) = convolutions(shape)
    rounds = [[dataclasses.replace(fold.winner, candidate=candidate)]]
    names = {}
    exec(code(dataclasses.replace(fold, rounds=rounds)), names)
    scaler, estimator = names["model"]
    expected = Scaler.fit(X, "channel", shape).transform(X)
    np.testing.assert_allclose(scaler.fit_transform(X), expected, rtol=1e-12, atol=1e-12)
    assert estimator.network == candidate.network
    fitted = names["model"].fit(X, X[:, 0])
    assert fitted.predict(X).shape == (20,)


def test_json_has_no_nan(regression, tmp_path):
    """R2 of test rows whose targets are all equal does not exist."""
    y = regression.data.y.copy()
    mask = (np.arange(len(y)) < 8)[:, None]
    y[:8] = 1.0
    outcome = quick(dataclasses.replace(regression.data, y=y, test_mask=mask))
    assert np.isnan(outcome.folds[0].scores[0].test)
    write(outcome, tmp_path, "")
    text = (tmp_path / "results.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["comparison"][0]["test"] is None
    assert found["comparison"][0]["rmse"] > 0


def test_same_seed_same_results(regression):
    def without_times(outcome):
        found = copy.deepcopy(summary(outcome))
        rows = [line.rsplit(",", 1)[0] for line in table(outcome).splitlines()]
        found.pop("created")
        for part in [*found["comparison"], *found["folds"], *found["folds"][0]["scores"]]:
            part.pop("seconds")
        return found, rows

    again = quick(regression.data)
    assert without_times(again) == without_times(regression)
    assert np.array_equal(again.folds[0].predicted, regression.folds[0].predicted)
    other = quick(regression.data, seed=1)
    assert not np.array_equal(other.folds[0].test, regression.folds[0].test)
    assert without_times(other)[1] != without_times(regression)[1]
