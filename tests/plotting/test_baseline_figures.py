"""Figures of a report: axes that do not exaggerate, and every mark in the legend."""

from __future__ import annotations

import numpy as np
import pytest

from kernreg.plotting import (
    plot_depths,
    plot_predictions,
    plot_ridge_path,
    plot_spectrum,
)

ALPHAS = np.array([1e-3, 1e-2, 1e-1])
CURVES = {f"network {i}": np.array([0.1, 0.11, 0.12]) + 0.01 * i for i in range(6)}
FIGURES = {
    "depths": lambda: plot_depths(
        {("Relu", "ntk"): {1: 0.98, 3: 0.985}, ("Erf", "nngp"): {1: 0.98, 3: 0.985}}, "R2", 0.981
    ),
    "ridges": lambda: plot_ridge_path(ALPHAS, CURVES, "error", 1e-2),
    "spectrum": lambda: plot_spectrum(np.array([2.0, 0.9, 0.1]), 0.5),
    "predictions": lambda: plot_predictions(np.arange(3.0), np.arange(3.0) + 0.1, "price"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_line_is_explained_beside_the_data(name):
    figure = FIGURES[name]()
    (axes,) = figure.axes
    legend = axes.get_legend() or figure.legends[0]
    labels = [line.get_label() for line in axes.get_lines()]
    assert labels
    assert not [label for label in labels if label.startswith("_")]
    assert sorted(text.get_text() for text in legend.get_texts()) == sorted(labels)
    assert not axes.texts
    figure.draw_without_rendering()
    box, data = legend.get_window_extent(), axes.get_window_extent()
    assert box.x0 >= data.x1 or box.y1 <= data.y0


def test_scores_are_seen_beside_the_error_that_is_left():
    """From the worst to 1: half a point of 2 points of error is a quarter of the axis."""
    low, high = FIGURES["depths"]().axes[0].get_ylim()
    assert low < 0.98 < 0.985 < 1.0 <= high
    assert 0.2 < 0.005 / (high - low) < 0.25
    low, high = plot_depths({("Relu", "ntk"): {1: 1.0, 2: 1.0}}, "R2").axes[0].get_ylim()
    assert high - low >= 0.01


def test_errors_start_at_none():
    assert FIGURES["ridges"]().axes[0].get_ylim()[0] == 0.0
    wide = {"a": np.array([1e-4, 1e-2, 1.0])}
    assert plot_ridge_path(ALPHAS, wide, "error").axes[0].get_yscale() == "log"
