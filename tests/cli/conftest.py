"""The command line in this process, with small tables to work on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from kernreg.cli import app
from tests.baseline.problems import classification_table, regression_table

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def run() -> Run:
    """``run("fit", path, ...)`` gives exit code, stdout and stderr; a traceback is a failure."""

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(f"a traceback for the user, after {result.stderr!r}") from (
                result.exception
            )
        return result

    return invoke


@pytest.fixture(scope="session")
def refused(run: Run) -> Callable[..., str]:
    """The message of a command that must fail with one line and exit code 2."""

    def invoke(*arguments: object) -> str:
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        lines = [line for line in result.stderr.splitlines() if line]
        assert lines[-1].startswith("error: ")
        # Notes on the data may come before it, nothing else.
        assert all(line.startswith("note: ") for line in lines[:-1])
        return lines[-1].removeprefix("error: ")

    return invoke


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Files: ``prices`` for regression, ``rings`` for classification, in several formats."""
    folder = tmp_path_factory.mktemp("tables")
    regression_table().to_csv(folder / "prices.csv", index=False)
    regression_table().to_parquet(folder / "prices.parquet")
    classification_table().to_csv(folder / "rings.csv", index=False)
    numbers = regression_table()[["size", "weight", "price"]].to_numpy()
    np.save(folder / "prices.npy", numbers)
    np.savez(folder / "prices.npz", X=numbers[:, :2], y=numbers[:, 2])
    return SimpleNamespace(
        prices=folder / "prices.csv",
        parquet=folder / "prices.parquet",
        npy=folder / "prices.npy",
        npz=folder / "prices.npz",
        rings=folder / "rings.csv",
    )


@pytest.fixture(scope="session")
def baseline_folder(
    run: Run, tables: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What ``kernreg baseline`` wrote for the prices."""
    folder = tmp_path_factory.mktemp("results") / "out"
    assert run("baseline", tables.prices, "--quick", "--out", folder).exit_code == 0
    return folder


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A folder that must be empty at the end of the test as well."""
    folder = tmp_path / "empty"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []
