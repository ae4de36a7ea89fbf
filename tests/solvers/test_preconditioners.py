from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg.exceptions import InvalidInputError, NotPositiveDefiniteError
from kernreg.solvers import LowPrecisionCholesky, Nystrom, RPCholesky
from kernreg.solvers.preconditioners.lowrank import LowRank
from tests.contracts.solver import SLACK, gaussian_points, kernel_matrix
from tests.operators.dense import DenseOperator

EPS = np.finfo(np.float64).eps
MAKERS = [RPCholesky, Nystrom]


def spectral(values, seed=0):
    """A matrix with these eigenvalues."""
    vectors = np.linalg.qr(gaussian_points(len(values), len(values), seed))[0]
    K = (vectors * values) @ vectors.T
    return (K + K.T) / 2


def explicit(built, n, levels=None):
    """``P^-1`` as a matrix."""
    return built.apply(np.eye(n), levels)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 40),
    rank=st.integers(1, 45),
    t=st.integers(1, 4),
    seed=st.integers(0, 50),
    per_row=st.booleans(),
    make=st.sampled_from(MAKERS),
)
def test_inverse_is_that_of_the_factor_and_shift(n, rank, t, seed, per_row, make):
    K = kernel_matrix(n, seed=seed)
    rng = np.random.default_rng(seed)
    ridge = rng.uniform(0.5, 2.0, n) if per_row else 0.7
    built = make(rank, seed=seed).build(DenseOperator(K), ridge)
    assert built.rank <= min(n, rank)
    profile = np.broadcast_to(ridge, n) / np.mean(ridge)
    inverse = explicit(built, n)
    P = np.linalg.inv(inverse)
    shift = built.level + built.residual
    low = P - shift * np.diag(profile)
    scale = np.linalg.norm(K, 2) + shift
    bound = SLACK * n * EPS * scale * max(1.0, scale / shift)
    # F F^T is positive semidefinite and at most K.
    assert np.linalg.eigvalsh((low + low.T) / 2)[0] > -bound
    assert np.linalg.eigvalsh(K - (low + low.T) / 2)[0] > -bound
    R = rng.standard_normal((n, t))
    np.testing.assert_allclose(built.apply(R), inverse @ R, atol=bound * np.abs(R).max() / shift)


@pytest.mark.parametrize("make", MAKERS)
def test_full_rank_is_exact(make):
    K = kernel_matrix(30, d=30)
    built = make(30).build(DenseOperator(K), 0.1)
    A = K + 0.1 * np.eye(30)
    gap = explicit(built, 30) @ A - np.eye(30)
    assert np.linalg.norm(gap, 2) <= SLACK * 30 * EPS * np.linalg.cond(A)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("relative", [1e-3, 1e-7, 1e-11])
def test_small_ridges_lose_no_digits_beyond_those_of_the_matrix(make, relative):
    """``||P apply(R) - R|| <= c eps ||P|| ||apply(R)||``, as for a backward stable solve."""
    n = 120
    K = spectral(10.0 ** -np.linspace(0, 14, n))
    built = make(n).build(DenseOperator(K), relative)
    R = gaussian_points(n, 3, seed=1)
    x = built.apply(R)
    P = K + (relative + built.residual) * np.eye(n)
    error = np.linalg.norm(P @ x - R, axis=0)
    assert (error <= SLACK * n * EPS * np.linalg.norm(x, axis=0) * 2).all()


