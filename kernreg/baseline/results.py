"""A finished baseline as plain data and as files."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
import platform
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import kernreg
from kernreg import nn
from kernreg.baseline.compare import Score
from kernreg.baseline.competitors import COMPETITORS
from kernreg.baseline.outcome import Fold, Outcome
from kernreg.baseline.search import Trial
from kernreg.baseline.uncertainty import LEVEL, Intervals, Probabilities
from kernreg.datasets import Dataset
from kernreg.exceptions import InvalidInputError
from kernreg.jsonable import as_plain
from kernreg.operators.store.disk import draft_folder, remove_drafts

__all__ = [
    "FILES",
    "code",
    "is_results",
    "output_folder",
    "remove_leftovers",
    "summary",
    "table",
    "write",
]

MODEL_FILE, _SUMMARY = "model.safetensors", "results.json"
FILES = (MODEL_FILE, "predictions.csv", "report.html", "results.csv", _SUMMARY)
"""What is written into the folder."""
_FORMAT = "kernreg-baseline"
_MARK = f'{{\n  "format": "{_FORMAT}"'.encode()
_DRAFT = "baseline"

_COLUMNS = [
    "fold",
    "round",
    "rows",
    "family",
    "depth",
    "W_std",
    "b_std",
    "unit_rows",
    "gamma",
    "scaling",
    "kernel",
    "alpha",
    "leave_one_out",
    "squared_error",
    "seconds",
]


def code(fold: Fold) -> str:
    """Python that makes the chosen model, scaling included, for features and targets as loaded."""
    best, kind = fold.winner, type(fold.model.estimator).__name__
    network = f"network = {_qualified(repr(best.candidate.network))}"
    made = f'{kind}(network, kernel="{best.kernel}", alpha={best.alpha!r})'
    needed = [kind, "nn"]
    if best.candidate.scaling == "channel":
        assert best.candidate.network is not None
        shape = best.candidate.network.program().shape
        imports, scaling, needed = "", f"ImageScaler(input_shape={shape})", ["ImageScaler", *needed]
    elif best.candidate.scaling == "learned":
        scaler = fold.model.scaler
        imports = "import numpy as np\nfrom sklearn.preprocessing import FunctionTransformer\n"
        network = (
            f"mean = np.array({scaler.mean.tolist()})\nscale = np.array({scaler.scale.tolist()})\n"
            f"\n\ndef scaled(X):\n    return (X - mean) / scale\n\n\n{network}"
        )
        scaling = "FunctionTransformer(scaled)"
    elif best.candidate.scaling == "standard":
        imports = "from sklearn.preprocessing import StandardScaler\n"
        scaling = "StandardScaler()"
    else:
        imports = "from sklearn.preprocessing import FunctionTransformer\n"
        factor = 1.0 / float(fold.model.scaler.scale[0])
        scaling = f"FunctionTransformer(partial(np.multiply, {factor!r}))"
        imports = f"from functools import partial\n\nimport numpy as np\n{imports}"
    imports += "from sklearn.pipeline import make_pipeline\n\n"
    imports += f"from kernreg import {', '.join(needed)}"
    return f"{imports}\n\n{network}\nmodel = make_pipeline(\n    {scaling},\n    {made},\n)"


def _qualified(text: str) -> str:
    """The code of a network with ``nn.`` before every name that is called."""
    return re.sub(r"(?<![\w.])([A-Za-z]\w*)\(", r"nn.\1(", text)


def summary(outcome: Outcome) -> dict[str, Any]:
    """Everything that ``results.json`` holds."""
    data, settings, first = outcome.data, outcome.settings, outcome.folds[0]
    return {
        "format": _FORMAT,
        "version": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "metric": metric(outcome),
        "data": {
            "name": data.name,
            "task": data.task,
            "target": data.target_name,
            "rows": len(data.X),
            "features": data.X.shape[1],
            "classes": None if data.classes is None else [str(c) for c in data.classes],
            "notes": list(data.notes),
        },
        "settings": {
            "folds": settings.folds,
            "seed": settings.seed,
            "max_rows": settings.max_rows,
            "max_memory": settings.max_memory,
            "scaling": settings.scaling,
            "quick": settings.quick,
            "scales": settings.scales,
            "competitors": settings.competitors,
        },
        "comparison": comparison(outcome),
        "folds": [_fold(fold) for fold in outcome.folds],
        "chosen": _chosen(first),
        "environment": environment(),
    }


def metric(outcome: Outcome) -> str:
    """``"R2"`` or ``"accuracy"``."""
    return "R2" if outcome.data.task == "regression" else "accuracy"


def environment() -> dict[str, str]:
    """Versions that the numbers depend on."""
    import scipy
    import sklearn
    import torch

    packages = sorted({c.package for c in COMPETITORS} - {"sklearn"})
    installed = {name: _version(name) for name in packages}
    return {
        "kernreg": kernreg.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        "torch": torch.__version__,
        **{name: version for name, version in installed.items() if version is not None},
        "machine": platform.machine(),
    }


def _version(module: str) -> str | None:
    """Of the package that a module is from, without an import."""
    for package in metadata.packages_distributions().get(module, ()):
        return metadata.version(package)
    return None


def comparison(outcome: Outcome) -> list[dict[str, Any]]:
    """Mean test scores of each kind of model over the folds: the network, then the best others."""
    rows: list[dict[str, Any]] = []
    for scores in zip(*(fold.scores for fold in outcome.folds), strict=True):
        test = [score.test for score in scores]
        first: Score = scores[0]
        several = len({score.model for score in scores}) > 1
        rows.append(
            {
                "model": "network" if several else first.model,
                "description": "a choice for each fold" if several else first.description,
                "rows": first.rows,
                "test": float(np.mean(test)),
                "test_std": float(np.std(test)) if len(test) > 1 else None,
                "rmse": None
                if any(s.rmse is None for s in scores)
                else float(np.mean([s.rmse for s in scores])),
                "leave_one_out": first.leave_one_out,
                "seconds": float(np.mean([score.seconds for score in scores])),
            }
        )
    return rows[:1] + sorted(rows[1:], key=lambda row: -np.nan_to_num(row["test"], nan=-np.inf))


def _fold(fold: Fold) -> dict[str, Any]:
    return {
        "train_rows": len(fold.train),
        "test_rows": len(fold.test),
        "seconds": {name: round(value, 3) for name, value in fold.seconds.items()},
        "scores": [dataclasses.asdict(score) for score in fold.scores],
        "network": repr(fold.winner.candidate.network),
        "kernel": fold.winner.kernel,
        "alpha": fold.winner.alpha,
        "finalists": [_trial(trial) for trial in fold.rounds[-1]],
        "uncertainty": _uncertainty(fold.uncertainty),
        "importances": fold.importances,
    }


def _uncertainty(found: Intervals | Probabilities | None) -> dict[str, Any] | None:
    """How sure the model is, and how right."""
    if isinstance(found, Probabilities):
        return {"log_loss": found.log_loss, "calibration_error": found.calibration_error}
    if isinstance(found, Intervals):
        shares = {f"{level:g}": share for level, share in found.shares.items()}
        return {"mean_width": found.width, "level": LEVEL, "covered": shares}
    return None


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "network": repr(trial.candidate.network),
        "kernel": trial.kernel,
        "scaling": trial.candidate.scaling,
        "rows": trial.rows,
        "alpha": trial.alpha,
        "leave_one_out": trial.score,
        "alphas": trial.alphas.tolist(),
        "leave_one_out_by_alpha": trial.scores.tolist(),
    }


def _chosen(fold: Fold) -> dict[str, Any]:
    best = fold.winner
    network = best.candidate.network
    assert network is not None
    return {
        "network": repr(network),
        "network_json": json.loads(nn.to_json(network)),
        "kernel": best.kernel,
        "alpha": best.alpha,
        "scaling": best.candidate.scaling,
        "model_file": MODEL_FILE,
    }


def table(outcome: Outcome) -> str:
    """Every scored kernel of every round as CSV text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for number, fold in enumerate(outcome.folds):
        for rounds in (fold.rounds, *fold.radial.values()):
            for index, trials in enumerate(rounds, start=1):
                for trial in trials:
                    writer.writerow([number, index, *_cells(trial)])
    return text.getvalue()


