"""``kernreg baseline``: the files, the summary, and what the options do."""

import csv
import json

import numpy as np
import pytest

from kernreg.baseline import TableModel
from tests.baseline.problems import predictions, regression_table

FILES = ["model.safetensors", "predictions.csv", "report.html", "results.csv", "results.json"]


@pytest.fixture
def no_report(monkeypatch):
    """The figures take longer than the rest."""
    monkeypatch.setattr("kernreg.report.render", lambda outcome: "")


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_files(baseline_folder):
    assert sorted(p.name for p in baseline_folder.iterdir()) == FILES


def test_summary(run, tables, tmp_path):
    result = run("baseline", tables.prices, "--quick", "--out", tmp_path / "out")
    assert result.exit_code == 0
    found = results(tmp_path / "out")
    assert "prices: test R2" in result.stdout
    for row in found["comparison"]:
        assert f"{row['test']:.4f}" in result.stdout
        assert row["model"].split()[0] in result.stdout
    assert f"The report is in {tmp_path / 'out' / 'report.html'}." in result.stdout.replace(
        "\n", ""
    )
    notes = [line.removeprefix("note: ") for line in result.stderr.splitlines() if "note" in line]
    assert notes == found["data"]["notes"]


def test_the_format_does_not_matter(run, tables, tmp_path, no_report):
    """The same scores from CSV and Parquet, from NPY and NPZ."""
    scores = {}
    for name in ("prices", "parquet", "npy", "npz"):
        folder = tmp_path / name
        # A forest adds its trees up in the order in which threads end.
        options = ["--quick", "--no-competitors", "--out", folder]
        assert run("baseline", getattr(tables, name), *options).exit_code == 0
        scores[name] = [row["test"] for row in results(folder)["comparison"]]
    assert scores["prices"] == scores["parquet"]
    assert scores["npy"] == scores["npz"]
    assert scores["prices"] != scores["npy"]


def test_set_of_scikit_learn(run, tmp_path, no_report):
    options = ["--quick", "--max-rows", 30, "--scaling", "standard"]
    assert run("baseline", "wine", *options, "--out", tmp_path).exit_code == 0
    found = results(tmp_path)
    assert found["comparison"][0]["rows"] == 30
    assert found["comparison"][0]["test"] > 0.85 > found["comparison"][-1]["test"]


def test_default_folder(run, tables, tmp_path, monkeypatch, no_report):
    monkeypatch.chdir(tmp_path)
    assert run("baseline", tables.rings, "--quick").exit_code == 0
    assert sorted(p.name for p in (tmp_path / "kernreg-rings").iterdir()) == FILES


def test_seed(run, tables, tmp_path, no_report):
    def chosen(seed, name):
        folder = tmp_path / name
        assert run("baseline", tables.rings, "--quick", "--seed", seed, "--out", folder)
        with (folder / "results.csv").open() as file:
            rows = [row[:-1] for row in csv.reader(file)]
        return rows, (folder / "predictions.csv").read_text()

    assert chosen(3, "a") == chosen(3, "b")
    assert chosen(3, "a") != chosen(4, "c")


def test_options_reach_the_run(run, tables, tmp_path, no_report):
    options = ["--seed", 7, "--folds", 2, "--max-rows", 15, "--max-memory", "300MB"]
    options += ["--scaling", "common", "--task", "regression", "--target", "weight", "--quick"]
    options += ["--no-competitors", "--no-scales"]
    assert run("baseline", tables.prices, *options, "--out", tmp_path).exit_code == 0
    found = results(tmp_path)
    assert found["settings"] == {
        "folds": 2,
        "seed": 7,
        "max_rows": 15,
        "max_memory": "300MB",
        "scaling": "common",
        "quick": True,
        "scales": False,
        "competitors": False,
    }
    assert found["data"]["target"] == "weight"
    assert [(f["train_rows"], f["test_rows"]) for f in found["folds"]] == [(15, 20), (15, 20)]
    assert found["comparison"][0]["test_std"] is not None
    assert found["chosen"]["scaling"] == "common"


