"""Whitening: that of its definition, at a cost without a matrix of all pixels."""

import tracemalloc
import warnings

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from kernreg.estimators.whitening import ZCA
from kernreg.exceptions import InvalidInputError
from tests.estimators.test_preparation import condition, images

EPS = np.finfo(np.float64).eps


def spectral(n, d, variances, seed=0):
    """Rows of known mean whose covariance has known eigenvalues, and the factors of the rows."""
    rng = np.random.default_rng(seed)
    k = len(variances)
    # Orthogonal to ones, so that the mean is none of it.
    left = np.linalg.qr(np.column_stack([np.ones(n), rng.standard_normal((n, k))]))[0][:, 1:]
    right = np.linalg.qr(rng.standard_normal((d, k)))[0].T
    mean = rng.standard_normal(d)
    return mean, left * np.sqrt(n), right, mean + (left * np.sqrt(n * variances)) @ right


def dense_root(X, regularization, power=-0.5):
    """W of its definition, by one d x d decomposition of the SVD's squares."""
    centred = X - X.mean(axis=0)
    sizes, vectors = np.linalg.svd(centred, full_matrices=True)[1:]
    variances = np.zeros(X.shape[1])
    variances[: len(sizes)] = sizes**2 / len(X)
    ridge = regularization * np.mean(centred**2)
    return (vectors.T * (variances + ridge) ** power) @ vectors


# Whitening.


@pytest.mark.parametrize(("n", "d"), [(60, 12), (13, 12), (12, 12), (11, 12), (8, 30)])
@pytest.mark.parametrize("regularization", [1e-3, 0.1, 10])
def test_variances_become_s_over_s_plus_r(n, d, regularization):
    variances = np.geomspace(1, 1e-3, min(n - 1, d))
    mean, left, right, X = spectral(n, d, variances)
    r = regularization * variances.sum() / d
    white = ZCA(regularization).fit(X)
    np.testing.assert_allclose(white.mean_, mean, rtol=0, atol=8 * EPS)
    found = white.transform(X)
    expected = (left * np.sqrt(variances / (variances + r))) @ right
    # S and its eigenvalues are off by some eps of the largest one, up to the number of terms;
    # a root moves by half of that over the smallest eigenvalue plus r.
    error = max(n, d) * EPS * (1 + r) / r
    np.testing.assert_allclose(found, expected, rtol=0, atol=error * np.abs(expected).max())
    covariance = np.cov(found, rowvar=False, bias=True)
    kept = np.linalg.eigvalsh(covariance)[::-1][: len(variances)]
    np.testing.assert_allclose(kept, variances / (variances + r), rtol=0, atol=2 * error)


@pytest.mark.parametrize("n", [2, 10, 23, 24, 25, 26, 100])
@pytest.mark.parametrize("regularization", [1e-2, 0.1, 1])
def test_both_ways_are_the_root_of_its_definition(n, regularization):
    X = images(n, (4, 3, 2)).reshape(n, -1)
    model = ZCA(regularization).fit(X)
    elsewhere = images(7, (4, 3, 2), seed=1).reshape(7, -1)
    ridged = condition(X, regularization)
    for rows in (X, elsewhere):
        expected = (rows - X.mean(axis=0)) @ dense_root(X, regularization)
        # Both sides err by some eps times the condition, of sums of up to 100 terms.
        error = 10 * EPS * ridged * np.abs(expected).max()
        np.testing.assert_allclose(model.transform(rows), expected, rtol=0, atol=error)


@pytest.mark.parametrize("n", [10, 100])
def test_the_root_is_symmetric_and_positive(n):
    X = images(n, (4, 3, 2)).reshape(n, -1)
    model = ZCA().fit(X)
    W = model.transform(model.mean_ + np.eye(24))
    # A product of matrices that are symmetric as they stand; means of at most 30 are rounded.
    error = 30 * EPS * np.abs(W).max()
    np.testing.assert_allclose(W, W.T, rtol=0, atol=error)
    assert np.linalg.eigvalsh(W)[0] > 0


def test_what_is_orthogonal_to_the_training_rows_is_divided_by_the_root_of_r():
    n, d = 10, 40
    mean, _, right, X = spectral(n, d, np.geomspace(1, 1e-3, n - 1))
    off = np.random.default_rng(5).standard_normal((3, d))
    off -= (off @ right.T) @ right
    r = 0.1 * np.mean((X - mean) ** 2)
    found = ZCA(0.1).fit(X).transform(mean + off)
    # What is left of products with the training rows is rounding of d terms.
    error = d * EPS * np.abs(off / np.sqrt(r)).max()
    np.testing.assert_allclose(found, off / np.sqrt(r), rtol=0, atol=error)


