"""Reports of data with odd names and scores that do not exist."""

import collections
import re

import numpy as np
import pytest

from kernreg.report import render
from tests.baseline.problems import quick, regression_table, saved
from tests.report.pages_of_tables import page_of


@pytest.mark.parametrize(
    "name", ["cost $_in_$", "$\\frac$", "$a$ and $b$", "a_b^c", "100 % \\ net"]
)
def test_names_are_no_mathematics(name, tmp_path):
    """matplotlib typesets what stands between dollars, or fails to."""
    frame = regression_table().rename(columns={"price": name})
    text = render(quick(saved(frame, tmp_path, "t")))
    assert f">predicted {name}</text>" in text
    assert f">true {name}</text>" in text


def test_labels_are_no_mathematics(tmp_path):
    labels = np.array(["$_x_$", "$a$"])
    frame = regression_table().assign(price=np.resize(labels, 40))
    text = render(quick(saved(frame, tmp_path, "t")))
    for label in labels:
        assert text.count(f">{label}</text>") == 2


def test_score_that_does_not_exist(tmp_path):
    """R2 of test rows that are all equal is a dash, not a number and not an error."""
    y = regression_table()["price"].to_numpy().copy()
    y[:8] = 1.0
    X = regression_table()[["size", "weight"]].to_numpy()
    np.savez(tmp_path / "t.npz", X=X, y=y, is_test=np.arange(40) < 8)
    from kernreg.datasets import load

    text = render(quick(load(tmp_path / "t.npz")))
    assert "<b>–</b>" in text
    assert re.search(r"\bnan\b", re.sub(r"<style>.*?</style>", "", text, flags=re.S)) is None


@pytest.mark.parametrize("name", ["regression", "classification"])
def test_no_two_elements_have_the_same_id(name):
    """Ids count for the whole page, so those of four figures must differ."""
    text = page_of(name)
    counts = collections.Counter(re.findall(r'\bid="([^"]+)"', text))
    assert len(counts) > 20
    assert sorted(name for name, count in counts.items() if count > 1) == []
