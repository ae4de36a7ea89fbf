"""The learning curves of Simon, Dickens, Karkada, DeWeese, "The eigenlearning framework"
(2110.03922): test errors of kernel ridge regression, predicted and measured.

    python -m benchmarks.curves run
    python -m benchmarks.curves show
    python -m benchmarks.curves draw docs/published_curves.png

The kernel is the NTK of a ReLU network of two hidden layers. Targets are harmonics of degree k of
the unit sphere, parities of k bits of the hypercube, and labels of MNIST, with ridges and label
noise. Training sets are random; errors are those of rows that were not trained on, against noisy
targets. Three predictions stand beside the mean over the training sets:

- "paper": eigenlearning, which draws its rows independently from a distribution;
- "pool": the same for rows drawn without replacement from a domain of finite size;
- "points": that, knowing where points differ in how well others predict them.

``run`` writes ``benchmarks/results/curves.json``: two minutes on a quiet thread. Without
``KERNREG_DATA`` MNIST is left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import eval_gegenbauer

from benchmarks.lines import WITHIN
from benchmarks.problems import data_dir
from kernreg import KernelRegressor, gram, nn
from kernreg.theory.eigenlearning import (
    Spectrum,
    eigenlearning,
    hypercube_spectrum,
    measure_learning_curve,
    predict_learning_curve,
    sample_spectrum,
    sphere_spectrum,
)

RESULTS = Path(__file__).parent / "results" / "curves.json"
MNIST = "mnist/mnist.npz"

NETWORK = nn.mlp(depth=2)
TRIALS = 100
ALPHA, NOISE = 0.1, 0.5
"""Ridge relative to the mean of ``K(x, x)``, and standard deviation of the label noise."""
TESTED = 2000
"""Rows tested on, on the sphere; elsewhere all that were not trained on."""

Floats = NDArray[np.float64]
Domain = Callable[[int], Iterator["Curve"]]


@dataclass(frozen=True)
class Curve:
    """Test errors of one target for growing training sets.

    Parameters
    ----------
    domain, target : str
        Where inputs lie, and what is learned.
    alpha, noise : float
        Ridge, relative to the mean diagonal, and standard deviation of the label noise.
    trials : int
        Training sets of each size.
    n : list of int
        Training rows.
    measured, standard_error : list of float
        Mean squared error on other rows, summed over outputs, and the standard error of this mean.
    predicted : dict of str to list of float
        By prediction.
    """

    domain: str
    target: str
    alpha: float
    noise: float
    trials: int
    n: list[int]
    measured: list[float]
    standard_error: list[float]
    predicted: dict[str, list[float]]

    def relative(self, theory: str) -> Floats:
        """Predicted over measured, less 1."""
        return np.array(self.predicted[theory]) / np.array(self.measured) - 1

    def in_errors(self, theory: str) -> Floats:
        """Predicted less measured, in standard errors."""
        off = np.array(self.predicted[theory]) - np.array(self.measured)
        return np.asarray(off / np.array(self.standard_error))


def harmonic(u: Floats, d: int, degree: int, multiplicity: float) -> Floats:
    """A harmonic of the sphere in d dimensions, mean square 1, by the cosine ``u`` to an axis."""
    order = d / 2 - 1
    top = eval_gegenbauer(degree, order, 1.0)
    return np.asarray(np.sqrt(multiplicity) * eval_gegenbauer(degree, order, u) / top)


def settings(degrees: Sequence[int]) -> Iterator[tuple[int, float, float]]:
    """Degree, ridge and noise: all degrees without either, the second one with both."""
    for k in degrees:
        yield k, 0.0, 0.0
        if k == 2:
            yield from ((k, ALPHA, 0.0), (k, 0.0, NOISE), (k, ALPHA, NOISE))


def sphere(
    trials: int,
    *,
    d: int = 10,
    degrees: Sequence[int] = (1, 2, 3),
    sizes: Sequence[int] = (25, 50, 100, 200, 400, 800),
) -> Iterator[Curve]:
    """Fresh rows for every trial, from a domain without end."""
    spectrum = sphere_spectrum(NETWORK, d, 40)  # its tail, 2 % of K(x, x), acts as a ridge
    for number, (k, alpha, noise) in enumerate(settings(degrees)):
        random = np.random.default_rng(number)
        errors = np.empty((len(sizes), trials))
        for i, trial in np.ndindex(errors.shape):
            n = sizes[i]
            X = random.standard_normal((n + TESTED, d))
            X *= np.sqrt(d) / np.linalg.norm(X, axis=1, keepdims=True)
            y = harmonic(X[:, 0] / np.sqrt(d), d, k, float(spectrum.multiplicity[k]))
            y += noise * random.standard_normal(len(y))
            model = KernelRegressor(NETWORK, alpha=alpha, fit_intercept=False).fit(X[:n], y[:n])
            errors[i, trial] = np.mean((model.predict(X[n:]) - y[n:]) ** 2)
        yield Curve(
            domain=f"sphere, d = {d}",
            target=f"degree {k}",
            alpha=alpha,
            noise=noise,
            trials=trials,
            n=list(sizes),
            measured=errors.mean(axis=1).tolist(),
            standard_error=(errors.std(axis=1, ddof=1) / trials**0.5).tolist(),
            predicted={"paper": _of_paper(_with_power(spectrum, k), sizes, alpha, noise)},
        )


def hypercube(
    trials: int,
    *,
    d: int = 10,
    degrees: Sequence[int] = (1, 2, 3),
    sizes: Sequence[int] = (25, 50, 100, 200, 400),
) -> Iterator[Curve]:
    """Corners without replacement; the domain has no others."""
    X = np.array(list(itertools.product([-1.0, 1.0], repeat=d)))
    K, spectrum = gram(NETWORK, X), hypercube_spectrum(NETWORK, d)
    for k, alpha, noise in settings(degrees):
        y = X[:, :k].prod(axis=1)
        # Corners are all alike, so that points say no more than the spectrum.
        yield _of_pool(
            (f"hypercube, d = {d}", f"{k} bit{'s' if k > 1 else ''}"),
            (K, y, _with_power(spectrum, k)),
            (alpha, noise, sizes, trials),
            ("spectrum",),
        )


def mnist(
    trials: int, *, rows: int = 1500, sizes: Sequence[int] = (50, 100, 200, 400, 800)
) -> Iterator[Curve]:
    """The first rows of MNIST are the domain, their spectrum that of the theory."""
    with np.load(data_dir() / MNIST) as file:
        X, labels = file["X_train"][:rows].reshape(rows, -1) / 255.0, file["y_train"][:rows]
    K = gram(NETWORK, X)
    targets = {"10 digits": np.eye(10)[labels], "odd or even": np.where(labels % 2, 1.0, -1.0)}
    for target, y in targets.items():
        spectrum = sample_spectrum(K, None, y)
        noises = (0.0, NOISE) if y.ndim == 1 else (0.0,)
        for alpha, noise in itertools.product((0.0, ALPHA), noises):
            yield _of_pool(
                (f"MNIST, {rows} rows", target),
                (K, y, spectrum),
                (alpha, noise, sizes, trials),
                ("spectrum", "points"),
            )


DOMAINS: dict[str, Domain] = {
    "sphere": sphere,
    "hypercube": hypercube,
    "small hypercube": lambda trials: hypercube(trials, d=8, degrees=(2,), sizes=(32, 64, 128)),
    "mnist": mnist,
}


def _of_pool(
    names: tuple[str, str],
    problem: tuple[Floats, Floats, Spectrum],
    how: tuple[float, float, Sequence[int], int],
    methods: Sequence[str],
) -> Curve:
    """A curve on a domain whose kernel matrix is at hand."""
    (K, y, spectrum), (alpha, noise, sizes, trials) = problem, how
    measured = measure_learning_curve(K, None, y, sizes, alpha, noise=noise, trials=trials)
    predicted = {"paper": _of_paper(spectrum, sizes, alpha, noise)}
    for method in methods:
        found = predict_learning_curve(K, None, y, sizes, alpha, noise=noise, method=method)
        predicted["pool" if method == "spectrum" else method] = found.test.tolist()
    return Curve(
        *names,
        alpha=alpha,
        noise=noise,
        trials=trials,
        n=list(sizes),
        measured=measured.test.tolist(),
        standard_error=measured.test_error.tolist(),
        predicted=predicted,
    )


def _of_paper(spectrum: Spectrum, sizes: Sequence[int], alpha: float, noise: float) -> list[float]:
    ridge = alpha * spectrum.trace
    return [eigenlearning(spectrum, n, ridge, noise=noise).test for n in sizes]


def _with_power(spectrum: Spectrum, level: int) -> Spectrum:
    """For a target of mean square 1 within one level."""
    power = np.zeros(len(spectrum.values))
    power[level] = 1.0
    return Spectrum(
        spectrum.values, spectrum.multiplicity, spectrum.tail, power, size=spectrum.size
    )


def run(names: Sequence[str], trials: int) -> None:
    """Predict, measure and write, domain by domain."""
    for name in names:
        if name == "mnist" and not (data_dir() / MNIST).exists():
            print(f"{name} is left out: {data_dir() / MNIST} is missing")
            continue
        found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        found[name] = [asdict(curve) for curve in DOMAINS[name](trials)]
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def curves() -> dict[str, list[Curve]]:
    """What has been measured, by domain."""
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {name: [Curve(**curve) for curve in found[name]] for name in DOMAINS if name in found}


def row(curve: Curve) -> str:
    """One line of a table: by how many % predictions are off, and the standard error in %."""
    theories = list(curve.predicted)
    off = np.array([100 * curve.relative(theory) for theory in theories])
    error = 100 * np.array(curve.standard_error) / np.array(curve.measured)
    cells = [
        " / ".join(f"{value:+.1f}" for value in column) + f"{WITHIN}{bar:.1f}"
        for column, bar in zip(off.T, error, strict=True)
    ]
    worst = " / ".join(f"{np.abs(curve.in_errors(theory)).max():.1f}" for theory in theories)
    what = [curve.target, f"{curve.alpha:g}", f"{curve.noise:g}"]
    return f"| {' | '.join([*what, *cells, worst])} |"


def show() -> None:
    """A table for each domain."""
    for found in curves().values():
        first = found[0]
        print(f"\n{first.domain}, {first.trials} training sets; {' / '.join(first.predicted)}:\n")
        sizes = " | ".join(f"n = {n}" for n in first.n)
        print(f"| target | alpha | noise | {sizes} | most standard errors |")
        print("|---" * (len(first.n) + 4) + "|")
        for curve in found:
            print(row(curve))


def main() -> None:
    """Run, show or draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "show", "draw"])
    parser.add_argument("picture", nargs="?", default="curves.png", help="PNG to draw")
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, default=list(DOMAINS))
    parser.add_argument("--trials", type=int, default=TRIALS)
    options = parser.parse_args()
    if options.what == "draw":
        from benchmarks.curves_picture import draw

        draw(curves(), options.picture)
        return
    if options.what == "run":
        run(options.domains, options.trials)
    show()


if __name__ == "__main__":
    main()
