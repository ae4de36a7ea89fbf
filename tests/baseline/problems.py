"""Small tables, and what a baseline makes of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from kernreg.baseline import Outcome, Settings, run
from kernreg.datasets import Dataset, load


def regression_table(rows: int = 40) -> pd.DataFrame:
    """Two numbers and a text column; the target bends and depends on all three."""
    rng = np.random.default_rng(10)
    size, weight = rng.uniform(-2, 2, rows), rng.normal(50, 10, rows)
    colour = rng.choice(["blue", "red"], rows)
    price = np.abs(size) + 0.02 * weight + (colour == "red") + 0.05 * rng.standard_normal(rows)
    return pd.DataFrame({"size": size, "weight": weight, "colour": colour, "price": price})


def classification_table(rows: int = 45, classes: int = 3) -> pd.DataFrame:
    """Noisy rings around the origin."""
    rng = np.random.default_rng(11)
    radius, angle = np.arange(rows) % classes, rng.uniform(0, 2 * np.pi, rows)
    noisy = radius + 1 + 0.3 * rng.standard_normal(rows)
    return pd.DataFrame(
        {
            "a": noisy * np.cos(angle),
            "b": noisy * np.sin(angle),
            "kind": np.array(["inner", "middle", "outer", "far"])[radius],
        }
    )


def saved(frame: pd.DataFrame, folder: Path, name: str) -> Dataset:
    """The table after a way through a CSV file."""
    frame.to_csv(folder / f"{name}.csv", index=False)
    return load(str(folder / f"{name}.csv"))


def predictions(folder: Path) -> dict[str, np.ndarray]:
    """Columns of ``predictions.csv`` of a regression, every bit of them."""
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        "row": np.array([int(row["row"]) for row in rows]),
        "true": np.array([float(row["true"]) for row in rows]),
        "predicted": np.array([float(row["predicted"]) for row in rows]),
    }


def quick(data: Dataset, **settings: object) -> Outcome:
    """A baseline that takes a fraction of a second."""
    return run(data, Settings(**{"quick": True, "scales": False, "competitors": False, **settings}))
