"""What a kernel sees in data
==========================

The Gram matrix of handwritten digits, in the order of their labels: blocks along the diagonal are
digits that the network finds alike. Beside it the eigenvalues of the matrix, and how much of the
labels lies beyond the leading eigenvectors: what these hold is learned from few digits.

.. code-block:: text

    python examples/matrices.py [--quick] [--out picture.png]

Takes some seconds.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.datasets import load_digits

from kernreg import nn
from kernreg.theory.eigenlearning import Spectrum, sample_spectrum


def main(arguments: list[str] | None = None) -> Spectrum:
    """Run; returns the spectrum."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="200 digits")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    rows = 200 if options.quick else 600
    X, y = load_digits(return_X_y=True)
    X, labels = X[:rows] / 16, y[:rows].astype(str)
    net = nn.mlp(depth=3)
    spectrum = sample_spectrum(net, X, labels)

    shares = np.cumsum(spectrum.power) / (spectrum.power.sum() + spectrum.tail_power)
    print(f"{rows} digits, NTK of {net}\n")
    print("eigenvectors   smallest eigenvalue of them   share of the labels")
    for rank in (1, 3, 10, 30, 100):
        print(f"{rank:12}   {spectrum.values[rank - 1]:27.2e}   {shares[rank - 1]:19.2f}")
    if options.out:
        import matplotlib

        matplotlib.use("Agg")
        from kernreg.plotting import GramDisplay, SpectrumDisplay
        from kernreg.plotting.style import panels

        figure, axes = panels(1, 2, size=(10.4, 4.2))
        GramDisplay.from_data(net, X, y[:rows], ax=axes[0])
        SpectrumDisplay(spectrum).plot(axes[1])
        figure.savefig(options.out, dpi=120)
        print(f"\npicture: {options.out}")
    return spectrum


if __name__ == "__main__":
    main()
