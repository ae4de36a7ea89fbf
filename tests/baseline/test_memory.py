"""max_memory: refused before any kernel is computed."""

import importlib

import pytest

from kernreg.baseline import Settings, run
from kernreg.baseline.outcome import EIGH_ROWS, plan_search
from kernreg.exceptions import InvalidInputError, MemoryBudgetError


@pytest.fixture
def forbidden(monkeypatch):
    """Any search is a failure."""

    def fail(*args, **kwargs):
        pytest.fail("the search began")

    # The package has a function of the name of its module.
    monkeypatch.setattr(importlib.import_module("kernreg.baseline.outcome"), "search", fail)


@pytest.mark.parametrize("max_memory", [1, "1kB", "10kB", "40kB"])
def test_too_little(max_memory, regression, forbidden):
    with pytest.raises(MemoryBudgetError, match=r"allow .* by max_memory") as caught:
        run(regression.data, Settings(max_memory=max_memory, quick=True))
    assert isinstance(caught.value, MemoryError)


@pytest.mark.parametrize("max_memory", ["lots", "0", "-1GB", "", "4XB"])
def test_no_size(max_memory, regression, forbidden):
    with pytest.raises(InvalidInputError, match="Expected max_memory"):
        run(regression.data, Settings(max_memory=max_memory, quick=True))


def test_what_the_message_asks_for_is_enough(regression):
    with pytest.raises(MemoryBudgetError) as caught:
        plan_search(regression.data, Settings(max_memory="20kB"), 32)
    # Given to three digits, so the last may have been rounded down.
    kilobytes = float(str(caught.value).split("allow ")[1].split(" kB")[0])
    run(regression.data, Settings(max_memory=f"{1.01 * kilobytes:.3f}kB", quick=True))


def test_less_memory_means_fewer_rows_in_the_search(regression):
    top = {
        megabytes: plan_search(regression.data, Settings(max_memory=f"{megabytes}MB"), 9000)[0][-1]
        for megabytes in (100, 120, 4000)
    }
    assert top[100].rows < top[120].rows < top[4000].rows == EIGH_ROWS
    for megabytes, stage in top.items():
        # Two kernels, the matrix, its eigenvectors and one to spare, in float64.
        assert 5 * 8 * stage.rows**2 <= megabytes * 1e6


def test_many_classes_need_memory_too(classification):
    one = plan_search(classification.data, Settings(), 2000)[1]
    assert one.peak_bytes > 8 * 2000**2 / 2