def _cells(trial: Trial) -> list[Any]:
    c = trial.candidate
    return [
        trial.rows,
        c.family,
        c.depth,
        c.W_std,
        c.b_std,
        int(c.unit_rows),
        c.gamma,
        c.scaling,
        trial.kernel,
        f"{trial.alpha:.6g}",
        f"{trial.score:.6g}",
        f"{trial.squared_error[trial.best]:.6g}",
        f"{trial.seconds:.4f}",
    ]


@contextlib.contextmanager
def output_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A draft folder whose files move into ``folder`` when the block ends without an error.

    Entering creates the folder and proves that it can be written to, before any work. After an
    error nothing is left behind; what a killed process left goes when the folder is next used.

    Raises
    ------
    InvalidInputError
        If the folder cannot be written to.
    """
    final = Path(folder)
    missing = [p for p in (final, *final.parents) if not p.exists()]
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, missing)
        try:
            final.mkdir(parents=True, exist_ok=True)
            remove_leftovers(final)
            draft = stack.enter_context(draft_folder(final, _DRAFT))
            (draft / "probe").touch()
            (draft / "probe").unlink()
        except OSError as error:
            raise InvalidInputError(
                f"The output folder {final} cannot be written to: {error.strerror or error}. Name "
                "another with --out."
            ) from error
        yield draft
        # The file by which the folder is known goes first.
        for path in sorted(draft.iterdir(), key=lambda path: (path.name != _SUMMARY, path.name)):
            os.replace(path, final / path.name)


def _remove_empty(created: list[Path]) -> None:
    for path in created:
        with contextlib.suppress(OSError):
            path.rmdir()


def remove_leftovers(folder: Path) -> None:
    """Remove drafts of baselines that were killed."""
    remove_drafts(folder, _DRAFT, files=(*FILES, "probe"))


def is_results(folder: Path) -> bool:
    """Whether a folder holds what :func:`write` wrote."""
    try:
        with open(folder / _SUMMARY, "rb") as file:
            return file.read(len(_MARK)) == _MARK
    except OSError:
        return False


def write(outcome: Outcome, folder: Path, report: str) -> None:
    """Write model, tables and report.

    Parameters
    ----------
    outcome : Outcome
        The finished baseline.
    folder : Path
        An existing folder, usually the draft of :func:`output_folder`.
    report : str
        Text of ``report.html``.
    """
    first = outcome.folds[0]
    first.model.save(folder / MODEL_FILE)
    text = json.dumps(as_plain(summary(outcome)), indent=2, allow_nan=False)
    (folder / _SUMMARY).write_text(text + "\n", encoding="utf-8")
    (folder / "results.csv").write_text(table(outcome), encoding="utf-8")
    (folder / "predictions.csv").write_text(_predictions(outcome.data, first), encoding="utf-8")
    (folder / "report.html").write_text(report, encoding="utf-8")


def _predictions(data: Dataset, fold: Fold) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ["row", "true", "predicted"]
    columns = [fold.test.tolist(), fold.truth.tolist(), fold.predicted.tolist()]
    if isinstance(fold.uncertainty, Intervals):
        names += ["lower", "upper"]
        columns += [fold.uncertainty.lower.tolist(), fold.uncertainty.upper.tolist()]
    elif isinstance(fold.uncertainty, Probabilities):
        names += [f"probability_{label}" for label in fold.uncertainty.labels]
        columns += fold.uncertainty.values.T.tolist()
    if data.ids is not None:
        names.insert(1, str(data.layout.id_name))
        columns.insert(1, data.ids[fold.test].tolist())
    writer.writerow(names)
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue()
