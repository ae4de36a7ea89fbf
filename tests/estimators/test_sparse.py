"""Models on sparse rows are those on the same rows with their zeros."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import kernreg
from kernreg import GaussianProcessRegressor, KernelClassifier, KernelRegressor, nn
from kernreg.exceptions import InvalidInputError


@pytest.fixture(scope="module")
def data() -> tuple[sp.csr_array, np.ndarray, sp.csr_array]:
    """200 rows, five of which are there twice."""
    rng = np.random.default_rng(0)
    X = sp.csr_array(sp.random(200, 90, 0.08, format="csr", rng=rng))
    X = sp.csr_array(sp.vstack([X, X[:5]]))
    y = X.sum(axis=1) + 0.1 * rng.standard_normal(205)
    return X, y, sp.csr_array(sp.random(30, 90, 0.08, format="csr", rng=rng))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha": 0.0},
        {"alpha": 1e-3, "solver": "cholesky"},
        {"alpha": 1e-3, "solver": "restricted"},
        {"solver": "banded"},
        {"alpha": 1e-2, "kernel": "nngp", "fit_intercept": False},
    ],
    ids=str,
)
def test_regression(options: dict[str, Any], data: Any) -> None:
    """Entries differ by some 1e-16 of the diagonal, which the smallest alpha, 1e-3, multiplies.

    Where alpha is chosen, or 0, these data have a condition of less than 1e5.
    """
    X, y, T = data
    found = KernelRegressor(**options).fit(X, y)
    right = KernelRegressor(**options).fit(X.toarray(), y)
    assert found.alpha_ == right.alpha_
    for new in (T, sp.coo_array(T), T.toarray()):
        np.testing.assert_allclose(found.predict(new), right.predict(T.toarray()), atol=1e-10)
    np.testing.assert_allclose(right.predict(T), found.predict(T), atol=1e-10)


def test_weights_and_copies(data: Any) -> None:
    X, y, T = data
    weights = np.random.default_rng(1).uniform(0.0, 1.0, len(y))
    weights[7] = 0.0
    found = KernelRegressor(alpha=1e-3).fit(X, y, sample_weight=weights)
    right = KernelRegressor(alpha=1e-3).fit(X.toarray(), y, sample_weight=weights)
    np.testing.assert_allclose(found.predict(T), right.predict(T.toarray()), atol=1e-10)


def test_classes(data: Any) -> None:
    X, y, T = data
    labels = np.where(y > np.median(y), "more", "less")
    found = KernelClassifier(alpha=1e-2).fit(X, labels)
    right = KernelClassifier(alpha=1e-2).fit(X.toarray(), labels)
    np.testing.assert_array_equal(found.predict(T), right.predict(T.toarray()))


def test_files_and_intervals(data: Any, tmp_path: Path) -> None:
    X, y, T = data
    model = KernelRegressor(alpha=1e-3).fit(X, y)
    model.save(tmp_path / "model.kr")
    for other in (kernreg.load(tmp_path / "model.kr"), pickle.loads(pickle.dumps(model))):
        assert sp.issparse(other.X_fit_)
        np.testing.assert_array_equal(other.predict(T), model.predict(T))
    right = KernelRegressor(alpha=1e-3).fit(X.toarray(), y).predict_interval(T.toarray())
    for found, bound in zip(model.predict_interval(T), right, strict=True):
        np.testing.assert_allclose(found, bound, atol=1e-9)


def test_files_of_frames_and_of_zeros(data: Any, tmp_path: Path) -> None:
    X, y, _ = data
    frame = pd.DataFrame.sparse.from_spmatrix(X, columns=[f"item {k}" for k in range(90)])
    zeros = sp.csr_array((3, 4))
    for rows, targets in ((frame, y), (zeros, np.arange(3.0))):
        model = KernelRegressor(alpha=1e-2).fit(rows, targets)
        model.save(tmp_path / "model.kr")
        found = kernreg.load(tmp_path / "model.kr")
        np.testing.assert_array_equal(found.predict(rows), model.predict(rows))


def test_many_outputs_at_once(data: Any) -> None:
    """Labels are the rows themselves, as in an autoencoder."""
    X, _, _ = data
    found = KernelRegressor(alpha=1e-2).fit(X, X.toarray()).predict(X)
    right = KernelRegressor(alpha=1e-2).fit(X.toarray(), X.toarray()).predict(X.toarray())
    assert found.shape == X.shape
    np.testing.assert_allclose(found, right, atol=1e-10)


def test_a_fit_keeps_no_rows_of_the_caller(data: Any) -> None:
    X, y, T = data
    own = X.copy()
    model = KernelRegressor(alpha=1e-2).fit(own, y)
    before = model.predict(T)
    own.data[:] = 7.0
    np.testing.assert_array_equal(model.predict(T), before)


def test_what_needs_dense_rows_says_so(data: Any) -> None:
    X, y, _ = data
    with pytest.raises(TypeError, match="dense data is required"):
        GaussianProcessRegressor().fit(X, y)
    with pytest.raises(InvalidInputError, match="needs dense rows"):
        KernelRegressor(scale="ard").fit(X, y)
    with pytest.raises(InvalidInputError, match=r"sparse.*images"):
        KernelRegressor(nn.cnn(2), input_shape=(3, 10, 3)).fit(X, y)
