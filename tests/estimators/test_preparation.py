"""Scaled channels and whitened images, beside exact fractions and dense decompositions."""

import pickle
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from kernreg.estimators import preparation
from kernreg.estimators.preparation import ImageScaler
from kernreg.estimators.whitening import ZCA
from kernreg.exceptions import InvalidInputError

EPS = np.finfo(np.float64).eps
BOTH = pytest.mark.parametrize("model", [ImageScaler(), ZCA()], ids=["scaler", "zca"])


class Columns(ImageScaler):
    """Rows are images of one position: what scikit-learn checks on rows of any width."""

    def _given_shape(self, X):
        shape = getattr(X, "shape", ())
        return (1, shape[1]) if len(shape) == 2 else None

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


@parametrize_with_checks([ZCA(), ZCA(regularization=0.01), Columns()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def images(n=30, shape=(5, 4, 3), seed=0):
    """Neighbours in a column are alike; channels have their own mean and spread."""
    X = np.random.default_rng(seed).standard_normal((n, *shape)).cumsum(axis=1)
    return X * (1.0 + np.arange(shape[-1])) + 10.0 * np.arange(shape[-1])


def condition(X, regularization):
    """Of the ridged covariance; S comes with an error of some eps times its largest eigenvalue."""
    values = np.linalg.eigvalsh(np.cov(X, rowvar=False, bias=True))
    ridge = regularization * np.mean(np.var(X, axis=0))
    return (values[-1] + ridge) / (max(values[0], 0.0) + ridge)


# Channels of images.


@pytest.mark.parametrize("shape", [(6, 3), (5, 4, 3), (2, 3, 4, 2), (5, 4, 1)])
def test_channels_have_mean_0_and_deviation_1(shape):
    X = images(shape=shape)
    scaler = ImageScaler().fit(X)
    assert scaler.mean_.shape == scaler.scale_.shape == shape[-1:]
    assert scaler.image_shape_ == shape
    assert scaler.n_features_in_ == np.prod(shape)
    found = scaler.transform(X)
    assert found.shape == X.shape
    axes = tuple(range(X.ndim - 1))
    # The mean is stored to half an eps of itself; sums in pairs add some roundings.
    offset = EPS * (16 + np.abs(scaler.mean_) / scaler.scale_)
    assert np.all(np.abs(found.mean(axis=axes)) <= offset)
    np.testing.assert_allclose(found.std(axis=axes), 1, rtol=32 * EPS)


def exact_moments(values):
    values = [Fraction(float(v)) for v in values]
    mean = sum(values) / len(values)
    return mean, sum((v - mean) ** 2 for v in values) / len(values)


@pytest.mark.parametrize("kind", ["uint8", "far", "farther", "float32", "bool"])
def test_moments_are_those_of_exact_arithmetic(kind):
    rng = np.random.default_rng(1)
    X = {
        "uint8": rng.integers(0, 256, (20, 6, 5, 2), dtype=np.uint8),
        # 1 + 1e8: a sum of squares without the mean would keep no digit of the variance.
        "far": 1e8 + rng.standard_normal((20, 6, 5, 2)),
        # Within some roundings of 1e8, so that the rounding of the mean shows in the spread.
        "farther": 1e8 + np.spacing(1e8) * rng.integers(0, 40, (20, 6, 5, 2)),
        "float32": (3 + rng.standard_normal((20, 6, 5, 2))).astype(np.float32),
        "bool": rng.random((20, 6, 5, 2)) < 0.3,
    }[kind]
    scaler = ImageScaler().fit(X)
    for channel in range(2):
        mean, variance = exact_moments(X[..., channel].ravel())
        # Rounded once, after a correction whose own rounding is of the size of the deviations.
        assert abs(Fraction(scaler.mean_[channel]) - mean) <= EPS * abs(mean)
        # Deviations are exact or rounded once; squares add up in pairs, log2(600) of them deep.
        assert abs(Fraction(scaler.scale_[channel]) ** 2 / variance - 1) <= 32 * EPS


def test_means_of_many_blocks(monkeypatch):
    monkeypatch.setattr(preparation, "_BLOCK", 1)
    # Sums of 3000 values one after the other drift by some 100 eps of the mean.
    X = 0.7 + 1e-3 * np.random.default_rng(0).standard_normal((3000, 1, 1))
    scaler = ImageScaler().fit(X)
    mean, variance = exact_moments(X.ravel())
    assert abs(Fraction(scaler.mean_[0]) - mean) <= EPS * mean
    assert abs(Fraction(scaler.scale_[0]) ** 2 / variance - 1) <= 3000**0.5 * 4 * EPS
    X[:] = 0.7
    assert ImageScaler().fit(X).mean_ == 0.7


@pytest.mark.parametrize("exponent", [-900, -500, 0, 500, 900])
def test_powers_of_two_change_nothing(exponent):
    X = images()
    expected = ImageScaler().fit_transform(X)
    np.testing.assert_array_equal(ImageScaler().fit_transform(np.ldexp(X, exponent)), expected)
    white = ZCA().fit_transform(X)
    np.testing.assert_array_equal(ZCA().fit_transform(np.ldexp(X, exponent)), white)


def test_constant_channels_are_only_centred():
    X = images()
    X[..., 1] = 0.1
    scaler = ImageScaler().fit(X)
    assert scaler.scale_[1] == 1
    assert scaler.mean_[1] == 0.1
    assert not scaler.transform(X)[..., 1].any()
    assert np.all(scaler.transform(X + 1)[..., 1] == 1.1 - 0.1)
    X[3, 2, 1, 1] = np.nextafter(0.1, 1)  # one rounding is no spread
    assert ImageScaler().fit(X).scale_[1] == 1
    X[3, 2, 1, 1] = 0.1 * (1 + 9 * EPS)  # these are one
    assert 0 < ImageScaler().fit(X).scale_[1] < EPS


def test_float32_channels_that_vary_by_a_rounding_of_theirs():
    X = images().astype(np.float32)
    X[..., 0] = np.float32(0.1)
    X[::2, ..., 0] = np.nextafter(np.float32(0.1), np.float32(1))
    assert ImageScaler().fit(X).scale_[0] == 1
    # The same numbers as float64 are far more than a rounding apart.
    assert ImageScaler().fit(X.astype(float)).scale_[0] < 1e-8


def test_one_image_has_a_spread_over_its_positions():
    found = ImageScaler().fit_transform(images(1))
    np.testing.assert_allclose(found.std(axis=(0, 1, 2)), 1, rtol=32 * EPS)


def test_deviations_that_are_subnormal_are_not_divided_by():
    X = np.zeros((2, 3, 1))
    X[0, 0] = 1e-310
    scaler = ImageScaler().fit(X)
    assert scaler.scale_ == 1
    assert np.isfinite(scaler.transform(X)).all()


def test_where_pixels_stand_does_not_matter_to_channels():
    X = images()
    moved = X[:, ::-1].swapaxes(1, 2)
    one, other = ImageScaler().fit(X), ImageScaler().fit(moved)
    np.testing.assert_allclose(other.mean_, one.mean_, rtol=2 * EPS, atol=16 * EPS)
    np.testing.assert_allclose(other.scale_, one.scale_, rtol=32 * EPS)


def test_channels_come_back():
    X = images()
    scaler = ImageScaler().fit(X)
    back = scaler.inverse_transform(scaler.transform(X))
    # A difference, quotient, product and sum, each rounded by half an eps of at most twice |x|max.
    np.testing.assert_allclose(back, X, rtol=0, atol=4 * EPS * np.abs(X).max())


# Both.


@BOTH
@pytest.mark.parametrize("n", [10, 100])
def test_flat_rows_are_images(model, n):
    X = images(n, (4, 3, 2))
    rows = X.reshape(n, -1)
    of_images = clone(model).fit(X)
    of_rows = clone(model).set_params(input_shape=(4, 3, 2)).fit(rows)
    expected = of_images.transform(X)
    for fitted in (of_images, of_rows):
        assert fitted.image_shape_ == (4, 3, 2)
        np.testing.assert_array_equal(fitted.transform(X), expected)
        np.testing.assert_array_equal(fitted.transform(rows), expected.reshape(n, -1))
        np.testing.assert_array_equal(
            fitted.inverse_transform(expected.reshape(n, -1)),
            fitted.inverse_transform(expected).reshape(n, -1),
        )
    if isinstance(model, ZCA):
        np.testing.assert_array_equal(ZCA().fit_transform(rows), expected.reshape(n, -1))


@BOTH
@pytest.mark.parametrize("n", [10, 100])
def test_float32_is_float64_rounded_once(model, n):
    X = images(n, (4, 3, 2)).astype(np.float32)
    single, double = clone(model).fit(X), clone(model).fit(X.astype(np.float64))
    np.testing.assert_array_equal(single.mean_, double.mean_)
    found, expected = single.transform(X), double.transform(X.astype(np.float64))
    assert found.dtype == np.float32
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    assert single.inverse_transform(found).dtype == np.float32


CONTAINERS = {
    "list": lambda X: X.tolist(),
    "uint8": lambda X: X.astype(np.uint8),
    "int64": lambda X: X.astype(np.int64),
    "float16": lambda X: X.astype(np.float16),
    "longdouble": lambda X: X.astype(np.longdouble),
    "object": lambda X: X.astype(object),
    "big-endian": lambda X: X.astype(">f8"),
    "fortran": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "torch": torch.from_numpy,
}


@BOTH
@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("n", [10, 100])
def test_containers(model, name, n):
    X = np.random.default_rng(2).integers(0, 200, (n, 4, 3, 2)).astype(np.float64)
    given = CONTAINERS[name](X)
    found = clone(model).fit(given).transform(given)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, clone(model).fit_transform(X))


@BOTH
def test_data_are_left_alone(model):
    X = images()
    before = X.copy()
    X.flags.writeable = False
    fitted = clone(model).fit(X)
    fitted.inverse_transform(fitted.transform(X))
    np.testing.assert_array_equal(X, before)


@BOTH
@pytest.mark.parametrize("n", [10, 100])
def test_blocks_move_results_by_rounding(model, n, monkeypatch):
    X = images(n, (4, 3, 2))
    expected = clone(model).fit_transform(X)
    monkeypatch.setattr(preparation, "_BLOCK", 7 * 24 + 5)
    found = clone(model).fit_transform(X)
    ridged = condition(X.reshape(n, -1), 0.1)
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=4 * EPS * ridged * np.abs(expected).max()
    )
    X[50:, 0] = np.nan
    X[9, 1, 2] = np.nan
    with pytest.raises(InvalidInputError, match="first in image 9"):
        clone(model).fit(X)


