"""Displays draw what was computed, into given axes or new ones."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.contour import ContourSet

from kernreg import gram, nn
from kernreg.exceptions import InvalidInputError
from kernreg.plotting import (
    FiniteWidthDisplay,
    GramDisplay,
    LearningCurveDisplay,
    PhaseDiagramDisplay,
    SpectrumDisplay,
)
from kernreg.theory.criticality.phases import phase_diagram
from kernreg.theory.eigenlearning.spectrum import Spectrum
from kernreg.theory.finite_width.one_input import coefficients

NET = nn.mlp(depth=1)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def data(n=40):
    X = np.random.default_rng(0).standard_normal((n, 3))
    return X, np.sin(X[:, 0])


def make(kind, ax):
    X, y = data()
    match kind:
        case "phase":
            return PhaseDiagramDisplay.from_nonlinearity(
                nn.Tanh(), [0.0, 0.1, 0.2], [0.5, 1.0, 2.0], ax=ax
            )
        case "curve":
            return LearningCurveDisplay.from_data(NET, X, y, [10, 20], trials=2, ax=ax)
        case "width":
            return FiniteWidthDisplay.from_nonlinearity(
                nn.Relu(), 0.0, 2.0, 3, width=16, draws=100, ax=ax
            )
        case "gram":
            return GramDisplay.from_data(NET, X, y, ax=ax)
    return SpectrumDisplay.from_data(NET, X, y, ax=ax)


KINDS = ("phase", "curve", "width", "gram", "spectrum")


@pytest.mark.parametrize("kind", KINDS)
def test_draws_into_given_axes_and_into_new_ones(kind, tmp_path):
    figure, ax = plt.subplots()
    shown = make(kind, ax)
    assert shown.ax_ is ax
    assert shown.figure_ is figure
    before = len(plt.get_fignums())
    again = shown.plot()
    assert again is shown
    assert again.ax_ is not ax
    assert len(plt.get_fignums()) == before + 1
    again.figure_.savefig(tmp_path / "picture.png")
    width, height = again.figure_.get_size_inches() * again.figure_.dpi
    assert matplotlib.image.imread(tmp_path / "picture.png").shape[:2] == (height, width)
    drawn = [*again.ax_.get_lines(), *again.ax_.collections, *again.ax_.get_images()]
    assert drawn


def test_edge_of_chaos_and_critical_point_are_marked():
    shown = make("phase", None)
    # On the line chi_perp = 1, C_W is 1 at C_b = 0 and grows with C_b.
    (edge,) = [c for c in shown.ax_.collections if isinstance(c, ContourSet)]
    at = edge.get_paths()[0].vertices
    assert at[at[:, 1] == 0.0][0, 0] == pytest.approx(1.0, abs=1e-6)
    assert at[:, 0].max() > 1.5
    (star,) = shown.ax_.get_lines()
    assert star.get_xydata().tolist() == [[1.0, 0.0]]
    marks = [text.get_text() for text in shown.ax_.get_legend().get_texts()]
    assert marks == ["edge of chaos", "critical: K*=0"]


def test_regions_are_named_where_they_are():
    C_W, C_b = np.linspace(0.2, 4.0, 9), np.linspace(0.0, 0.4, 5)
    shown = PhaseDiagramDisplay(phase_diagram(nn.Tanh(), C_b, C_W)).plot()
    found = shown.diagram.phase
    names = {text.get_text(): text.get_position() for text in shown.ax_.texts}
    assert names.keys() == {"ordered", "chaotic"}
    for name, (x, y) in names.items():
        assert found[np.argmin(abs(C_b - y)), np.argmin(abs(C_W - x))] == name
    shown = PhaseDiagramDisplay.from_nonlinearity(nn.Relu(), [0.1, 0.2], [1.0, 3.0])
    assert {text.get_text() for text in shown.ax_.texts} == {"ordered", "variance grows for ever"}
    assert "no fixed point" in {t.get_text() for t in shown.ax_.get_legend().get_texts()}


@pytest.mark.parametrize("kind", ["phase", "curve", "width", "spectrum"])
def test_legends_hide_no_data(kind):
    shown = make(kind, None)
    shown.figure_.draw_without_rendering()
    legend = shown.ax_.get_legend()
    assert legend.get_window_extent().y0 >= shown.ax_.get_window_extent().y1 - 1
    explained = {text.get_text() for text in legend.get_texts()}
    if kind == "width":
        assert len([text for text in explained if "width 16" in text]) == 2


def test_unbounded_phases_and_class_none():
    """Softplus has no critical point; ReLU beyond C_W = 2 has no fixed point."""
    shown = PhaseDiagramDisplay.from_nonlinearity(nn.Softplus(), [0.0, 0.1], [0.5, 1.0])
    assert not shown.ax_.get_lines()
    assert "unbounded" in phase_diagram(nn.Relu(), [0.1, 0.2], [1.0, 3.0]).phase
    shown = PhaseDiagramDisplay.from_nonlinearity(nn.Relu(), [0.1, 0.2], [1.0, 3.0])
    # Hatched where there is no fixed point, and no edge of chaos between the two.
    (hatched,) = [c for c in shown.ax_.collections if isinstance(c, ContourSet)]
    assert hatched.hatches == ["//"]


def test_seed_of_the_measurement():
    X, y = data()
    one, two, again = (
        LearningCurveDisplay.from_data(NET, X, y, [10], trials=2, seed=seed).measured.test[0]
        for seed in (0, 1, 0)
    )
    assert one == again != two


def test_a_curve_without_measurement_has_two_lines():
    X, y = data()
    shown = LearningCurveDisplay.from_data(NET, X, y, [10, 20], trials=0, method="spectrum")
    assert shown.measured is None
    assert len(shown.ax_.get_lines()) == 2
    np.testing.assert_array_equal(shown.ax_.get_lines()[0].get_ydata(), shown.predicted.test)


def test_coefficients_over_the_kernel():
    """V / K^2 = 5 (l - 1) for ReLU."""
    shown = FiniteWidthDisplay(coefficients(nn.Relu(), 0.0, 2.0, 0.0, 2.0, 4, K1=3.0)).plot()
    vertex = shown.ax_.get_lines()[0].get_ydata()
    np.testing.assert_allclose(vertex, [0, 5, 10, 15, 20], rtol=1e-12)


def test_rows_are_ordered_by_target():
    X, y = data()
    shown = GramDisplay(gram(NET, X), y).plot()
    assert (np.diff(y[shown.order_]) >= 0).all()
    image = shown.ax_.get_images()[0].get_array()
    np.testing.assert_allclose(np.diag(image), 1.0, rtol=1e-12)


def test_many_rows_are_thinned():
    assert (
        len(GramDisplay.from_data(NET, np.random.default_rng(0).normal(size=(1500, 2))).K) == 1000
    )


def test_power_of_the_target_beyond_each_rank():
    shown = SpectrumDisplay(Spectrum([0.1, 1.0], multiplicity=[9, 1], power=[1.0, 3.0])).plot()
    share = next(ax for ax in shown.figure_.axes if ax is not shown.ax_)
    np.testing.assert_allclose(share.get_lines()[0].get_ydata(), [0.25, 0.0], atol=1e-15)
    np.testing.assert_allclose(share.get_lines()[0].get_xdata(), [1, 10])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: GramDisplay(np.ones((2, 3))), "kernel matrix of shape"),
        (lambda: GramDisplay(-np.eye(2)), "positive diagonal"),
        (lambda: GramDisplay(np.array([[1.0, np.nan], [np.nan, 1.0]])), "finite numbers"),
        (lambda: GramDisplay(np.eye(2), [1.0]), "2 targets"),
        (
            lambda: FiniteWidthDisplay(
                coefficients(nn.Relu(), 0.0, 2.0, 0.0, 2.0, 1, K1=[1.0, 2.0])
            ),
            "one input",
        ),
    ],
)
def test_what_cannot_be_drawn(wrong, message):
    with pytest.raises(InvalidInputError, match=message):
        wrong()
