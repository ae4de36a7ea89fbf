"""Commands on files of labels and features that are not 0."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run
from tests.datasets.test_svmlight import written


def test_fit_and_predict(run: Run, tmp_path: Path) -> None:
    path, model = tmp_path / "data.svm", tmp_path / "svm.model"
    written(path)
    fitted = run("fit", path, "--network", "mlp(depth=1)", "--out", model)
    assert fitted.exit_code == 0, fitted.output
    predicted = run("predict", model, path)
    lines = predicted.stdout.splitlines()
    assert lines[0] == "row,predicted_label"
    assert len(lines) == 41