def test_model_predicts_what_the_run_predicted(baseline_folder, tables):
    """The whole way: raw file, saved model, and the table of the predictions of the run."""
    table = predictions(baseline_folder)
    model = TableModel.load(baseline_folder / "model.safetensors")
    predicted, truth = model.predict_data(str(tables.prices))
    assert np.array_equal(predicted[table["row"]], table["predicted"])
    assert np.array_equal(truth[table["row"]], table["true"])
    assert 1 - np.mean((table["true"] - table["predicted"]) ** 2) / np.var(
        table["true"]
    ) == pytest.approx(results(baseline_folder)["comparison"][0]["test"], rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"price": 1.0}, "same value, 1.0, in all 40 rows"),
        ({"price": np.nan}, "missing or NaN in 40 rows; drop such rows"),
        ({"size": np.nan}, r"Missing values in 1 column: 'size' (40)"),
        ({"size": np.inf}, r"NaN or infinite values in 1 column: 'size' (40)"),
        ({"colour": [f"c{i}" for i in range(40)]}, "text with 40 different values, such as 'c0'"),
    ],
    ids=str,
)
def test_bad_data(change, message, refused, tmp_path, empty):
    regression_table().assign(**change).to_csv(tmp_path / "t.csv", index=False)
    words = ["baseline", tmp_path / "t.csv", "--impute", "none", "--out", empty / "out"]
    assert message in refused(*words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["iris", "--target", "x"], "'iris' has its own target"),
        (["iris", "--task", "regression"], "regression needs numbers"),
        (["iris", "--folds", "100"], "100 folds are too many for 150 rows"),
    ],
)
def test_bad_arguments(arguments, message, refused, empty):
    assert message in refused("baseline", *arguments, "--out", empty / "out")


def test_too_few_rows(refused, tmp_path, empty):
    for rows in (0, 1, 9):
        regression_table()[:rows].to_csv(tmp_path / "t.csv", index=False)
        counted = "1 row;" if rows == 1 else f"{rows} rows"
        assert counted in refused("baseline", tmp_path / "t.csv", "--out", empty / "out")


@pytest.mark.parametrize(
    "name", ["density [kg/m3]", "price [/kg]", "[bold]", "cost $_in_$", "$a$ & <b>", "\\frac{1}"]
)
def test_names_that_mean_something_elsewhere(name, run, tmp_path):
    """Brackets are markup to rich and dollars mathematics to matplotlib; units have both."""
    frame = regression_table().rename(columns={"price": name, "size": f"size of {name}"})
    frame.to_csv(tmp_path / "t.csv", index=False)
    options = ["--quick", "--no-competitors", "--no-scales", "--out", tmp_path / "out"]
    result = run("baseline", tmp_path / "t.csv", *options)
    assert result.exit_code == 0
    assert f"the target is the column {name!r}" in result.stderr
    assert results(tmp_path / "out")["data"]["target"] == name


@pytest.mark.parametrize("label", ["[/b]", "[red]", "$_x_$"])
def test_labels_that_mean_something_elsewhere(label, run, tmp_path):
    frame = regression_table().assign(price=np.resize([label, "b", label], 40))
    frame.to_csv(tmp_path / "t.csv", index=False)
    options = ["--quick", "--no-competitors", "--no-scales", "--out", tmp_path / "out"]
    result = run("baseline", tmp_path / "t.csv", *options)
    assert result.exit_code == 0
    # The most frequent class is named in the row of the constant.
    assert f"always {label}" in " ".join(result.stdout.split())


def test_images_get_convolutions(run, tmp_path, no_report):
    """Bars at any place, lying or standing: neighbourhoods tell them apart, pixels hardly."""
    rng = np.random.default_rng(0)
    X, y = 0.2 * rng.normal(size=(200, 9, 9)), rng.integers(0, 2, 200)
    for image, stands in zip(X, y, strict=True):
        line, start = rng.integers(0, 9), rng.integers(0, 6)
        (image.T if stands else image)[line, start : start + 4] += 1.0
    np.savez(tmp_path / "bars.npz", X=X, y=y)
    folder = tmp_path / "out"
    options = ["--quick", "--no-competitors", "--no-scales", "--out", folder]
    assert run("baseline", tmp_path / "bars.npz", *options).exit_code == 0
    found = results(folder)
    assert found["comparison"][0]["model"] == "convolution network"
    assert found["comparison"][0]["test"] > 0.75
    again = TableModel.load(folder / "model.safetensors").predict(X.reshape(200, -1))
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [str(again[int(row["row"])]) for row in rows] == [row["predicted"] for row in rows]
