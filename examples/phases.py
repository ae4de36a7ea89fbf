"""Phase diagrams of four nonlinearities
=====================================

At which variances of weights and biases does a network of any depth still tell inputs apart? Left
of the line they become alike, right of it small differences grow; tanh and erf have one point where
the network is critical, ReLU a line without biases, cosines none.

.. code-block:: text

    python examples/phases.py [--quick] [--out picture.png]

Takes about 10 s on one core, some seconds with --quick.
"""

from __future__ import annotations

import argparse

import numpy as np

from kernreg import nn
from kernreg.theory.criticality import PhaseDiagram, critical, phase_diagram

FUNCTIONS = {"tanh": nn.Tanh(), "erf": nn.Erf(), "ReLU": nn.Relu(), "cosine": nn.Cos()}


def main(arguments: list[str] | None = None) -> dict[str, PhaseDiagram]:
    """Run; returns the diagram of each nonlinearity."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a coarse grid")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    points = 12 if options.quick else 28
    C_b, C_W = np.linspace(0.0, 0.5, points), np.linspace(0.25, 3.5, points)

    found = {}
    print(f"shares of {points} x {points} variances up to C_b = 0.5 and C_W = 3.5\n")
    for name, function in FUNCTIONS.items():
        found[name] = phase_diagram(function, C_b, C_W)
        kinds, counts = np.unique(found[name].phase, return_counts=True)
        shares = ", ".join(
            f"{kind} {count / points**2:.0%}" for kind, count in zip(kinds, counts, strict=True)
        )
        print(f"{name:8}{shares}")
    if options.out:
        import matplotlib

        matplotlib.use("Agg")
        from kernreg.plotting import PhaseDiagramDisplay
        from kernreg.plotting.style import panels

        figure, axes = panels(2, 2, size=(10.4, 8))
        for ax, (name, diagram) in zip(axes.flat, found.items(), strict=True):
            PhaseDiagramDisplay(diagram, critical(FUNCTIONS[name])).plot(ax)
            ax.set_title(name, loc="right", pad=24)
        figure.savefig(options.out, dpi=120)
        print(f"\npicture: {options.out}")
    return found


if __name__ == "__main__":
    main()
