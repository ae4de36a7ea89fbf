"""Depth over width
================

Their ratio says how much real networks differ from the infinitely wide one.

The tangent kernel of a ReLU network of depth L and width n is random; the variance of its diagonal
over the squared mean is about 11/3 L/n. Real networks of several depths and widths are drawn, and
all fall on one line as long as L/n is small. Where it is not, the expansion in 1/n ends.

.. code-block:: text

    python examples/depth_to_width.py [--quick] [--out picture.png]

Takes about a minute on two cores, some seconds with --quick.
"""

from __future__ import annotations

import argparse

import torch

from kernreg import nn
from kernreg.theory.finite_width.monte_carlo import sample
from kernreg.theory.finite_width.one_input import coefficients
from kernreg.theory.finite_width.universality import optimal_aspect_ratio


def main(arguments: list[str] | None = None) -> list[tuple[int, int, float, float, float]]:
    """Run; returns depth, width, predicted and measured variance and its standard error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few networks")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    depths, widths = (1, 2, 4, 8, 16), (32, 64, 128)
    draws = 2000
    if options.quick:
        depths, widths, draws = (1, 2, 4), (32, 64, 128), 1000

    rows = []
    print("depth  width   L/n     n Var H / Theta^2, over n:  predicted   real networks")
    for depth in depths:
        predicted = coefficients(nn.Relu(), 0.0, 2.0, 0.0, 2.0, depth, K1=1.0)
        for width in widths:
            drawn = sample(
                nn.Relu(), 0.0, 2.0, 0.0, 2.0, depth, width, draws, K1=1.0, outputs=8, seed=depth
            )
            scale = float(predicted.Theta[-1]) ** 2 * width
            spread = float(drawn.spread.value) / scale
            error = float(drawn.spread.standard_error) / scale
            expected = float(predicted.ntk_variance[-1]) / width
            rows.append((depth, width, expected, spread, error))
            print(
                f"{depth:5} {width:6} {depth / width:6.3f} {expected:37.4f}   "
                f"{spread:.4f} +- {error:.4f}"
            )
    ratio = optimal_aspect_ratio(5.0, 1)
    print(f"\na heuristic for the best L/n of ReLU networks with one output: {ratio:.3f}")
    if options.out:
        import matplotlib

        matplotlib.use("Agg")
        from kernreg.plotting.style import COLOURS, legend_above, panels

        figure, axes = panels(size=(6.4, 4.2))
        for width, colour in zip(widths, COLOURS, strict=False):
            mine = [row for row in rows if row[1] == width]
            ratios = [depth / width for depth, *_ in mine]
            axes.errorbar(
                ratios,
                [row[3] for row in mine],
                yerr=[row[4] for row in mine],
                fmt="o",
                markersize=5,
                capsize=3,
                color=colour,
                label=f"networks of width {width}",
            )
        line = sorted((depth / width, expected) for depth, width, expected, *_ in rows)
        axes.plot(*zip(*line, strict=True), color="black", lw=1, label="order 1/width")
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="depth / width",
            ylabel="variance of the tangent kernel / squared mean",
        )
        legend_above(axes)
        figure.savefig(options.out, dpi=120)
        print(f"\npicture: {options.out}")
    return rows


if __name__ == "__main__":
    torch.set_num_threads(max(1, min(2, torch.get_num_threads())))
    main()