@BOTH
def test_copies_and_files(model):
    X = images()
    fitted = clone(model).set_params(input_shape=(5, 4, 3)).fit(X)
    assert clone(fitted).get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        clone(fitted).transform(X)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))


def test_tags():
    for model, rows in ((ZCA(), True), (ImageScaler(), False), (ImageScaler((5, 4, 3)), True)):
        tags = get_tags(model)
        assert (tags.input_tags.two_d_array, tags.input_tags.three_d_array) == (rows, True)
        assert tags.transformer_tags.preserves_dtype == ["float64", "float32"]


@BOTH
def test_names_of_features(model):
    X = images(shape=(2, 2))
    assert clone(model).fit(X).get_feature_names_out().tolist() == ["x0", "x1", "x2", "x3"]
    table = pd.DataFrame(X.reshape(30, -1), columns=list("abcd"))
    fitted = clone(model).set_params(input_shape=(2, 2)).fit(table)
    assert fitted.get_feature_names_out().tolist() == list("abcd")
    found = fitted.set_output(transform="pandas").transform(table)
    assert found.columns.tolist() == list("abcd")
    np.testing.assert_array_equal(found, clone(model).fit_transform(X).reshape(30, -1))


def test_one_after_the_other():
    X = images()
    both = make_pipeline(ImageScaler(), ZCA())
    expected = ZCA().fit_transform(ImageScaler().fit_transform(X))
    np.testing.assert_array_equal(both.fit(X).transform(X), expected)
    back = both.inverse_transform(expected)
    # As above: the condition's root is below 20, values are below 40.
    np.testing.assert_allclose(back, X, rtol=0, atol=8 * EPS * 20 * 40)


