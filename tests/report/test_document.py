"""The text of the page: whole by itself, and with the numbers of the baseline."""

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kernreg.baseline.results import comparison, summary
from kernreg.cli import app
from kernreg.datasets import load
from kernreg.report import render
from kernreg.report.render import duration, format_score
from kernreg.wording import significant
from tests.baseline.problems import quick
from tests.report.document import parse
from tests.report.pages_of_tables import HOSTILE, TABLES, outcome_of, page_of

TITLES = [
    "Score per network",
    "Leave-one-out error against the ridge",
    "Spectrum of the kernel matrix",
    "Predictions",
    "Which columns matter",
    "Calibration",
]


@pytest.fixture(scope="module", params=["regression", "classification"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def outcome(name):
    return outcome_of(name)


@pytest.fixture(scope="module")
def page(name):
    return parse(page_of(name))


def table(page, heading):
    """Cells of the table in the section with a heading, without its first row."""
    (section,) = (s for s in page.all("section") if s.all("h2") and s.all("h2")[0].text == heading)
    head, *rows = section.all("tr")
    return [c.text for c in head.all("th")], [[c.text for c in row.all("td")] for row in rows]


@pytest.mark.parametrize("which", list(TABLES))
def test_loads_nothing(which):
    """Mailed or archived, the page must still be whole: no scripts, no files, no network."""
    text = page_of(which)
    page = parse(text)
    elements = page.all()
    assert not [e for e in elements if e.tag in {"script", "iframe", "object", "embed", "video"}]
    assert not [k for e in elements for k in e.attributes if k.startswith("on")]
    ids = {e.attributes["id"] for e in elements if "id" in e.attributes}
    targets = [
        e.attributes[key]
        for e in elements
        for key in ("src", "srcset", "href", "xlink:href", "data", "action", "poster")
        if key in e.attributes and e.tag != "a"
    ]
    assert len(targets) > 4  # markers of the plots at least
    for target in targets:
        assert target.startswith("data:") or target.removeprefix("#") in ids, target
    assert "@import" not in text
    urls = re.findall(r"url\(([^)]*)\)", text)
    assert urls  # clip paths
    assert {url.strip("'\"") for url in urls} <= {f"#{i}" for i in ids}


def test_figures(page):
    figures = page.all("figure")
    assert [f.all("h2")[0].text for f in figures] == TITLES
    for figure in figures:
        (svg,) = figure.all("svg")
        assert (svg.attributes["role"], svg.attributes["aria-label"]) == (
            "img",
            figure.all("h2")[0].text,
        )
        assert svg.all("path")
        assert figure.all("figcaption")[0].text.endswith(".")


def test_axes_say_what_they_show(page, outcome, name):
    """Text stays text in the figures, so that it can be found and read out."""
    texts = [{t.text for t in svg.all("text")} for svg in page.all("svg")]
    metric = {"regression": "R2", "classification": "accuracy"}[name]
    assert {"hidden layers", f"leave-one-out {metric}", "best Gaussian kernel"} <= texts[0]
    assert "ridge alpha, relative to the mean diagonal" in texts[1]
    best = outcome.folds[0].winner
    above = np.sum(best.spectrum > best.alpha)
    line = f"alpha = {best.alpha:.2g}: {above:,} of {best.rows:,} eigenvalues above"
    assert {"rank", line} <= texts[2]
    last = {"regression": {"true price", "predicted price"}}
    assert last.get(name, {"true", "predicted", "inner", "middle", "outer"}) <= texts[3]


def test_confusion_counts_every_test_row():
    svg = parse(page_of("classification")).all("svg")[3]
    counts = [int(t.text) for t in svg.all("text") if t.text.isdigit()]
    assert sum(counts) == len(outcome_of("classification").folds[0].test)


def test_comparison(page, outcome, name):
    head, rows = table(page, "Comparison on the test rows")
    metric = {"regression": "R2", "classification": "accuracy"}[name]
    rmse = ["test RMSE"] if name == "regression" else []
    assert head == ["model", "error left", f"test {metric}", *rmse, "leave-one-out", "rows", "fit"]
    expected = summary(outcome)["comparison"]
    assert len(rows) == len(expected) == 5
    for cells, row in zip(rows, expected, strict=True):
        assert cells[0] == f"{row['model']} {row['description']}"
        if name == "regression":
            assert cells[2:4] == [f"{row['test']:.4f}", significant(row["rmse"])]
        else:
            assert cells[2] == f"{100 * row['test']:.2f} % ± {100 * row['test_std']:.2f} %"
        assert cells[-2] == str(row["rows"])


def test_bars_are_in_proportion_to_the_errors(page, outcome):
    """On a scale that ends at the worst model but the constant, which may be far off."""
    bars = [e for e in page.all("div") if e.attributes.get("class") in ("bar", "bar cut")]
    widths = [float(re.fullmatch(r"width: ([\d.]+)%", b.attributes["style"])[1]) for b in bars]
    errors = np.array([1 - row["test"] for row in comparison(outcome)])
    assert [row["model"] for row in comparison(outcome)][-1] == "constant"
    expected = np.minimum(100 * errors / errors[:-1].max(), 100)
    assert widths == pytest.approx(expected.tolist(), abs=0.051)  # one decimal
    assert max(widths[:-1]) == 100
    cut = [b.attributes["class"] == "bar cut" for b in bars]
    assert cut == (errors > errors[:-1].max()).tolist()
    assert cut[-1]


def test_terms_are_explained(page, outcome, name):
    text = page.text
    measure = {"regression": "1 - R2", "classification": "1 - accuracy"}[name]
    assert f"Error left is {measure}, a full bar that of the worst model besides" in text
    best = outcome.folds[0].winner.candidate
    words = {
        "standard": "Standard inputs: each column is scaled to mean 0 and variance 1.",
        "common": "Common inputs: one factor scales all columns, so that the mean square entry is",
    }
    assert words[best.scaling] in text


def test_finalists(page, outcome):
    head, rows = table(page, "Finalists")
    finalists = outcome.folds[0].rounds[-1]
    assert head[:3] == ["network", "kernel", "ridge"]
    assert [cells[1:3] for cells in rows] == [[t.kernel, f"{t.alpha:.3g}"] for t in finalists]
    scores = [float(cells[3].removesuffix(" %")) for cells in rows]
    assert scores == sorted(scores, reverse=True)


def test_tiles(page, outcome):
    tiles = [e for e in page.all("div") if e.attributes.get("class", "").startswith("tile")]
    first, second = comparison(outcome)[:2]
    metric, fold, folds = summary(outcome)["metric"], outcome.folds[0], len(outcome.folds)
    expected = [
        [f"test {metric}", format_score(first["test"], metric), first["model"]],
        ["best of 3 others", format_score(second["test"], metric), second["model"]],
        ["training / test rows", f"{len(fold.train)} / {len(fold.test)}"],
    ]
    expected[2].append(f"{folds} test split" + ("s" if folds > 1 else ""))
    assert [[e.text for e in tile.children] for tile in tiles[:3]] == expected
    assert tiles[3].text.endswith(
        f"{sum(map(len, fold.rounds))} kernels, {len(fold.winner.alphas)} ridges each"
    )


def test_code_makes_the_chosen_estimator(page, outcome):
    """Copied from the page into Python."""
    namespace = {}
    exec("".join(page.all("pre")[0].pieces), namespace)
    fold, model = outcome.folds[0], namespace["model"]
    best, estimator = fold.winner, model[-1]
    assert type(estimator) is type(fold.model.estimator)
    assert estimator.network == best.candidate.network
    assert (estimator.kernel, estimator.alpha) == (best.kernel, best.alpha)
    X, y = outcome.data.X.astype(np.float64), outcome.data.y
    found = model.fit(X[fold.train], y[fold.train]).predict(X[fold.test])
    if outcome.data.task == "regression":
        # The scaling rounds in another order, and the condition number is below 1e5.
        np.testing.assert_allclose(found, fold.predicted, rtol=1e-9)
    else:
        assert np.array_equal(found, fold.predicted)


def test_notes_and_versions(page, outcome):
    assert [e.text for e in page.all("li")] == list(outcome.data.notes)
    versions = summary(outcome)["environment"]
    foot = page.all("p")[-1].text
    assert all(f"{package} {version}" in foot for package, version in versions.items())
    assert f"seed {outcome.settings.seed}." in foot


def test_no_notes_no_section():
    """Numbers only, task from the source: nothing to remark."""
    data = load("wine")
    assert data.notes == ()
    assert "Notes on the data" not in render(quick(data, max_rows=20))
    assert "Notes on the data" in page_of("regression")


def test_names_are_text():
    page = parse(page_of("hostile"))
    assert page.all("h1")[0].text == "a & <b>bold<"
    assert page.all("title")[0].text == "a & <b>bold<: infinite-width baseline"
    assert page.all("p")[0].text.startswith(
        f"Infinite-width baseline: regression of {HOSTILE} from"
    )
    assert f"true {HOSTILE}" in {t.text for t in page.all("svg")[3].all("text")}
    assert page.all("img") == []


def test_the_same_baseline_is_the_same_page(outcome, name):
    """No dates and random ids, so that two reports can be compared."""
    assert render(outcome) == page_of(name)


def test_the_command_writes_this_page(tmp_path):
    arguments = ["baseline", "wine", "--quick", "--max-rows", "20", "--out", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    page = parse(Path(tmp_path, "report.html").read_text(encoding="utf-8"))
    assert [e.text for e in page.all("h1", "h2")] == [
        "wine",
        "Comparison on the test rows",
        "The chosen network",
        *TITLES,
        "Finalists",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.4996, "500 ms"),
        (1.0, "1.0 s"),
        (59.9, "59.9 s"),
        (60.0, "1 min 0 s"),
        (3600.0, "60 min 0 s"),
        # Rounded before it is split, so that no unit overflows.
        (0.9996, "1.0 s"),
        (59.97, "1 min 0 s"),
        (119.7, "2 min 0 s"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("value", [None, np.nan, np.inf, -np.inf])
def test_no_score(value):
    assert format_score(value, "R2") == format_score(value, "accuracy") == "–"
