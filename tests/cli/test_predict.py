"""``kernreg predict``."""

import csv
import io
import re

import numpy as np
import pytest

from kernreg.baseline import TableModel
from kernreg.datasets import load
from tests.baseline.problems import classification_table, predictions, regression_table


@pytest.fixture(scope="session")
def models(run, tables, tmp_path_factory):
    """Of the prices and the rings."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("prices", "rings"):
        assert run("fit", getattr(tables, name), "--out", folder / name).exit_code == 0
    return folder


def column(text):
    rows = list(csv.reader(io.StringIO(text)))
    assert [row[0] for row in rows[1:]] == [str(i) for i in range(len(rows) - 1)]
    return rows[0], [row[1] for row in rows[1:]]


def test_stdout_has_the_predictions_and_nothing_else(run, models, tables):
    result = run("predict", models / "prices", tables.prices)
    assert result.exit_code == 0
    header, values = column(result.stdout)
    assert header == ["row", "predicted_price"]
    data = load(tables.prices)
    expected = TableModel.load(models / "prices").predict(data.X)
    assert [float(v) for v in values] == expected.tolist()
    squared = np.mean((data.y - expected) ** 2)
    r2, rmse = 1 - squared / data.y.var(), squared**0.5
    assert result.stderr == (
        f"R2 {r2:.4f}, RMSE {rmse:.4g} on 40 rows\n"
        "note: The model was fitted to 40 of these 40 rows: the score says little about new ones.\n"
    )


def test_file(run, models, tables, tmp_path):
    direct = run("predict", models / "prices", tables.prices)
    result = run("predict", models / "prices", tables.prices, "--out", tmp_path / "p.csv")
    written = f"40 predictions written to {tmp_path / 'p.csv'}."
    assert result.stdout.replace("\n", "") == written.replace("\n", "")
    assert (tmp_path / "p.csv").read_text() == direct.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["p.csv"]


def test_folder_of_a_baseline(run, baseline_folder, tables):
    result = run("predict", baseline_folder, tables.prices)
    by_file = run("predict", baseline_folder / "model.safetensors", tables.prices)
    assert result.stdout == by_file.stdout
    table = predictions(baseline_folder)
    values = np.array([float(v) for v in column(result.stdout)[1]])
    assert np.array_equal(values[table["row"]], table["predicted"])


def test_labels(run, models, tables):
    result = run("predict", models / "rings", tables.rings)
    values = column(result.stdout)[1]
    assert set(values) <= {"inner", "middle", "outer"}
    share = np.mean(np.array(values) == load(tables.rings).y)
    assert result.stderr.splitlines()[0] == f"accuracy {100 * share:.2f} % on 45 rows"


def test_rows_that_the_model_was_fitted_to_are_counted(run, baseline_folder, tables, tmp_path):
    """32 of the 40 rows are for training; scaled anew, they are the same numbers."""
    assert "fitted to 32 of these 40 rows" in run("predict", baseline_folder, tables.prices).stderr
    test_rows = regression_table().iloc[predictions(baseline_folder)["row"].astype(int)]
    test_rows.to_csv(tmp_path / "new.csv", index=False)
    result = run("predict", baseline_folder, tmp_path / "new.csv")
    assert re.fullmatch(r"R2 [\d.]+, RMSE [\d.e-]+ on 8 rows\n", result.stderr)
    regression_table()[:1].to_csv(tmp_path / "one.csv", index=False)
    text = run("predict", baseline_folder, tmp_path / "one.csv").stderr
    assert " on 1 row\n" in text


def test_no_target_no_score(run, models, tmp_path):
    regression_table()[["colour", "weight", "size"]].to_csv(tmp_path / "new.csv", index=False)
    result = run("predict", models / "prices", tmp_path / "new.csv")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(column(result.stdout)[1]) == 40


def test_labels_that_the_model_never_saw_are_wrong(run, models, tmp_path):
    """Not cut to the length of the known ones: "inner ear" is not "inner"."""
    frame = classification_table()
    frame["kind"] = [f"{kind} ear, long enough" for kind in frame["kind"]]
    frame.to_csv(tmp_path / "t.csv", index=False)
    result = run("predict", models / "rings", tmp_path / "t.csv")
    assert result.exit_code == 0
    assert "accuracy 0.00 % on 45 rows" in result.stderr


def test_fractions_are_no_classes(run, tmp_path):
    """1.7 is not class 1."""
    frame = classification_table(classes=2).assign(kind=np.arange(45) % 2)
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert run("fit", tmp_path / "t.csv", "--out", tmp_path / "m").exit_code == 0
    frame.assign(kind=frame["kind"] + 0.7).to_csv(tmp_path / "t.csv", index=False)
    result = run("predict", tmp_path / "m", tmp_path / "t.csv")
    assert "accuracy 100" not in result.stderr


@pytest.mark.parametrize("model", ["prices", "numbers"])
def test_a_target_of_another_kind(model, run, models, tmp_path):
    """Words where numbers were: the predictions stand, a traceback is no score."""
    if model == "prices":
        path, frame = models / "prices", regression_table().assign(price="dear")
    else:
        path, frame = tmp_path / "m", classification_table(classes=2)
        frame.assign(kind=np.arange(45) % 2).to_csv(tmp_path / "t.csv", index=False)
        assert run("fit", tmp_path / "t.csv", "--out", path).exit_code == 0
    frame.to_csv(tmp_path / "t.csv", index=False)
    result = run("predict", path, tmp_path / "t.csv")
    assert result.exit_code in (0, 2)
    assert not re.search("R2 [0-9-]|accuracy [1-9]", result.stderr)


def test_rows_without_a_target_are_not_scored(run, models, tmp_path):
    """A column that is filled in for some rows only."""
    frame = regression_table()
    frame.loc[5:, "price"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    result = run("predict", models / "prices", tmp_path / "t.csv")
    assert result.exit_code == 0
    assert len(column(result.stdout)[1]) == 40
    assert "nan" not in result.stderr
    frame["price"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert "nan" not in run("predict", models / "prices", tmp_path / "t.csv").stderr


@pytest.mark.parametrize("target", ["0", "1", "2"])
def test_npy_target_in_any_column(target, run, tables, tmp_path):
    """The model must get the columns it was fitted on, wherever the target stands."""
    fitted = run("fit", tables.npy, "--target", target, "--alpha", 1e-3, "--out", tmp_path / "m")
    assert fitted.exit_code == 0
    data = load(tables.npy, target)
    expected = TableModel.load(tmp_path / "m").predict(data.X)
    result = run("predict", tmp_path / "m", tables.npy)
    assert [float(v) for v in column(result.stdout)[1]] == expected.tolist()
    r2 = 1 - np.mean((data.y - expected) ** 2) / data.y.var()
    assert f"R2 {r2:.4f}" in result.stderr


def test_npz_target_of_another_name(run, tables, tmp_path):
    with np.load(tables.npz) as arrays:
        X, y = arrays["X"], arrays["y"]
    np.savez(tmp_path / "t.npz", X=X, y=y + 1000, other=y)
    fitted = run("fit", tmp_path / "t.npz", "--target", "other", "--out", tmp_path / "m")
    assert fitted.exit_code == 0
    predicted = TableModel.load(tmp_path / "m").predict(X)
    r2 = 1 - np.mean((y - predicted) ** 2) / y.var()
    assert f"R2 {r2:.4f}" in run("predict", tmp_path / "m", tmp_path / "t.npz").stderr


def test_value_that_was_never_seen(run, models, tmp_path):
    regression_table().assign(colour="green").to_csv(tmp_path / "t.csv", index=False)
    result = run("predict", models / "prices", tmp_path / "t.csv")
    assert result.exit_code == 0
    assert "warning: Column 'colour' has values that the model never saw (green)" in result.stderr


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (regression_table().drop(columns="size"), "lack 1 of the columns that the model was fi"),
        (regression_table().assign(size="large"), "'size' was numeric when the model was fitted"),
        (regression_table().assign(size=-np.inf), "NaN or infinite values in 1 column: 'size'"),
        (regression_table(0), "0 rows"),
    ],
    ids=["column missing", "text", "inf", "no rows"],
)
def test_bad_data(frame, message, refused, models, tmp_path, empty):
    frame.to_csv(tmp_path / "t.csv", index=False)
    arguments = ["predict", models / "prices", tmp_path / "t.csv"]
    assert message in refused(*arguments)
    assert message in refused(*arguments, "--out", empty / "p.csv")


def test_gaps_for_a_model_that_was_fitted_without(refused, run, tables, tmp_path, empty):
    words = ["fit", tables.prices, "--impute", "none", "--out", tmp_path / "m"]
    assert run(*words).exit_code == 0
    regression_table().assign(size=np.nan).to_csv(tmp_path / "t.csv", index=False)
    message = refused("predict", tmp_path / "m", tmp_path / "t.csv", "--out", empty / "p.csv")
    assert "Missing values in 1 column: 'size' (40)" in message


@pytest.mark.parametrize("columns", [1, 4, 6])
def test_wrong_number_of_features(columns, refused, run, tables, tmp_path, empty):
    """The model has two; three columns would be two features and the target."""
    assert run("fit", tables.npy, "--out", tmp_path / "m").exit_code == 0
    np.save(tmp_path / "t.npy", np.ones((3, columns)))
    message = refused("predict", tmp_path / "m", tmp_path / "t.npy", "--out", empty / "p")
    assert f"Expected 2 columns, as when the model was fitted, found {columns}" in message


def test_labels_of_another_language_are_named(run, models, tmp_path):
    frame = classification_table().assign(kind=["dedans", "inner", "outer"] * 15)
    frame.to_csv(tmp_path / "t.csv", index=False)
    result = run("predict", models / "rings", tmp_path / "t.csv")
    assert "values that are no labels of the model (dedans), so these rows count" in result.stderr


@pytest.mark.parametrize("classes", [2, 3])
def test_scores(classes, run, tmp_path):
    """The decision values of the estimator, in the order of the labels."""
    classification_table(classes=classes).to_csv(tmp_path / "t.csv", index=False)
    assert run("fit", tmp_path / "t.csv", "--out", tmp_path / "m").exit_code == 0
    result = run("predict", tmp_path / "m", tmp_path / "t.csv", "--scores")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    labels = ["inner", "middle", "outer"][:classes]
    assert list(rows[0]) == ["row", "predicted_kind", *(f"score_{label}" for label in labels)]
    model = TableModel.load(tmp_path / "m")
    X = model.scaler.transform(load(tmp_path / "t.csv").X)
    expected = model.estimator.decision_function(X)
    values = np.array([[float(row[f"score_{label}"]) for label in labels] for row in rows])
    if classes == 2:
        expected = np.column_stack([-expected, expected])
    assert np.array_equal(values, expected)
    assert [row["predicted_kind"] for row in rows] == [labels[j] for j in values.argmax(axis=1)]


def test_a_regression_has_no_scores(refused, models, tables):
    message = refused("predict", models / "prices", tables.prices, "--scores")
    assert "--scores is for labels, and the model predicts the numbers 'price'" in message


def test_columns_that_the_model_does_not_know_are_named(run, models, tmp_path):
    frame = regression_table().assign(note="x", when="2020-01-03")
    frame.to_csv(tmp_path / "t.csv", index=False)
    result = run("predict", models / "prices", tmp_path / "t.csv")
    assert "t: ignored 2 columns that the model does not know (note, when)." in result.stderr


def test_ids_of_the_model_and_others(run, refused, tables, tmp_path):
    frame = regression_table().assign(plot=[f"0{i}" for i in range(40)], other=range(40))
    frame.to_csv(tmp_path / "t.csv", index=False)
    fit = ["fit", tmp_path / "t.csv", "--target", "price", "--id", "plot", "--drop", "other"]
    assert run(*fit, "--out", tmp_path / "m").exit_code == 0

    def first(*options):
        result = run("predict", tmp_path / "m", *options)
        assert result.exit_code == 0
        rows = list(csv.reader(io.StringIO(result.stdout)))
        return [row[0] for row in rows[:3]], result.stderr

    assert first(tmp_path / "t.csv")[0] == ["plot", "00", "01"]
    # The model was told of these columns, so nothing is said of them.
    assert "ignored" not in first(tmp_path / "t.csv")[1]
    assert first(tmp_path / "t.csv", "--id", "other")[0] == ["other", "0", "1"]
    numbered, notes = first(tables.prices)
    assert numbered == ["row", "0", "1"]
    assert "there is no id column 'plot', so rows are numbered" in notes
    message = refused("predict", tmp_path / "m", tables.prices, "--id", "plod")
    assert "no id column 'plod'; its columns are size, weight" in message


def test_files_without_names(run, refused, tables, tmp_path):
    """Columns by their order, with or without the target, as in the file of the model."""
    rows = regression_table()
    rows.to_csv(tmp_path / "t.csv", index=False, header=False)
    rows.drop(columns="price").to_csv(tmp_path / "new.csv", index=False, header=False)
    fit = ["fit", tmp_path / "t.csv", "--alpha", 0.01, "--out", tmp_path / "m"]
    assert "--no-header" in refused(*fit)
    assert run(*fit, "--no-header").exit_code == 0
    named = ["fit", tables.prices, "--alpha", 0.01, "--out", tmp_path / "named"]
    assert run(*named).exit_code == 0
    expected = column(run("predict", tmp_path / "named", tables.prices).stdout)[1]
    for name in ("t.csv", "new.csv"):
        result = run("predict", tmp_path / "m", tmp_path / name)
        assert column(result.stdout) == (["row", "predicted_3"], expected)
        result = run("predict", tmp_path / "named", tmp_path / name, "--no-header")
        assert column(result.stdout)[1] == expected
    rows[["size"]].to_csv(tmp_path / "t.csv", index=False, header=False)
    message = refused("predict", tmp_path / "named", tmp_path / "t.csv", "--no-header")
    assert "1 column without names; expected 4" in message


@pytest.mark.parametrize("rows", [slice(None), slice(0, 1), slice(20, 25)])
def test_labels_and_categories_do_not_depend_on_the_other_rows(rows, run, tmp_path):
    """Alone in a file, 01 and TRUE would be a number and a boolean."""
    rng = np.random.default_rng(3)
    frame = classification_table()
    frame["ward"] = rng.choice(["01", "07", "12"], 45)
    frame["ok"] = rng.choice(["TRUE", "FALSE", "?"], 45)
    frame["kind"] = frame["kind"].map({"inner": "001", "middle": "1", "outer": "none"})
    frame.iloc[0, 2:] = ["001", "07", "TRUE"]
    frame.loc[20:25, "ward"], frame.loc[20:25, "ok"] = "12", "FALSE"
    frame = frame[["ward", "ok", "a", "b", "kind"]].astype({"ward": str})
    frame.loc[44, "ward"] = "A7"
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert (
        run("fit", tmp_path / "t.csv", "--target", "kind", "--out", tmp_path / "m").exit_code == 0
    )
    whole = run("predict", tmp_path / "m", tmp_path / "t.csv", "--scores")
    lines = whole.stdout.splitlines()[1:][rows]
    frame.iloc[rows].to_csv(tmp_path / "t.csv", index=False)
    part = run("predict", tmp_path / "m", tmp_path / "t.csv", "--scores")
    assert "warning" not in part.stderr
    for line, other in zip(lines, part.stdout.splitlines()[1:], strict=True):
        assert line.split(",")[1] == other.split(",")[1] in ("001", "1", "none")
        found, expected = (np.array(text.split(",")[2:], float) for text in (line, other))
        # Products of other shapes round differently.
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert "accuracy 100.00 %" in whole.stderr
