"""Random networks against the expansion in 1/width, and the measurement itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kernreg import nn
from kernreg.exceptions import InvalidInputError
from kernreg.theory.finite_width.comparison import compare
from kernreg.theory.finite_width.monte_carlo import _Draw, _estimates, sample
from kernreg.theory.finite_width.one_input import coefficients
from kernreg.theory.finite_width.plain import uniform
from kernreg.theory.finite_width.two_inputs import two_inputs

RELU = (nn.Relu(), 0.0, 2.0, 0.0, 2.0)
TANH = (nn.Tanh(), 0.1, 1.5, 0.1, 1.5)


def test_one_network_exactly() -> None:
    """NTK of one draw, against gradients by every parameter."""
    net = uniform(nn.Tanh(), 0.3, 1.5, 0.7, 1.1, 3)
    X = np.array([[0.5, -1.0], [1.2, 0.4]])
    K1 = 0.3 + 1.5 / 2 * X @ X.T
    draw = _Draw(net, K1, (4, 6, 5), 3, "float64", torch.Generator().manual_seed(1))
    run = draw.forward(1)

    def outputs(first: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        z = first
        for W, b in zip(parameters[:3], parameters[3:], strict=True):
            z = torch.tanh(z) @ W.mT + b
        return z[0]

    parameters = (run.first, *run.weights, *run.biases)
    torch.testing.assert_close(outputs(*parameters), run.outputs[0])
    first, *rest = torch.autograd.functional.jacobian(outputs, parameters)
    # The parameters of the first layer act through its preactivations of each input alone.
    Theta1 = torch.from_numpy(net.first_kernels(K1))
    expected = torch.einsum("aiek,ef,cjfk->aicj", first[:, :, 0], Theta1, first[:, :, 0])
    for part, rate in zip(rest, (1.1 / 4, 1.1 / 6, 1.1 / 5, 0.7, 0.7, 0.7), strict=True):
        flat = part.reshape(2, 3, -1)
        expected = expected + rate * torch.einsum("aip,cjp->aicj", flat, flat)
    torch.testing.assert_close(draw.tangent(run)[0], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("args", [RELU, TANH], ids=["relu", "tanh"])
def test_real_networks(args: tuple[Any, ...]) -> None:
    """Two widths remove the next order in 1/n; then all is within 3 standard errors."""
    depth, K1, widths = 3, 1.3, (32, 64)
    # The next order is 8 to 20 % at 64, so the one after it is left with 1 %; for A of tanh the
    # orders are 18 and 4 %.
    left_over = {"K": 0.0, "Theta": 0.0, **dict.fromkeys("VABDF", 0.01)}
    if args is TANH:
        left_over["A"] = 0.05
    one = coefficients(*args, depth, K1=K1)
    runs = [
        sample(*args, depth, n, 45000, K1=K1, seed=n, outputs=24, dtype="float32").estimates()
        for n in widths
    ]
    for name, expected in {
        "K": one.K[-1],
        "Theta": one.Theta[-1],
        **{n: getattr(one, n)[-1] for n in "VABDF"},
    }.items():
        narrow, wide = (run[name] for run in runs)
        value = 2 * wide.value - narrow.value
        error = np.hypot(2 * wide.standard_error, narrow.standard_error)
        assert abs(value - expected) < 3 * error + left_over[name] * abs(expected), name
        # Sharp enough to see what the recursion is about.
        assert error < 0.04 * abs(expected), name


def test_mean_tangent_kernel_of_tanh() -> None:
    """G1 and H1 are seen: without them the means are many standard errors away."""
    found = sample(nn.Tanh(), 0.0, 1.0, 0.0, 1.0, 5, 16, 20000, K1=1.0, seed=3, dtype="float32")
    one = coefficients(nn.Tanh(), 0.0, 1.0, 0.0, 1.0, 5, K1=1.0)
    table = compare(found)
    assert table.prediction[0] == one.K[-1] + one.G1[-1] / 16
    for k, (plain, estimate) in enumerate([(one.K[-1], found.K), (one.Theta[-1], found.Theta)]):
        assert abs(estimate.value - plain) > 6 * estimate.standard_error
        assert abs(table.z[k]) < 4


def test_relu_means_are_exact_at_any_width() -> None:
    """Also at width 4, where every other coefficient is far off."""
    table = compare(sample(*RELU, 3, 4, 20000, K1=2.0, seed=5))
    assert table.names[:2] == ("K + G1/n", "Theta + H1/n")
    assert (abs(table.z[:2]) < 3).all()
    assert table.z[2] > 3


@pytest.mark.parametrize("widths", [(24, 48, 96), (96, 48, 24)])
def test_unequal_widths(widths: tuple[int, ...]) -> None:
    """The ratio of widths enters: V and B differ by a factor of 4 and 2 between the two."""
    table = compare(sample(*RELU, 3, widths, 8000, K1=2.0, seed=2, dtype="float32"))
    for name, relative in zip(table.names, table.estimate / table.prediction - 1, strict=True):
        # The next order is +5/n_l per layer for V, and of that size for the others.
        assert -0.1 < relative < 0.3, name


def test_two_inputs() -> None:
    """Corrections off the diagonal, of mean kernel and mean NTK, which are 28 and 10 errors."""
    K1 = np.array([[2.0, -0.5], [-0.5, 1.2]])
    args = (nn.Relu(), 0.1, 2.0, 0.1, 1.0, 3)
    two = two_inputs(*args, K1=K1)
    runs = [sample(*args, n, 80000, K1=K1, seed=n, outputs=8, dtype="float32") for n in (24, 48)]
    for name, plain, slope in [("K", two.K[-1], two.G1[-1]), ("Theta", two.Theta[-1], two.H1[-1])]:
        found = getattr(runs[0], name)
        difference, error = 24 * (found.value - plain), 24 * found.standard_error
        # 3 errors, and a tenth of the correction for the next order.
        assert (abs(difference - slope) < 3 * error + 0.1 * abs(slope)).all()
        assert abs(difference[0, 1]) > 5 * error[0, 1]
    # The next order is 20 % at 48 and removed; the one after it is left with 3 %.
    own, both = np.s_[:, :, 0, 1], np.s_[0, 1]
    for name, predicted, entries in [
        ("V", two.V[-1], np.s_[:]),
        ("D", two.D[-1], own),
        ("F", two.F[-1], own),
    ]:
        narrow, wide = (getattr(run, name) for run in runs)
        value = (2 * wide.value - narrow.value)[entries]
        error = np.hypot(2 * wide.standard_error, narrow.standard_error)[entries]
        assert (abs(value - predicted) < 3 * error + 0.03 * abs(predicted)).all(), name
        assert (error < 0.08 * abs(predicted)).all(), name
    table = compare(runs[0])
    assert len(table.names) == 19
    assert table.names[6:8] == ("V (11)(11)", "V (11)(12)")
    assert table.prediction[7] == two.V[-1][0, 0][both]
    assert dict(zip(table.names, table.prediction, strict=True))["F 21"] == two.F[-1][1, 0]


def test_batches_are_not_biased() -> None:
    """A is a variance from two networks per batch: their own mean takes away half of it."""
    draws, p = 100, 20
    h = np.random.default_rng(0).normal(size=(draws, p, p))
    product = np.einsum("nab,ncd->nabcd", h, h)
    found = _estimates([h, h, product, product, product], 5, scalar=False)
    variance = np.einsum("abab->ab", found["A"].value).mean()
    # 400 entries of 100 draws: an error of 1 %.
    assert variance == pytest.approx(5.0, rel=0.04)
    assert np.einsum("abab->ab", found["V"].value).mean() == pytest.approx(5.0, rel=0.04)


def test_seeds_chunks_and_inputs() -> None:
    """The same seed gives the same numbers; inputs give what their covariance gives."""
    args = (*TANH, 2, 8, 200)
    x = np.array([[1.0, 2.0], [0.5, -1.0]])
    one = sample(*args, x=x, seed=4)
    again = sample(*args, K1=0.1 + 0.75 * x @ x.T, seed=4)
    np.testing.assert_array_equal(one.V.value, again.V.value)
    assert one.V.value.shape == (2, 2, 2, 2)
    assert one.draws == 200
    assert one.widths == (8, 8)
    other = sample(*args, x=x, seed=5)
    assert (one.K.value != other.K.value).all()
    small = sample(*args, x=x[0], chunk=7)
    assert isinstance(small.B.value, float)
    assert abs(small.K.value - one.K.value[0, 0]) < 6 * small.K.standard_error
    three = sample(*args, K1=np.eye(3) + 0.1, outputs=2)
    assert three.F.value.shape == (3, 3, 3, 3)
    with pytest.raises(InvalidInputError, match="one input or two"):
        compare(three)


def test_table() -> None:
    lines = str(compare(sample(*RELU, 1, 8, 200, K1=2.0))).splitlines()
    assert lines[0].split() == ["prediction", "estimate", "std", "error", "z"]
    assert [line.split()[0] for line in lines[1:-1]] == ["K", "Theta", "V", "A", "B", "D", "F"]
    assert lines[-1].startswith("z counts what the expansion leaves out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draws": 10}, "draws"),
        ({"outputs": 1}, "outputs"),
        ({"chunk": 0}, "chunk"),
        ({"dtype": "float16"}, "dtype"),
        ({"width": 0}, "width"),
        ({"depth": 0}, "depth"),
        ({"K1": None}, "either K1 or x"),
        ({"x": [1.0]}, "either K1 or x"),
        ({"K1": [[1.0, 2.0], [2.0, 1.0]]}, "semidefinite"),
        ({"K1": [1.0, 2.0]}, "shape"),
        ({"K1": 0.01}, "K1"),
        ({"K1": None, "x": 1.0}, "x must be"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    names = ("sigma", "C_b", "C_W", "lambda_b", "lambda_W")
    arguments: dict[str, Any] = dict(zip(names, TANH, strict=True))
    arguments |= {"depth": 2, "width": 8, "draws": 200, "K1": 1.0}
    with pytest.raises(InvalidInputError, match=message):
        sample(**(arguments | change))
