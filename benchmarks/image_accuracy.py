"""Accuracy of convolutional kernels on CIFAR-10 or MNIST, beside fully connected and Gaussian ones.

    python -m benchmarks.image_accuracy cifar10 --train 500 --test 500 \
        --network 'flip_augmented(myrtle(5))'
    python -m benchmarks.image_accuracy mnist --train 2000 --test 2000 \
        --network 'cnn(8, readout="flatten")'

The first images of either part are taken. Each channel is scaled to mean 0 and variance 1 by the
training images, ridges are chosen by leave-one-out on them, and so are, out of the whole grid of
``kernreg baseline``, the fully connected network and the Gaussian kernel. Appends a line to
``benchmarks/results/image_accuracy.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.problems import data_dir
from kernreg import ImageScaler, KernelClassifier
from kernreg.baseline import Settings, run
from kernreg.datasets import Dataset, load

RESULTS = Path(__file__).parent / "results" / "image_accuracy.jsonl"
FILES = {"cifar10": "cifar10/cifar10_small_decoded.npz", "mnist": "mnist/mnist.npz"}

Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def images(name: str, train: int, test: int) -> Parts:
    """Training images and labels, test images and labels."""
    with np.load(data_dir() / FILES[name]) as file:
        X, y = file["X_train"][:train], file["y_train"][:train]
        Z, z = file["X_test"][:test], file["y_test"][:test]
    if X.ndim == 3:
        X, Z = X[..., None], Z[..., None]
    return X, y, Z, z


def convolutional(network: str, kernel: str, parts: Parts) -> dict[str, Any]:
    """Accuracy on the test images, and seconds of all that a user waits for."""
    X, y, Z, z = parts
    started = time.perf_counter()
    scaler = ImageScaler().fit(X)
    model = KernelClassifier(network, kernel=kernel, dtype="float32", verbose=1)
    model.fit(scaler.transform(X), y)
    fitted = time.perf_counter()
    score = float(model.score(scaler.transform(Z), z))
    return {
        "accuracy": score,
        "alpha": float(model.alpha_),
        "fit_seconds": fitted - started,
        "predict_seconds": time.perf_counter() - fitted,
    }


def others(parts: Parts, folder: Path) -> dict[str, Any]:
    """The best fully connected network and the best Gaussian kernel, by leave-one-out."""
    X, y, Z, z = (a.reshape(len(a), -1) if a.ndim > 1 else a for a in parts)
    path = folder / "rows.npz"
    np.savez(path, X_train=X, y_train=y, X_test=Z, y_test=z)
    data: Dataset = load(str(path))
    path.unlink()
    outcome = run(data, Settings(competitors=False))
    return {s.model: {"accuracy": s.test, "what": s.description} for s in outcome.folds[0].scores}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("data", choices=FILES)
    parser.add_argument("--train", type=int, default=500)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--network", action="append", default=[])
    parser.add_argument("--kernel", default="ntk", choices=("ntk", "nngp"))
    parser.add_argument("--others", action="store_true", help="the kernels to compare with, too")
    options = parser.parse_args()
    parts = images(options.data, options.train, options.test)
    record: dict[str, Any] = {
        "data": options.data,
        "train": options.train,
        "test": options.test,
        "kernel": options.kernel,
        "threads": os.environ.get("KERNREG_NUM_THREADS", "all"),
    }
    for network in options.network:
        record[network] = convolutional(network, options.kernel, parts)
        print(network, record[network], flush=True)
    if options.others:
        record["others"] = others(parts, RESULTS.parent)
    print(json.dumps(record, indent=1))
    with RESULTS.open("a") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
