"""One small baseline of each task, shared by the tests that only look at it."""

from __future__ import annotations

import pytest

from kernreg.baseline import Outcome
from tests.baseline.problems import classification_table, quick, regression_table, saved


@pytest.fixture(scope="session")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return quick(saved(regression_table(), tmp_path_factory.mktemp("data"), "prices"))


@pytest.fixture(scope="session")
def classification(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    data = saved(classification_table(), tmp_path_factory.mktemp("data"), "rings")
    return quick(data, folds=3, seed=5)


@pytest.fixture(scope="session", params=["regression", "classification"])
def outcome(request: pytest.FixtureRequest) -> Outcome:
    return request.getfixturevalue(request.param)