def test_full_whitening_of_more_rows_than_pixels():
    X = images(400, (4, 3, 1)).reshape(400, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        white = ZCA(regularization=0).fit_transform(X)
    # At most 400 terms a sum, which hardly err in one direction.
    error = 20 * EPS * condition(X, 0)
    np.testing.assert_allclose(white.T @ white / 400, np.eye(12), rtol=0, atol=error)


@pytest.mark.parametrize("n", [10, 24, 25, 200])
def test_whitened_images_come_back(n):
    X = images(n, (4, 3, 2))
    model = ZCA(0.01).fit(X)
    other = images(9, (4, 3, 2), seed=3)
    ridged = condition(X.reshape(n, -1), 0.01)
    for given in (X, other):
        back = model.inverse_transform(model.transform(given))
        # The two roots are made from one decomposition, so their product has the condition's root;
        # values are below 30.
        np.testing.assert_allclose(back, given, rtol=0, atol=8 * EPS * ridged**0.5 * 30)


@pytest.mark.parametrize("n", [10, 100])
def test_shifts_and_scales_of_all_pixels_change_little(n):
    X = images(n, (4, 3, 2))
    expected = ZCA().fit_transform(X)
    moved = ZCA().fit_transform(1000 - 3 * X)
    # Sums of about 1000 are rounded by half an eps, and stretched by at most 1 / sqrt(r); the
    # mean variance is above 1.
    error = 1000 * EPS / np.sqrt(0.1) * np.sqrt(24)
    np.testing.assert_allclose(moved, -expected, rtol=0, atol=error)


def test_few_rows_of_many_pixels_need_no_matrix_of_all_pixels():
    n, d = 8, 30_000
    X = np.random.default_rng(0).standard_normal((n, d))
    tracemalloc.start()
    ZCA().fit(X).transform(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * X.nbytes < d * d / 10


# Whitening that leaves nothing to learn from.

NOTHING = "nothing to learn from"


@pytest.mark.parametrize(("n", "regularization"), [(5, 1e-4), (12, 9e-4), (13, 0), (13, 1e-6)])
def test_full_whitening_of_few_rows_warns(n, regularization):
    with pytest.warns(UserWarning, match=rf"(?s){n} rows of 12 pixels.*{NOTHING}.*2008\.07545"):
        ZCA(regularization).fit(images(n, (4, 3, 1)))


@pytest.mark.parametrize(("n", "regularization"), [(5, 1e-3), (13, 0.1), (14, 1e-6), (60, 0)])
def test_other_whitening_does_not_warn(n, regularization):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ZCA(regularization).fit(images(n, (4, 3, 1)))


def test_the_reason_of_the_warning():
    n, d = 20, 400
    X = np.random.default_rng(0).standard_normal((n, d)) * np.geomspace(1, 0.3, d)
    # All variances but one are between 0.999 and 1, so squared distances are 2 n up to 0.1 %.
    same = pdist(ZCA(1e-3).fit_transform(X), "sqeuclidean")
    np.testing.assert_allclose(same, 2 * n, rtol=1e-3)
    assert np.ptp(pdist(X, "sqeuclidean")) > 0.1 * np.mean(pdist(X, "sqeuclidean"))


# What has no root.


@pytest.mark.parametrize("value", [-1e-9, np.nan, np.inf, "0.1", None, True, [0.1], 1j])
def test_bad_regularization(value):
    with pytest.raises(InvalidInputError, match="regularization must be a number of at least 0"):
        ZCA(regularization=value).fit(images())


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.int64(1), 1])
def test_numbers_of_numpy_are_regularization(value):
    expected = ZCA(float(value)).fit_transform(images())
    np.testing.assert_array_equal(ZCA(value).fit_transform(images()), expected)


def test_covariances_without_a_root():
    X = images(40, (5, 4, 1))
    message = r"regularization=0 cannot whiten 20 rows of 20.*rank 19 .*0\.1, or more rows"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidInputError, match=message):
            ZCA(0).fit(X[:20])
    X[:, 0] = X[:, 1]
    with pytest.raises(InvalidInputError, match=r"40 rows of 20 numbers.* rank 16 .*such as 0\.1"):
        ZCA(0).fit(X)
    lost = r"regularization=1e-20 cannot whiten"
    with pytest.raises(InvalidInputError, match=lost):
        ZCA(1e-20).fit(X)
    with (
        pytest.warns(UserWarning, match=NOTHING),
        pytest.raises(InvalidInputError, match=lost),
    ):
        ZCA(1e-20).fit(X[:10])
    ZCA(1e-6).fit(X)


def test_rows_without_a_covariance():
    with pytest.raises(InvalidInputError, match=r"1 sample.*at least 2"):
        ZCA().fit(images(1))
    with pytest.raises(InvalidInputError, match="5 rows of X are equal"):
        ZCA().fit(np.repeat(images(1), 5, axis=0))
