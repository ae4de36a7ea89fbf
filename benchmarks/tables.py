"""``kernreg baseline`` beside other libraries on tables: accuracy, mean ranks and times.

    python -m benchmarks.tables run --folds 0 --max-rows 5000
    python -m benchmarks.tables run --kind classification
    python -m benchmarks.tables show

Regression sets are the 22 of ``KERNREG_DATA/uci_regression``, classification sets the 40 of
``uci_classification`` with most rows. Each library is fitted with its own settings and after a
light search among four on rows held out of the training rows; nothing is tuned by hand. ``run``
appends a line for every set, fold and model to ``benchmarks/results/tables.jsonl`` and skips what
is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.problems import data_dir
from kernreg.baseline import Settings, run
from kernreg.baseline.competitors import available, score_competitor
from kernreg.baseline.outcome import splits
from kernreg.datasets import Dataset, load

RESULTS = Path(__file__).parent / "results" / "tables.jsonl"
OURS = "kernreg baseline"
CLASSIFICATION_SETS = 40
MOST_TEST_ROWS = 5000

Key = tuple[str, int, int, str]


def sets(kind: str) -> list[Dataset]:
    """The tables of a kind, smallest first."""
    found = [
        load(str(path), task="regression" if kind == "regression" else "classification")
        for path in sorted((data_dir() / f"uci_{kind}").glob("*.npz"))
        if kind == "regression" or _rows(path) >= 500
    ]
    found.sort(key=lambda data: len(data.X))
    return found if kind == "regression" else found[-CLASSIFICATION_SETS:]


def _rows(path: Path) -> int:
    with np.load(path) as file:
        return len(file["y"])


def parts(data: Dataset, fold: int, max_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows of a fold, at most so many of them."""
    if data.test_mask is not None and data.test_mask.shape[1] > fold:
        mask = data.test_mask[:, fold].astype(bool)
        train, test = np.flatnonzero(~mask), np.flatnonzero(mask)
    else:
        train, test = splits(replace(data, test_mask=None), Settings(seed=fold))[0]
    rng = np.random.default_rng(fold)
    if len(train) > max_rows:
        train = np.sort(rng.choice(train, max_rows, replace=False))
    if len(test) > MOST_TEST_ROWS:
        test = np.sort(rng.choice(test, MOST_TEST_ROWS, replace=False))
    return train, test


def ours(data: Dataset, train: np.ndarray, test: np.ndarray) -> Iterator[dict[str, Any]]:
    """The baseline's network and the kernels of distances that it searches beside it."""
    mask = np.zeros((len(train) + len(test), 1), dtype=bool)
    mask[len(train) :] = True
    rows = np.concatenate([train, test])
    classes = None if data.classes is None else np.unique(data.y[rows])
    part = replace(data, X=data.X[rows], y=data.y[rows], classes=classes, test_mask=mask)
    started = time.perf_counter()
    fold = run(part, Settings(competitors=False)).folds[0]
    seconds = time.perf_counter() - started
    for index, score in enumerate(fold.scores):
        yield {
            "model": OURS if index == 0 else score.model,
            "score": score.test,
            "held_out": score.leave_one_out,
            "what": score.description,
            "seconds": fold.seconds["search"] + fold.seconds["fit"] if index == 0 else None,
            "all_seconds": seconds if index == 0 else None,
        }


def others(data: Dataset, train: np.ndarray, test: np.ndarray, done: set[str]) -> Iterator[Any]:
    """The other libraries, each with its own settings and after a light search."""
    for competitor in available():
        for light in (False, True):
            name = competitor.name + (", searched" if light else "")
            if name in done or (light and not competitor.light):
                continue
            score = score_competitor(competitor, data, train, test, 0, light)
            yield {
                "model": name,
                "score": None if np.isnan(score.test) else score.test,
                "held_out": score.leave_one_out,
                "what": score.description,
                "seconds": score.seconds,
            }


def measure(kind: str, folds: list[int], max_rows: int, names: list[str] | None) -> None:
    """Run what has not been run."""
    known = {(r["set"], r["fold"], r["max_rows"], r["model"]) for r in lines()}
    for fold in folds:
        for data in sets(kind):
            if names and data.name not in names:
                continue
            train, test = parts(data, fold, max_rows)
            place = {"kind": kind, "set": data.name, "fold": fold, "max_rows": max_rows}
            place |= {"rows": len(train), "columns": data.X.shape[1]}
            done = {m for s, f, r, m in known if (s, f, r) == (data.name, fold, max_rows)}
            if OURS not in done:
                _append(place, ours(data, train, test))
            _append(place, others(data, train, test, done))


def _append(place: dict[str, Any], found: Iterator[dict[str, Any]]) -> None:
    for line in found:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(place | line) + "\n")
        print(place["set"], place["fold"], line["model"], line["score"] or line["what"], flush=True)


def lines() -> list[dict[str, Any]]:
    """What has been measured."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def show(kind: str, max_rows: int) -> None:
    """A table of scores, and the mean rank and mean score of each model where all have one."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for line in lines():
        if line["kind"] == kind and line["max_rows"] == max_rows:
            # A library that cannot take the data predicts what a constant does.
            score = line["score"] if line["score"] is not None else 0.0
            found.setdefault((line["set"], line["fold"]), {})[line["model"]] = score
    models = sorted({model for scores in found.values() for model in scores})
    models = [m for m in models if m not in ("constant", "ridge")]
    full = {place: s for place, s in found.items() if all(m in s for m in models)}
    if not full:
        print("no set has all models:", ", ".join(models))
        return
    table = np.array([[scores[m] for m in models] for scores in full.values()])
    ranks = np.array([_ranks(row) for row in table]).mean(axis=0)
    print(f"{len(full)} of {len(found)} sets and folds have all {len(models)} models\n")
    print("| model | mean rank | mean score | wins of kernreg | losses |")
    print("| --- | --: | --: | --: | --: |")
    us = table[:, models.index(OURS)]
    for j in np.argsort(ranks):
        better, worse = int((us > table[:, j]).sum()), int((us < table[:, j]).sum())
        clipped = np.clip(table[:, j], -1, 1).mean()
        print(f"| {models[j]} | {ranks[j]:.2f} | {clipped:.4f} | {better} | {worse} |")
    print(f"\n| set | fold | {OURS} | best other | its score |")
    print("| --- | --: | --: | --- | --: |")
    for (name, fold), scores in sorted(full.items()):
        best = max((m for m in models if m != OURS), key=lambda m: scores[m])
        print(f"| {name} | {fold} | {scores[OURS]:.4f} | {best} | {scores[best]:.4f} |")


def _ranks(row: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return np.asarray(rankdata(-np.round(row, 4)))


def main() -> None:
    """Run or show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "show"])
    parser.add_argument("--kind", choices=["regression", "classification"], default="regression")
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    parser.add_argument("--max-rows", type=int, default=5000)
    parser.add_argument("--sets", nargs="+")
    options = parser.parse_args()
    if options.what == "run":
        measure(options.kind, options.folds, options.max_rows, options.sets)
    show(options.kind, options.max_rows)


if __name__ == "__main__":
    main()
