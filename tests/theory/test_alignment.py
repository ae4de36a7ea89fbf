from __future__ import annotations

import numpy as np
import pytest

from kernreg import gram, nn
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.theory.alignment import (
    compare,
    cumulative_power,
    kernel_alignment,
    target_alignment,
)
from kernreg.theory.eigenlearning.curves import predict_learning_curve
from kernreg.theory.eigenlearning.from_training import training_estimates
from kernreg.theory.eigenlearning.spectra import sample_spectrum
from kernreg.theory.eigenlearning.spectrum import Spectrum

NETS = {"linear": nn.Dense(b_std=0.1), "deep": nn.mlp(depth=3)}


def problem(size=90):
    X = np.random.default_rng(0).normal(size=(size, 3))
    return X, np.where(X[:, 0] * X[:, 1] > 0, "same", "other")


def by_definition(K1, K2, centered):
    H = np.eye(len(K1)) - centered / len(K1)
    A, B = H @ K1 @ H, H @ K2 @ H
    return np.trace(A @ B) / np.linalg.norm(A) / np.linalg.norm(B)


@pytest.mark.parametrize("centered", [True, False])
def test_by_definition(centered):
    X, labels = problem()
    K, other = (gram(net, X) for net in NETS.values())
    assert kernel_alignment(K, other, centered=centered) == pytest.approx(
        by_definition(K, other, centered), rel=1e-12
    )
    Y = np.stack([labels == "other", labels == "same"], axis=1).astype(float)
    expected = by_definition(other, Y @ Y.T, centered)
    for arguments in ((NETS["deep"], X), (other, None)):
        found = target_alignment(*arguments, labels, centered=centered)
        assert found == pytest.approx(expected, rel=1e-12)


def test_shift_and_scale_do_not_matter_to_cka():
    X, _ = problem()
    y = X[:, 0]
    K = gram(nn.mlp(depth=2), X)
    expected = target_alignment(K, None, y)
    assert target_alignment(7.0 * K + 3.0, None, 2.0 - y) == pytest.approx(expected, rel=1e-11)
    assert kernel_alignment(K, 7.0 * K + 3.0) == pytest.approx(1.0, rel=1e-12)
    assert kernel_alignment(np.outer(y, y), K) == pytest.approx(expected, rel=1e-12)


def test_the_constant_mode_dominates_uncentred_alignment():
    """Labels without any relation to the inputs still look aligned."""
    X, _ = problem()
    random = np.random.default_rng(1).permutation(np.repeat(["a", "b"], 45))
    assert target_alignment(NETS["deep"], X, random, centered=False) > 0.5
    assert target_alignment(NETS["deep"], X, random) < 0.1


def test_cumulative_power():
    spectrum = Spectrum([1.0, 4.0, 2.0], power=[1.0, 2.0, 1.0], tail_power=4.0)
    np.testing.assert_allclose(cumulative_power(spectrum), [0.25, 0.375, 0.5])
    X, labels = problem()
    found = cumulative_power(sample_spectrum(NETS["deep"], X, labels))
    assert (np.diff(found) >= 0).all()
    assert found[-1] == pytest.approx(1.0, rel=1e-12)


def test_levels_without_a_part_in_the_kernel_count_last():
    """The linear kernel of two columns has rank two; the order of the rest is rounding."""
    X = np.random.default_rng(0).normal(size=(40, 2))
    y = X[:, 0] * X[:, 1]
    expected = np.linalg.norm(np.linalg.qr(X)[0].T @ (y - y.mean())) ** 2 / np.var(y) / 40
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(40)
        found = compare({"linear": nn.Dense()}, X[order], y[order], 0.1)
        assert found.top_power[0] == pytest.approx(expected, rel=1e-10)


def test_networks_as_text():
    X, labels = problem()
    found, same = (compare({"a": net}, X, labels, 0.1) for net in ("mlp(depth=1)", nn.mlp(1)))
    assert found.test[0] == same.test[0]
    with pytest.raises(NetworkError, match="Did you mean 'Relu'"):
        compare(["relu"], X, labels)


@pytest.mark.parametrize(
    "spectrum", [Spectrum([1.0]), Spectrum([1.0], power=[0.0])], ids=["missing", "zero"]
)
def test_no_power(spectrum):
    with pytest.raises(InvalidInputError, match="no target"):
        cumulative_power(spectrum)


