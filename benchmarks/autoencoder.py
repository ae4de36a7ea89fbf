"""The infinitely wide autoencoder of a recommender system: sparse rows, as many outputs as inputs.

    python -m benchmarks.autoencoder [--users 20000 --items 5000 --compared 10000]

Kernel ridge regression of users on themselves (Sachdeva et al., "Infinite recommendation networks",
2206.02626) with the NTK of one hidden ReLU layer, on generated ratings: 20 tastes, popular items,
some 80 items a user, of which a fifth is hidden. Each run is a process of its own; memory is the
peak of that process above what the imports take. Sparse rows are solved for 500 items at a time;
dense ones, as a user of arrays would write it, at once; both also with coefficients for 1,000 users
drawn at random. scikit-learn's KernelRidge with a Gaussian kernel takes the sparse rows and dense
targets. Recall is the share of hidden items among the 20 best of a user, of 2,000 users. Writes
``benchmarks/results/autoencoder.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

RESULTS = Path(__file__).parent / "results" / "autoencoder.json"
_TESTED = 2000
_BEST = 20
_ITEMS_AT_ONCE = 500
_RIDGE = 5.0

Scores = NDArray[np.float32]


def ratings(users: int, items: int) -> tuple[sp.csr_array, sp.csr_array]:
    """What users chose, and what is hidden of it, both 0 or 1."""
    rng = np.random.default_rng(0)
    tastes = rng.gamma(0.3, size=(users, 20)).astype(np.float32)
    liked = rng.gamma(0.3, size=(20, items)).astype(np.float32)
    popular = (1.0 / np.arange(1, items + 1) ** 0.6).astype(np.float32)
    rows, columns = [], []
    for start in range(0, users, 500):
        chance = (tastes[start : start + 500] @ liked) * popular
        # The largest of these are a choice without replacement, by chance.
        race = chance ** (1 / 2) / rng.exponential(size=chance.shape) ** (1 / 2)
        for i, row in enumerate(race):
            count = int(rng.integers(40, 120))
            columns.append(np.argpartition(row, -count)[-count:])
            rows.append(np.full(count, start + i))
    i, j = np.concatenate(rows), np.concatenate(columns)
    hidden = rng.random(len(i)) < 0.2
    make = [(i[part], j[part]) for part in (~hidden, hidden)]
    seen, rest = (
        sp.csr_array((np.ones(len(a), np.float32), (a, b)), shape=(users, items)) for a, b in make
    )
    return seen, rest


def recall(scores: Scores, seen: sp.csr_array, hidden: sp.csr_array) -> float:
    """Share of the hidden items among the best that a user has not seen, at most 20."""
    scores = scores.copy()
    scores[seen[: len(scores)].toarray() > 0] = -np.inf
    best = np.argpartition(scores, -_BEST, axis=1)[:, -_BEST:]
    truth = hidden[: len(scores)].toarray()
    found = np.take_along_axis(truth, best, axis=1).sum(axis=1)
    possible = np.minimum(truth.sum(axis=1), _BEST)
    return float((found[possible > 0] / possible[possible > 0]).mean())


def of_kernreg(seen: sp.csr_array, dense: bool, centres: int | None = None) -> Scores:
    """Scores of the tested users."""
    from kernreg import KernelOperator, nn
    from kernreg.solvers import Cholesky, Restricted

    items = seen.shape[1]
    X = seen.toarray() if dense else seen
    net = nn.mlp(depth=1)
    # In float32 every block of items would be refined with entries made anew.
    K = KernelOperator(net, X, dtype="float64")
    solver = Cholesky() if centres is None else Restricted(centres=centres, method="uniform")
    state = solver.init(K, _RIDGE)
    rows = solver.rows_of(state)
    kind = "float32" if rows is None else "float64"
    new = KernelOperator(net, X[:_TESTED], X if rows is None else X[rows], dtype=kind)
    scores = np.empty((min(_TESTED, seen.shape[0]), items), np.float32)
    step = items if dense else _ITEMS_AT_ONCE
    for j in range(0, items, step):
        part = slice(j, j + step)
        labels = X[:, part] if dense else X[:, part].toarray()
        scores[:, part] = new @ solver.solve(state, labels).value.astype(kind)
    return scores


def of_scikit_learn(seen: sp.csr_array) -> Scores:
    """The same with a Gaussian kernel, whose width is that of a user with 64 items."""
    from sklearn.kernel_ridge import KernelRidge

    X = sp.csr_matrix(seen)
    model = KernelRidge(kernel="rbf", gamma=1 / 64, alpha=0.5).fit(X, seen.toarray())
    return np.asarray(model.predict(X[:_TESTED]), dtype=np.float32)


CASES: dict[str, Callable[[sp.csr_array], Scores]] = {
    "kernreg, sparse rows": lambda seen: of_kernreg(seen, dense=False),
    "kernreg, dense rows": lambda seen: of_kernreg(seen, dense=True),
    "scikit-learn, Gaussian kernel ridge": of_scikit_learn,
    "kernreg, sparse rows, 1,000 centres": lambda seen: of_kernreg(seen, False, 1000),
    "kernreg, dense rows, 1,000 centres": lambda seen: of_kernreg(seen, True, 1000),
}


def memory(field: str) -> int:
    """Bytes of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def run(case: str, users: int, items: int) -> dict[str, float]:
    """One case in this process."""
    import sklearn.kernel_ridge  # noqa: F401

    import kernreg.solvers  # noqa: F401

    seen, hidden = ratings(users, items)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = memory("VmRSS")
    started = time.perf_counter()
    scores = CASES[case](seen)
    seconds, peak = time.perf_counter() - started, memory("VmHWM") - before
    return {"seconds": seconds, "bytes": peak, "recall": recall(scores, seen, hidden)}


def main() -> None:
    """Measure all cases, each in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--compared", type=int, default=10_000, help="users for all three")
    parser.add_argument("--case", choices=CASES)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run(options.case, options.users, options.items)))
        return
    found = []
    print("| run | users | seconds | GB | recall at 20 |\n| --- | --: | --: | --: | --: |")
    larger = [("kernreg, sparse rows", options.users)]
    for case, users in [*((case, options.compared) for case in CASES), *larger]:
        arguments = ["--case", case, "--users", str(users), "--items", str(options.items)]
        command = [sys.executable, "-m", "benchmarks.autoencoder", *arguments]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        line = {"case": case, "users": users, "items": options.items, **json.loads(out)}
        found.append(line)
        print(
            f"| {case} | {users:,} | {line['seconds']:.0f} | {line['bytes'] / 1e9:.2f} "
            f"| {line['recall']:.3f} |",
            flush=True,
        )
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
