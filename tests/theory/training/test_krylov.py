"""Functions of matrices times columns, against their eigendecomposition."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg.exceptions import ConvergenceWarning
from kernreg.theory.training import functions_times

EPS = float(np.finfo(np.float64).eps)
Floats = np.ndarray
Function = Callable[[Floats], Floats]
FUNCTIONS: dict[str, Function] = {
    "itself": lambda a: a,
    "one": np.ones_like,
    "root": np.sqrt,
    "decay": lambda a: np.exp(-a),
    "inverse": lambda a: 1 / (a + 0.1),
}


def matrix(values: Floats, seed: int = 0) -> Floats:
    """Symmetric, with these eigenvalues."""
    n = len(values)
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
    made = (Q * values) @ Q.T
    return (made + made.T) / 2


def exactly(A: Floats, columns: Floats, function: Function) -> Floats:
    values, vectors = np.linalg.eigh(A)
    return (vectors * function(np.maximum(values, 0.0))) @ (vectors.T @ columns)


def check(A: Floats, columns: Floats, names: list[str], bound: float, **options: float) -> None:
    found = functions_times(lambda V: A @ V, columns, [FUNCTIONS[f] for f in names], **options)
    assert found.shape == (len(names), *columns.shape)
    norms = np.linalg.norm(columns, axis=0)
    values = np.maximum(np.linalg.eigvalsh(A), 0.0)
    for name, got in zip(names, found, strict=True):
        error = np.linalg.norm(got - exactly(A, columns, FUNCTIONS[name]), axis=0)
        size = np.abs(FUNCTIONS[name](values)).max(initial=0.0)
        assert (error <= bound * size * norms).all(), name


@settings(max_examples=80)
@given(
    n=st.integers(1, 12),
    t=st.integers(1, 4),
    seed=st.integers(0, 10_000),
    distinct=st.integers(1, 12),
    spread=st.sampled_from([0.0, 3.0, 8.0]),
    scale=st.sampled_from([1e-12, 1.0, 1e12]),
)
def test_spaces_that_end(
    n: int, t: int, seed: int, distinct: int, spread: float, scale: float
) -> None:
    """As many products as there are distinct eigenvalues, which may be far apart."""
    levels = scale * 10 ** -(spread * np.linspace(0, 1, distinct))
    A = matrix(np.resize(levels, n), seed)
    columns = np.random.default_rng(seed).standard_normal((n, t))
    names = ["itself", "one"] + ["root"] * (spread < 8)
    # Perturbed by rounding, n eps of the largest eigenvalue: of the root that is the root of it.
    check(A, columns, names[:2], 100 * n * EPS)
    if spread < 8:
        check(A, columns, ["root"], 100 * n * EPS * 10 ** (spread / 2))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("gap", [1.0, 1e3])
def test_gap_below_the_largest(name: str, gap: float) -> None:
    values = np.concatenate([[gap * 2.0], np.linspace(0.5, 2.0, 119)])
    columns = np.random.default_rng(1).standard_normal((120, 3))
    # Changes decay geometrically, so that what is left is some times the tolerance.
    check(matrix(values), columns, [name], 1e-8, tol=1e-10)


def test_several_functions_at_once() -> None:
    A, columns = matrix(np.geomspace(1e-3, 2.0, 90)), np.eye(90)[:, :2]
    names = list(FUNCTIONS)
    check(A, columns, names, 1e-7, tol=1e-9)
    together = functions_times(lambda V: A @ V, columns, [*FUNCTIONS.values()], tol=1e-9)
    for name, got in zip(names, together, strict=True):
        alone = functions_times(lambda V: A @ V, columns, [FUNCTIONS[name]], tol=1e-9)[0]
        # It may stop earlier alone.
        np.testing.assert_allclose(alone, got, rtol=0, atol=1e-7)


def test_products_grow_with_the_root_of_time() -> None:
    """The bound of Saad: some products beyond the root of ``s`` times the largest eigenvalue."""
    A, columns = matrix(np.linspace(0.0, 1.0, 400)), np.ones((400, 1))
    needed = []
    for time in (10.0, 1000.0):
        calls = []

        def product(V: Floats, calls: list[int] = calls) -> Floats:
            calls.append(V.shape[1])
            return A @ V

        functions_times(product, columns, [lambda a, s=time: np.exp(-s * a)], tol=1e-8)
        assert len(calls) <= 15 + 5 * np.sqrt(time)
        needed.append(len(calls))
    assert needed[0] < needed[1]


class TestColumns:
    A = matrix(np.linspace(0.1, 2.0, 50))

    def found(self, columns: Floats) -> Floats:
        return functions_times(lambda V: self.A @ V, columns, [np.sqrt], tol=1e-12)[0]

    def test_zeros_stay(self) -> None:
        columns = np.random.default_rng(0).standard_normal((50, 3))
        columns[:, 1] = 0.0
        found = self.found(columns)
        assert not found[:, 1].any()
        np.testing.assert_allclose(found, exactly(self.A, columns, np.sqrt), atol=1e-9)
        assert not self.found(np.zeros((50, 2))).any()

    def test_none(self) -> None:
        assert self.found(np.empty((50, 0))).shape == (50, 0)

    def test_eigenvectors_end_at_once(self) -> None:
        """Beside a column that does not."""
        values, vectors = np.linalg.eigh(self.A)
        columns = np.column_stack([vectors[:, 7], np.ones(50), vectors[:, 3]])
        found = self.found(columns)
        np.testing.assert_allclose(found[:, 0], values[7] ** 0.5 * vectors[:, 7], atol=1e-12)
        np.testing.assert_allclose(found[:, 1], exactly(self.A, columns, np.sqrt)[:, 1], atol=1e-9)

    @pytest.mark.parametrize(
        "size",
        [
            1e-30,
            1e30,
            1e-200,
            1e200,
        ],
    )
    def test_of_any_size(self, size: float) -> None:
        """Sizes differ from column to column: their accuracy does not."""
        columns = np.random.default_rng(0).standard_normal((50, 2))
        expected = exactly(self.A, columns, np.sqrt)
        found = self.found(columns * [1.0, size]) / [1.0, size]
        np.testing.assert_allclose(found, expected, atol=1e-9)

    def test_columns_do_not_see_each_other(self) -> None:
        columns = np.random.default_rng(0).standard_normal((50, 4))
        together = self.found(columns)
        for index in range(4):
            # One column may settle earlier alone.
            alone = self.found(columns[:, [index]])
            np.testing.assert_allclose(alone[:, 0], together[:, index], rtol=0, atol=1e-9)

    def test_input_is_left_alone(self) -> None:
        columns = np.random.default_rng(0).standard_normal((50, 2))
        before = columns.copy()
        self.found(columns)
        np.testing.assert_array_equal(columns, before)

    def test_float32_products(self) -> None:
        """As exact as the products are, over the root of the smallest eigenvalue."""
        narrow = self.A.astype(np.float32)
        columns = np.random.default_rng(0).standard_normal((50, 2))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = functions_times(
                lambda V: (narrow @ V.astype(np.float32)).astype(np.float64),
                columns,
                [np.sqrt],
                tol=1e-5,
            )[0]
        expected = exactly(self.A, columns, np.sqrt)
        assert np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected)


def test_zero_matrix() -> None:
    columns = np.random.default_rng(0).standard_normal((6, 2))
    found = functions_times(lambda V: 0 * V, columns, [np.sqrt, np.exp])
    assert not found[0].any()
    np.testing.assert_allclose(found[1], columns, rtol=4 * EPS)


def test_matrix_of_low_rank() -> None:
    """The space ends at the rank, and one dimension for what is outside of it."""
    A = matrix(np.array([3.0, 2.0, 1.0, *[0.0] * 37]))
    columns = np.random.default_rng(0).standard_normal((40, 2))
    calls = []

    def product(V: Floats) -> Floats:
        calls.append(1)
        return A @ V

    found = functions_times(product, columns, [lambda a: np.exp(-a)])[0]
    np.testing.assert_allclose(found, exactly(A, columns, lambda a: np.exp(-a)), atol=1e-12)
    assert len(calls) <= 10


@pytest.mark.parametrize("limit", [3, 10])
def test_warns_where_it_did_not_converge(limit: int) -> None:
    A = matrix(np.geomspace(1e-6, 1.0, 200))
    columns = np.random.default_rng(0).standard_normal((200, 1))
    solve = partial(functions_times, lambda V: A @ V, columns, [lambda a: 1 / (a + 1e-6)])
    with pytest.warns(ConvergenceWarning, match=f"after {limit} products"):
        found = solve(max_iter=limit)
    assert np.isfinite(found).all()


def test_all_products_are_exact_and_do_not_warn() -> None:
    A = matrix(np.geomspace(1e-2, 1.0, 30))
    columns = np.random.default_rng(0).standard_normal((30, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(A, columns, ["inverse", "root"], 1e-10, tol=1e-15)
