"""Duals against values from an independent 2-D quadrature."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from kernreg import nn
from tests.contracts.nonlinearity import evaluate

GOLDEN = json.loads(
    (Path(__file__).parents[2] / "golden" / "theory_duals.json").read_text(encoding="utf-8")
)
LAYERS = {
    "relu": nn.Relu(),
    "abs": nn.Abs(),
    "erf": nn.Erf(),
    "gelu": nn.Gelu(),
    "sin": nn.Sin(),
    "cos": nn.Cos(),
    "exp": nn.Exp(),
    "mono2": nn.Monomial(2),
    "mono3": nn.Monomial(3),
    "mono5": nn.Monomial(5),
    "rmono1": nn.RectifiedMonomial(1),
    "rmono3": nn.RectifiedMonomial(3),
}


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda e: f"{e['act']}-{e['K11_K12_K22'][1]}")
def test_golden_dual(entry: dict[str, Any]) -> None:
    k11, k12, k22 = entry["K11_K12_K22"]
    s1, s2 = math.sqrt(k11), math.sqrt(k22)
    rho = k12 / (s1 * s2)
    values = [torch.tensor([v], dtype=torch.float64) for v in (rho, 1 - abs(rho), s1, s2)]
    m = evaluate(LAYERS[entry["act"]], *values)
    assert float(m.kappa) == pytest.approx(entry["kappa"], rel=1e-12)
    assert float(m.kappa_dot) == pytest.approx(entry["kappa_dot"], rel=1e-12)


def test_every_entry_has_a_layer() -> None:
    assert {entry["act"] for entry in GOLDEN} == set(LAYERS)
