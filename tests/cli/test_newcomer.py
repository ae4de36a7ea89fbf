"""A table as people have it, with an id, a date, categories and blanks, in few commands."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from kernreg.baseline import TableModel
from tests.baseline.problems import classification_table


@pytest.fixture
def visits(tmp_path):
    """The rings with names of the rows, dates, a category, blanks, and labels of text."""
    rng = np.random.default_rng(12)
    frame = classification_table(60)
    frame.insert(0, "visit", [f"V-{i:03}" for i in range(60)])
    frame.insert(1, "when", pd.date_range("2023-11-05", periods=60).strftime("%d.%m.%Y"))
    frame.insert(2, "ward", rng.choice(["north", "south ", "NA"], 60))
    frame.loc[[3, 8, 40], "a"] = np.nan
    frame.loc[[5, 9], "ward"] = np.nan
    frame["kind"] = frame["kind"].where(frame["kind"] != "outer", "out; er")
    frame.to_csv(tmp_path / "visits.csv", index=False)
    return frame


def test_three_commands(run, refused, visits, tmp_path, monkeypatch):
    monkeypatch.setattr("kernreg.report.render", lambda outcome: "")
    file, out = tmp_path / "visits.csv", tmp_path / "out"
    # The first says all that is in the way, and what to do about it.
    message = refused("baseline", file, "--quick", "--impute", "none", "--out", out)
    assert "3 problems" in message
    for part in ("'visit' holds text with 60", "--id visit", "'when' holds dates", "--drop when"):
        assert part in message
    assert "Missing values in 2 columns: 'ward' (2), 'a' (3)" in message
    assert "--impute auto" in message
    options = ["--id", "visit", "--drop", "when", "--impute", "mean"]
    result = run("baseline", file, *options, "--quick", "--out", out)
    assert result.exit_code == 0, result.stderr
    notes = json.loads((out / "results.json").read_text())["data"]["notes"]
    mean = visits["a"].mean()
    assert f"Missing numbers were filled in: 'a' (3 by {mean:.6g})." in notes
    assert any("'ward' has 4 values, 'NA' among them" in note for note in notes)
    with (out / "predictions.csv").open() as lines:
        for row in csv.DictReader(lines):
            assert row["visit"] == f"V-{int(row['row']):03}"
    new = visits.drop(columns="kind")[::-7]
    new.to_csv(tmp_path / "new.csv", index=False)
    result = run("predict", out, tmp_path / "new.csv", "--scores", "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.stderr
    table = pd.read_csv(tmp_path / "p.csv")
    labels = ["inner", "middle", "out; er"]
    assert table.columns.tolist() == ["visit", "predicted_kind", *(f"score_{k}" for k in labels)]
    assert table["visit"].tolist() == new["visit"].tolist()
    best = table.iloc[:, 2:].to_numpy().argmax(axis=1)
    assert table["predicted_kind"].tolist() == [labels[j] for j in best]
    # What is missing in new rows is what it was in training.
    model = TableModel.load(out / "model.safetensors")
    X = model.read(str(tmp_path / "new.csv")).X
    gaps = new["a"].isna().to_numpy()
    assert gaps.any()
    assert np.allclose(X[gaps, model.encoder.feature_names.index("a")], mean, rtol=1e-15)


def test_one_command_without_options(run, visits, tmp_path, monkeypatch):
    monkeypatch.setattr("kernreg.report.render", lambda outcome: "")
    result = run("baseline", tmp_path / "visits.csv", "--quick", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    model = TableModel.load(tmp_path / "out" / "model.safetensors")
    wards = ("ward is missing", "ward=NA", "ward=north", "ward=south")
    assert model.encoder.feature_names == ("when", *wards, "a", "a is missing", "b")
    # New rows may have gaps where training had none.
    new = visits.drop(columns=["kind", "visit"])[:6].assign(b=np.nan)
    new.to_csv(tmp_path / "new.csv", index=False)
    result = run("predict", tmp_path / "out", tmp_path / "new.csv", "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.stderr
    assert "missing numbers were filled in: 'a' (1 by" in result.stderr
    assert "'b' (6 by" in result.stderr
    X = model.read(str(tmp_path / "new.csv")).X
    np.testing.assert_allclose(X[:, -1], visits["b"].median(), rtol=1e-15)
    assert X[:, -2].tolist() == [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("command", ["fit", "baseline", "explain", "plan", "gram"])
def test_every_command_takes_the_options_for_tables(command, run, visits, tmp_path, monkeypatch):
    monkeypatch.setattr("kernreg.report.render", lambda outcome: "")
    file = tmp_path / "visits.csv"
    words = {
        "fit": ["fit", file, "--out", tmp_path / "m"],
        "baseline": ["baseline", file, "--quick", "--out", tmp_path / "out"],
        "explain": ["explain", file],
        "plan": ["explain", "mlp(depth=1)", "--data", file, "--no-seconds"],
        "gram": ["gram", file, "--out", tmp_path / "store"],
    }[command]
    tables = ["--impute", "median", "--drop", "when,b", "--drop", "ward", "--id", "visit"]
    result = run(*words, *tables, "--target", "kind")
    assert result.exit_code == 0, result.stderr


def test_imputation_is_that_of_scikit_learn(run, tmp_path):
    from sklearn.impute import SimpleImputer

    rng = np.random.default_rng(8)
    frame = pd.DataFrame(rng.gamma(2, size=(30, 3)), columns=["p", "q", "y"])
    frame.iloc[[2, 7, 11], 0] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    holes = frame.assign(q=np.where(np.arange(30) < 4, np.nan, frame["q"]))
    holes.to_csv(tmp_path / "new.csv", index=False)
    for strategy in ("mean", "median"):
        words = ["fit", tmp_path / "t.csv", "--out", tmp_path / "m", "--overwrite"]
        words += ["--impute", strategy]
        assert run(*words).exit_code == 0
        imputer = SimpleImputer(strategy=strategy).fit(frame[["p", "q"]].to_numpy())
        rows = TableModel.load(tmp_path / "m").read(str(tmp_path / "new.csv"))
        expected = imputer.transform(holes[["p", "q"]].to_numpy())
        np.testing.assert_allclose(rows.X, expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--drop", "wen"],
            "no column to drop 'wen'; its columns are visit, when, ward, a, b, kind",
        ),
        (["--id", "visits"], "no id column 'visits'.*Did you mean 'visit'"),
        (["--drop", "kind", "--target", "kind"], "target 'kind' cannot be dropped"),
        (["--id", "kind", "--target", "kind"], "target 'kind' cannot be dropped or name the rows"),
        (["--drop", "x", "--id", "z"], "2 problems: .*'z'.*'x'"),
        (["--impute", "mode"], "--impute is 'mode'; expected auto or mean or median or none"),
    ],
)
def test_options_that_do_not_fit(options, message, refused, visits, tmp_path, empty):
    import re

    found = refused("fit", tmp_path / "visits.csv", *options, "--out", empty / "m")
    assert re.search(message, found), found