@pytest.mark.parametrize("decay", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("rank", [10, 40, 120])
def test_trace_of_the_remainder(decay, rank):
    """Its mean is at most twice that of the best rank r if k >= r (1 + log(tr K / tail)).

    That is theorem 5.1 of arXiv 2207.06503 with error 1, and holds for r = k / 10 as the tail is
    above e^-9 of the trace here. One draw in place of the mean gets another factor 2.
    """
    n = 400
    values = np.arange(1.0, n + 1) ** -decay
    factor, remainder, _ = RPCholesky(rank)._factor(
        DenseOperator(spectral(values)), rank, 0.0, None
    )
    assert len(factor) == rank
    best = values[max(1, rank // 10) :].sum()
    assert values[rank:].sum() * (1 - 1e-10) <= remainder.sum() <= 4 * best


def test_auto_stops_when_the_trace_is_that_of_the_ridge():
    n = 300
    K = spectral(10.0 ** -np.linspace(0, 12, n))
    for make in MAKERS:
        ranks = []
        for ridge in (1e-2, 1e-3, 1e-4):
            built = make().build(DenseOperator(K), ridge)
            assert built.residual * (n - built.rank) <= ridge * n
            ranks.append(built.rank)
        assert ranks == sorted(ranks)
        assert ranks[-1] < round(10 * n**0.5)


@pytest.mark.parametrize("make", MAKERS)
def test_rank_is_limited_by_memory(make):
    K = DenseOperator(kernel_matrix(100, d=50))
    assert make(max_bytes=24 * 100 * 7).build(K, 1e-9).rank == 7
    assert make(50, max_bytes=24 * 100 * 7).build(K, 1e-9).rank == 7


def test_pivots_have_the_distribution_of_one_at_a_time():
    """Blocks thinned by rejection; 4000 draws, 5 standard errors."""
    K = np.diag([4.0, 3.0, 2.0, 1.0]) + 0.5 * np.ones((4, 4))
    draws = 4000
    counts = dict.fromkeys(itertools.permutations(range(4), 2), 0)
    for seed in range(draws):
        operator = Recorder(K)
        factor, _, _ = RPCholesky(2, seed=seed)._factor(operator, 2, 0.0, None)
        # The first row of F^T is a multiple of a row of K, the second vanishes at its pivot.
        first = int(
            np.argmin([np.linalg.norm(factor[0] - K[i] / K[i, i] ** 0.5) for i in range(4)])
        )
        rest = K - np.outer(factor[0], factor[0])
        second = min(
            (i for i in range(4) if i != first),
            key=lambda i: np.linalg.norm(factor[1] - rest[i] / rest[i, i] ** 0.5),
        )
        counts[first, second] += 1
    for (i, j), count in counts.items():
        rest = np.diagonal(K) - K[i] ** 2 / K[i, i]
        chance = K[i, i] / np.trace(K) * rest[j] / rest.sum()
        assert abs(count - draws * chance) <= 5 * np.sqrt(draws * chance)


class Recorder(DenseOperator):
    """Only what RPCholesky may use."""

    def lower_panel(self, *_):
        raise AssertionError("tiles were asked for")

    tile = times = lower_panel

    def rows(self, index):
        return self.matrix[index]

    def astype(self, dtype):
        return self


def test_rpcholesky_needs_rows_and_diagonal_only():
    assert RPCholesky(5).build(Recorder(kernel_matrix(30)), 0.1).rank == 5


def test_float32_kernels_are_factored_in_float64():
    """A ridge of 1e-10 is far below float32 rounding of the entries."""
    n = 80
    K = spectral(10.0 ** -np.linspace(0, 12, n))
    for make in MAKERS:
        one = make().build(DenseOperator(K, "float32"), 1e-10)
        two = make().build(DenseOperator(K), 1e-10)
        np.testing.assert_array_equal(one.values, two.values)


def test_columns_with_ridges_of_their_own():
    K, R = kernel_matrix(40), gaussian_points(40, 3)
    built = RPCholesky(8).build(DenseOperator(K), 0.1)
    levels = np.array([0.1, 1.0, 10.0])
    together = built.apply(R, levels)
    for j, level in enumerate(levels):
        expected = built.apply(R[:, j : j + 1], level)[:, 0]
        bound = 40 * EPS * np.abs(expected).max() * 10
        np.testing.assert_allclose(together[:, j], expected, atol=bound)
    np.testing.assert_array_equal(built.apply(R, 0.1), built.apply(R))


def test_rows_without_ridge():
    K = kernel_matrix(30)
    ridge = np.where(np.arange(30) % 2, 0.2, 0.0)
    built = RPCholesky(30).build(DenseOperator(K), ridge)
    assert np.linalg.eigvalsh(explicit(built, 30))[0] > 0


def test_low_precision_factor():
    K, R = kernel_matrix(60), gaussian_points(60, 3)
    built = LowPrecisionCholesky(block=16).build(DenseOperator(K), 1.0)
    A = K + np.eye(60)
    bound = SLACK * np.sqrt(60) * np.finfo(np.float32).eps * np.linalg.cond(A)
    expected = np.linalg.solve(A, R)
    np.testing.assert_allclose(built.apply(R), expected, atol=bound * np.abs(expected).max())
    assert built.rank == 60
    assert built.nbytes == 4 * sum(16 * min(60, 16 * (i + 1)) for i in range(3)) + 4 * 12 * 60


def test_no_warning_for_a_jitter_of_the_preconditioner(recwarn):
    LowPrecisionCholesky().build(DenseOperator(kernel_matrix(60)), 1e-12)
    assert not len(recwarn)


def test_bytes():
    built = RPCholesky(7).build(DenseOperator(kernel_matrix(50)), 1e-9)
    assert isinstance(built, LowRank)
    assert built.nbytes == 8 * (7 * 50 + 7)
    for make in (RPCholesky(7), Nystrom(7), LowPrecisionCholesky()):
        built = make.build(DenseOperator(kernel_matrix(50)), 1.0)
        assert make.peak_bytes(50) >= make.held_bytes(50) >= built.nbytes


@pytest.mark.parametrize("make", [*MAKERS, LowPrecisionCholesky])
def test_negative_diagonal(make):
    K = np.eye(10)
    K[3, 3] = -1.0
    with pytest.raises(NotPositiveDefiniteError):
        make().build(DenseOperator(K), 0.1)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    "arguments", [{"rank": 0}, {"rank": "full"}, {"rank": 2.5}, {"max_bytes": 0}]
)
def test_bad_settings(make, arguments):
    with pytest.raises(InvalidInputError, match=next(iter(arguments))):
        make(**arguments)