# What cannot be used.


def masked(X):
    return np.ma.array(X, mask=X > 20)


def with_value(value):
    def change(X):
        X = X.copy()
        X[4, 1, 2, 0] = value
        return X

    return change


BAD = {
    "NaN": (with_value(np.nan), r"NaN or infinity \(first in image 4\)"),
    "inf": (with_value(-np.inf), r"NaN or infinity \(first in image 4\)"),
    "wider": (lambda X: X * np.longdouble("1e400"), "NaN or infinity"),
    "NaN in a row": (
        lambda X: with_value(np.nan)(X).reshape(30, -1),
        r"NaN or infinity \(first in row 4\)",
    ),
    "no image": (lambda X: X[:0], "0 sample"),
    "no pixel": (lambda X: X[:, :0].reshape(30, 0), "0 feature"),
    "one row": (lambda X: X[0].ravel(), "Expected 2D array"),
    "a number": (lambda X: 3.0, "Expected 2D array"),
    "masked": (masked, "masked"),
    "dates": (lambda X: X.astype("datetime64[s]"), "dates"),
    "text": (lambda X: X.astype(str), "real numbers"),
    "text in rows": (lambda X: X.reshape(30, -1).astype(str), "real numbers"),
    "text in a table": (
        lambda X: (
            pd.DataFrame(X.reshape(30, -1)).astype(object).replace({0: {X[0, 0, 0, 0]: "red"}})
        ),
        "Column 0 of X holds text such as 'red'",
    ),
    "complex": (lambda X: X * 1j, "real numbers"),
    "ragged": (lambda X: [[1.0, 2.0], [3.0]], "rectangular"),
}