def test_compare():
    X, labels = problem()
    found = compare(NETS, X, labels, 0.1, n=40, top=5)
    assert found.names == ("linear", "deep")
    Y = np.stack([labels == "other", labels == "same"], axis=1).astype(float)
    Y -= Y.mean(axis=0)
    variance = np.mean(np.sum(Y**2, axis=1))
    for i, net in enumerate(NETS.values()):
        assert found.cka[i] == pytest.approx(target_alignment(net, X, labels), rel=1e-12)
        assert found.kta[i] == pytest.approx(
            target_alignment(net, X, labels, centered=False), rel=1e-12
        )
        power = cumulative_power(sample_spectrum(net, X, Y))
        assert found.top_power[i] == pytest.approx(power[4], rel=1e-10)
        test = predict_learning_curve(net, X, Y, [40], 0.1).test[0]
        assert found.test[i] == pytest.approx(test / variance, rel=1e-10)
        loo = training_estimates(net, X, Y, 0.1).loo
        assert found.loo[i] == pytest.approx(loo / variance, rel=1e-10)
    # The product of two coordinates is nothing that a linear model learns.
    assert found.test[1] < 0.8 < 0.95 < found.test[0]
    assert found.loo[1] < found.loo[0]
    assert found.learnability[1] > found.learnability[0]


def test_compare_takes_sequences_and_matrices():
    X, labels = problem(40)
    matrix = gram(NETS["deep"], X)
    found = compare([NETS["deep"], matrix], X, labels)
    assert found.names == (repr(NETS["deep"]), "matrix (40, 40)")
    assert found.n == 20
    assert found.test[0] == pytest.approx(found.test[1], rel=1e-10)
    assert compare({"m": matrix}, None, labels).cka[0] == pytest.approx(found.cka[0], rel=1e-12)


def test_table_says_what_not_to_rank_by():
    X, labels = problem(40)
    text = str(compare(NETS, X, labels, 0.1, n=10))
    assert text.splitlines()[0].split()[:3] == ["kernel", "CKA", "KTA"]
    assert "test n=10" in text
    assert "not by CKA or KTA" in text
    assert "constant mode" in text


VARY = r"^alignment needs a kernel matrix and targets that vary over the points, found one that is"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X, y: compare({}, X, y), "^expected at least one network or kernel matrix, found"),
        (lambda X, y: compare(NETS, X, y, n=30), "^n must leave points to test on: it is 30 of 30"),
        (lambda X, y: compare(NETS, X, y, n=2.5), "^n must be an integer >= 1, found 2.5"),
        (lambda X, y: compare(NETS, X, y, n=0), "^n must be an integer >= 1, found 0"),
        (lambda X, y: compare(NETS, X, y, top=0), "^top must be an integer >= 1, found 0"),
        (lambda X, y: compare(NETS, X, np.ones(30)), VARY),
        # 0.1 less the mean of thirty of them is not 0.
        (lambda X, y: compare(NETS, X, np.full(30, 0.1)), VARY),
        (lambda X, y: target_alignment(NETS["deep"], X, np.full(30, 0.1)), VARY),
        (lambda X, y: target_alignment(np.full((30, 30), 0.1), None, y), VARY),
        (lambda X, y: compare([3.0], X, y), "^expected a network from kernreg.nn.*found float"),
        (lambda X, y: target_alignment(NETS["deep"], X, y[:-1]), "^expected 30 labels.*found 29"),
        (lambda X, y: target_alignment(np.ones((30, 30)), None, y), VARY),
        (
            lambda X, y: kernel_alignment(np.eye(2), np.eye(3)),
            r"^both kernel matrices must be of the same points, found shapes \(2, 2\) and \(3, 3\)",
        ),
        (lambda X, y: kernel_alignment(np.eye(2), np.zeros((2, 2))), VARY),
        (lambda X, y: kernel_alignment(np.zeros((2, 2)), np.eye(2), centered=False), VARY),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InvalidInputError, match=message):
        call(*problem(30))


def test_the_limits_of_what_is_refused_are_accepted():
    X, labels = problem(30)
    found = compare(NETS, X, labels, n=29, top=1)
    assert (found.n, found.top) == (29, 1)
    assert (found.top_power < compare(NETS, X, labels, top=30).top_power).all()
    np.testing.assert_allclose(compare(NETS, X, labels, top=1000).top_power, 1.0, rtol=1e-12)
    assert compare(NETS, X, labels, n=1).n == 1
    # One part in 1e12 varies by thousands of roundings.
    small = 1.0 + 1e-12 * X[:, 0]
    expected = target_alignment(NETS["deep"], X, X[:, 0])
    assert target_alignment(NETS["deep"], X, small) == pytest.approx(expected, rel=1e-3)
