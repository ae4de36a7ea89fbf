"""Functions of theory take a network as text, as the rest of kernreg does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kernreg import nn
from kernreg.theory.alignment import compare
from kernreg.theory.criticality import report, tune
from kernreg.theory.eigenlearning import hypercube_spectrum, sphere_spectrum
from kernreg.theory.finite_width import corrected_gram
from kernreg.theory.inverse import equivalent_shallow, kernel_coefficients

TEXT = "mlp(depth=2, activation=Erf(), W_std=1.2, b_std=0.1)"
NET = nn.mlp(2, nn.Erf(), 1.2, 0.1)
X = np.random.default_rng(0).standard_normal((12, 3))


@pytest.mark.parametrize(
    "call",
    [
        lambda net: report(net),
        lambda net: tune(net),
        lambda net: kernel_coefficients(net, degree=4),
        lambda net: equivalent_shallow(net, degree=6).inside,
        lambda net: sphere_spectrum(net, 3, 4).values.tolist(),
        lambda net: hypercube_spectrum(net, 4).values.tolist(),
        lambda net: corrected_gram(net, X[:2], width=50).tolist(),
        lambda net: compare(net, X, X[:, 0], 0.1).test.tolist(),
    ],
)
def test_text_is_the_network(call: Callable[[Any], Any]) -> None:
    assert repr(call(TEXT)) == repr(call(NET))