@BOTH
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", BAD)
def test_bad_data(model, name):
    change, message = BAD[name]
    X = images()
    fitted = clone(model).set_params(input_shape=(5, 4, 3)).fit(X)
    with pytest.raises(InvalidInputError, match=message):
        fitted.transform(change(X))
    with pytest.raises(InvalidInputError, match=message):
        fitted.inverse_transform(change(X))
    if name != "no pixel":  # of another shape there
        with pytest.raises(InvalidInputError, match=message):
            fitted.fit(change(X))
        with pytest.raises(NotFittedError):
            fitted.transform(X)


@BOTH
def test_no_pixel_and_sparse_rows(model):
    with pytest.raises(InvalidInputError, match="0 feature"):
        clone(model).fit(images()[:, :0])
    with pytest.raises(TypeError, match="dense data is required"):
        clone(model).set_params(input_shape=(5, 4, 3)).fit(csr_array(np.eye(60)))


@BOTH
@pytest.mark.parametrize(
    "shape", [3, "543", (), (60,), (5, 4, 0), (5, -4, 3), (5.0, 4, 3), (True, 20, 3)]
)
def test_bad_input_shapes(model, shape):
    with pytest.raises(InvalidInputError, match="input_shape must be the shape of one image"):
        clone(model).set_params(input_shape=shape).fit(images())


@BOTH
def test_other_shapes(model):
    X = images()
    given = clone(model).set_params(input_shape=(4, 5, 3))
    with pytest.raises(InvalidInputError, match=r"\(5, 4, 3\), but input_shape is \(4, 5, 3\)"):
        given.fit(X)
    with pytest.raises(InvalidInputError, match=r"59 numbers in a row.*\(4, 5, 3\) have 60"):
        given.fit(X.reshape(30, -1)[:, :59])
    fitted = clone(model).fit(X)
    for other in (X.swapaxes(1, 2), X.reshape(30, 20, 3), X[..., :2], X[..., None]):
        with pytest.raises(InvalidInputError, match=r"fitted on images of shape \(5, 4, 3\)"):
            fitted.transform(other)
    with pytest.raises(InvalidInputError, match=r"X has 59 features, but .* expecting 60"):
        fitted.transform(X.reshape(30, -1)[:, :59])


def test_rows_without_a_shape():
    X = images()
    with pytest.raises(InvalidInputError, match=r"rows of 60 numbers.*input_shape="):
        ImageScaler().fit(X.reshape(30, -1))
    fitted = ZCA().fit(X.reshape(30, -1))
    assert fitted.image_shape_ is None
    with pytest.raises(InvalidInputError, match=r"pass rows, or fit with input_shape=\(5, 4, 3\)"):
        fitted.transform(X)


@BOTH
def test_numbers_beyond_float64(model):
    with pytest.raises(InvalidInputError, match=r"X reaches 1e\+308, too large to add up"):
        clone(model).fit(np.sign(images() - 11) * 1e308)
    X = images().astype(np.float32)
    fitted = clone(model).fit(X / 1000)
    with pytest.raises(InvalidInputError, match=r"X reaches 3e\+38.*beyond float32.*units"):
        fitted.transform(np.full((1, 5, 4, 3), 3e38, dtype=np.float32))
