"""The edge of chaos and the phase diagram."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kernreg import nn
from kernreg.exceptions import InvalidInputError
from kernreg.theory.criticality.critical_point import critical
from kernreg.theory.criticality.fixed_points import fixed_points
from kernreg.theory.criticality.phases import edge_of_chaos, phase, phase_diagram
from kernreg.theory.criticality.single_input import recursion, susceptibilities

GOLDEN = json.loads((Path(__file__).parents[1] / "golden.json").read_text())
ACTS = {"tanh": nn.Tanh(), "erf": nn.Erf()}


@pytest.mark.parametrize("entry", GOLDEN["phase"], ids=lambda e: f"{e['act']}-{e['id']}")
def test_golden_phases(entry: dict[str, Any]) -> None:
    """1e-9 for averages over one input.

    The golden c* of tanh is good to 4e-10 and its slopes at c = 1 to 1e-7 (acos there), which
    xi_c = -1 / ln(slope) makes 1e-6; Hermite series in test_fixed_points.py are the sharper test.
    """
    found = phase(ACTS[entry["act"]], entry["C_b"], entry["C_W"])
    assert found.phase == ("ordered" if entry["chi_perp"] < 1 else "chaotic")
    assert found.K_star == pytest.approx(entry["K_star"], rel=1e-9)
    assert found.chi_par == pytest.approx(entry["chi_parallel"], rel=1e-9)
    assert found.chi_perp == pytest.approx(entry["chi_perp"], rel=1e-9)
    assert found.xi_par == pytest.approx(entry["xi_parallel"], rel=1e-9)
    assert found.c_star == pytest.approx(entry["c_star"], abs=1e-9)
    assert found.slope == pytest.approx(entry["slope_at_c_star"], rel=1e-7)
    assert found.xi_c == pytest.approx(entry["xi_c"], rel=1e-6)
    if found.phase == "ordered":
        assert found.c_star == 1.0
        assert found.xi_c == pytest.approx(-1 / math.log(entry["chi_perp"]), rel=1e-9)


@pytest.mark.parametrize("entry", GOLDEN["edge_of_chaos"], ids=lambda e: f"C_b={e['C_b']}")
def test_golden_edges(entry: dict[str, Any]) -> None:
    found = edge_of_chaos(ACTS[entry["act"]], entry["C_b"])
    assert pytest.approx(entry["C_W"], rel=1e-9) == found.C_W
    assert pytest.approx(entry["K_star"], rel=1e-9) == found.K
    assert found.chi_par < 1


def test_published_edge() -> None:
    assert pytest.approx(1.42420529, abs=5e-9) == edge_of_chaos(nn.Tanh(), 0.01).C_W


@pytest.mark.parametrize(
    ("sigma", "C_b"),
    [(nn.Tanh(), 0.1), (nn.Elu(), 0.1), (nn.Selu(), 1.0), (nn.Cos(), 0.0), (nn.Gelu(), 1.0)],
    ids=repr,
)
def test_edges_are_edges(sigma: nn.Nonlinearity, C_b: float) -> None:
    edge = edge_of_chaos(sigma, C_b)
    s = susceptibilities(sigma, edge.C_b, edge.C_W, edge.K)
    assert s.g == pytest.approx(edge.K, rel=1e-12)
    assert s.chi_perp == pytest.approx(1.0, rel=1e-13)
    assert s.chi_par == pytest.approx(edge.chi_par, rel=1e-11)
    found = phase(sigma, C_b, edge.C_W, input_norm=max(0.01, (edge.K - C_b) / edge.C_W))
    assert found.phase == "edge"
    assert found.K_star == pytest.approx(edge.K, rel=1e-11)
    assert (found.c_star, found.xi_c) == (1.0, math.inf)
    assert found.xi_par == pytest.approx(edge.xi_par)


def test_edges_without_bias_are_critical() -> None:
    relu, tanh = edge_of_chaos(nn.Relu(), 0.0), edge_of_chaos(nn.Tanh(), 0.0)
    assert (relu.C_W, relu.K, relu.chi_par) == (pytest.approx(2.0, rel=1e-13), 1.0, 1.0)
    assert (tanh.C_W, tanh.K, tanh.xi_par) == (1.0, 0.0, math.inf)


@pytest.mark.parametrize(
    ("sigma", "C_b", "words"),
    [
        (nn.Relu(), 0.1, "at C_b = 0 only"),
        (nn.Relu(), 1e-12, "at C_b = 0 only"),
        (nn.Softplus(), 0.1, "C_b lies between"),
        (nn.Gelu(), 0.1, "unstable, chi_par = 1.03"),
        (nn.Exp(), 0.1, "unstable, chi_par = 2"),
    ],
    ids=repr,
)
def test_no_edge(sigma: nn.Nonlinearity, C_b: float, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        edge_of_chaos(sigma, C_b)


def test_critical_points_are_critical() -> None:
    for sigma in (nn.Relu(), nn.Tanh(), nn.Gelu(), nn.Swish()):
        point = critical(sigma)
        assert point.C_b is not None
        assert point.C_W is not None
        K = point.K or 1.0
        found = phase(sigma, point.C_b, point.C_W, input_norm=(K - point.C_b) / point.C_W)
        assert found.phase == "critical"
        assert (found.xi_par, found.xi_c) == (math.inf, math.inf)
        assert found.K_star == pytest.approx(point.K if point.K is not None else 1.0)


def test_half_stable_points_attract_from_one_side() -> None:
    """GELU: from above to K*, from below to the stable point at 0.852 K*."""
    point = critical(nn.Gelu())
    assert point.C_b is not None
    assert point.C_W is not None
    assert point.K is not None
    above = phase(nn.Gelu(), point.C_b, point.C_W, input_norm=3.0)
    assert above.K_star == point.K
    below = phase(nn.Gelu(), point.C_b, point.C_W, input_norm=1.0)
    assert below.K_star == pytest.approx(0.852 * point.K, rel=1e-3)
    assert below.phase == "ordered"


def test_between_two_close_fixed_points() -> None:
    """A start between two roots that the grid of variances does not separate.

    GELU with a little less bias than critical: g - K ends 2e-9 K below the touch.
    """
    point = critical(nn.Gelu())
    assert point.C_b is not None
    assert point.C_W is not None
    assert point.K is not None
    # Raised instead, the touch becomes two crossings at K* (1 -+ 3e-3), with g > K between them.
    C_b = point.C_b + 1.6e-8
    inside = phase(nn.Gelu(), C_b, point.C_W, input_norm=(point.K - C_b) / point.C_W)
    assert inside.K_star > point.K
    assert inside.K_star == pytest.approx(point.K, rel=5e-3)
    assert inside.chi_par < 1


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((nn.Relu(), 0.1, 2.0), "unbounded"),
        ((nn.Relu(), 0.0, 2.5), "unbounded"),
        ((nn.Exp(), 0.0, 1.0), "unbounded"),
        ((nn.Relu(), 0.1, 1.5), "ordered"),
        ((nn.Relu(), 0.0, 1.5), "ordered"),
        ((nn.Exp(), 0.0, 0.01), "ordered"),
        ((nn.Sin(b=3.0), 0.0, 1.0), "chaotic"),
    ],
    ids=str,
)
def test_names(arguments: tuple, name: str) -> None:
    found = phase(*arguments)
    assert found.phase == name
    assert str(found).startswith(f"{name} at C_b = ")
    if name == "unbounded":
        assert math.isinf(found.K_star)
        assert math.isnan(found.c_star)
        assert math.isnan(found.xi_c)
    else:
        assert math.isfinite(found.K_star)
        assert 0 <= found.c_star <= 1


def test_a_start_at_an_unstable_fixed_point() -> None:
    unstable = fixed_points(nn.Gelu(), 0.0, 3.0)[1].K
    at = phase(nn.Gelu(), 0.0, 3.0, input_norm=unstable / 3)
    assert (at.phase, at.K_star) == ("unstable", pytest.approx(unstable, rel=1e-12))
    below, above = (phase(nn.Gelu(), 0.0, 3.0, input_norm=unstable / 3 * f) for f in (0.99, 1.01))
    assert (below.phase, below.K_star) == ("ordered", 0.0)
    assert above.phase == "unbounded"


def test_steps_past_a_fixed_point() -> None:
    """Where g falls the limit is not the next fixed point; it is that of the recursion."""

    def bump(x: torch.Tensor) -> torch.Tensor:
        return 6 * torch.exp(-5 * x * x) + 0.13 * x * x

    stable, unstable = fixed_points(bump, 0.0, 1.0)
    assert stable.stability == "stable"
    for norm in (0.5, 1.0, unstable.K * 0.99):
        end = recursion(bump, 0.0, 1.0, norm, depth=60).K[-1]
        assert phase(bump, 0.0, 1.0, input_norm=norm).K_star == pytest.approx(end, rel=1e-9)
        assert end == pytest.approx(stable.K, rel=1e-6)
    # g(1e-3) = 36 lies beyond the unstable one, and so does the rest.
    assert 1e-3 < stable.K < unstable.K < 30
    assert phase(bump, 0.0, 1.0, input_norm=1e-3).phase == "unbounded"


def test_vanishing_signals_count_as_alike() -> None:
    found = phase(nn.Tanh(), 0.0, 0.8)
    assert (found.phase, found.K_star, found.c_star) == ("ordered", 0.0, 1.0)
    assert found.xi_par == found.xi_c == pytest.approx(-1 / math.log(0.8), rel=1e-12)


def test_diagram() -> None:
    """Every point is what `phase` says of it."""
    C_b, C_W = [0.0, 0.05, 0.4], [0.5, 1.5, 3.0, 6.0]
    found = phase_diagram(nn.Erf(), C_b, C_W, input_norm=2.0)
    assert found.phase.shape == found.K_star.shape == (3, 4)
    for i, b in enumerate(C_b):
        for j, w in enumerate(C_W):
            one = phase(nn.Erf(), b, w, input_norm=2.0)
            assert found.phase[i, j] == one.phase
            for name in ("K_star", "chi_par", "chi_perp", "c_star", "slope", "xi_par", "xi_c"):
                assert getattr(found, name)[i, j] == pytest.approx(getattr(one, name), rel=1e-9)
    lines = str(found).splitlines()
    assert lines[1:4] == ["C_b = 0          .###", "C_b = 0.05       .###", "C_b = 0.4        ..##"]


def test_the_boundary_of_the_diagram_is_the_edge() -> None:
    edge = edge_of_chaos(nn.Tanh(), 0.1).C_W
    found = phase_diagram(nn.Tanh(), [0.1], edge * np.array([0.999, 1.0, 1.001]))
    assert found.phase.tolist() == [["ordered", "edge", "chaotic"]]
    # xi_c diverges on both sides.
    assert (found.xi_c[0, [0, 2]] > 500).all()


def test_unbounded_points_in_a_diagram() -> None:
    found = phase_diagram(nn.Relu(), [0.0, 0.1], [1.5, 2.0, 2.5])
    assert found.phase.tolist() == [
        ["ordered", "critical", "unbounded"],
        ["ordered", "unbounded", "unbounded"],
    ]
    assert str(found).splitlines()[1].endswith(".*!")


@pytest.mark.parametrize(
    ("C_b", "C_W", "words"),
    [
        (0.1, [1.0], "C_b must be a vector"),
        ([0.1], [], "C_W must be a vector"),
        ([0.1, -1.0], [1.0], "C_b must be a finite number >= 0"),
        ([0.1], [1.0, math.nan], "C_W must be a finite number > 0"),
    ],
)
def test_bad_grids(C_b: Any, C_W: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        phase_diagram(nn.Tanh(), C_b, C_W)


def test_bad_arguments() -> None:
    with pytest.raises(InvalidInputError, match="input_norm must be a finite number > 0"):
        phase(nn.Tanh(), 0.1, 1.0, input_norm=0.0)
    with pytest.raises(InvalidInputError, match="C_b must be"):
        edge_of_chaos(nn.Tanh(), -0.1)
    # Bounded, so there is a fixed point, but beyond what can be averaged.
    with pytest.raises(InvalidInputError, match="averaged"):
        phase(nn.Sin(b=30.0), 0.5, 1.0)
