"""Data that cannot be used: an error that says what is wrong, and no half-fitted model."""

import numpy as np
import pandas as pd
import pytest

from kernreg import KernelClassifier, KernelRegressor, nn
from kernreg.exceptions import InvalidInputError, KernregError

NET = nn.mlp(depth=1)
RNG = np.random.default_rng(8)
X = RNG.standard_normal((20, 3))
Y = RNG.standard_normal(20)
LABELS = np.where(Y > 0, "a", "b")
TABLE = pd.DataFrame(X, columns=["height", "width", "depth"])


def changed(value, dtype=None):
    """X with one entry replaced."""
    result = X.astype(dtype or X.dtype)
    result[4, 1] = value
    return result


MATRICES = [
    (changed(np.nan), ValueError, "Input X contains NaN"),
    (changed(np.inf), ValueError, "Input X contains infinity"),
    (changed(-np.inf), ValueError, "Input X contains infinity"),
    (changed(np.nan, "float32"), ValueError, "Input X contains NaN"),
    (changed(None, object), ValueError, "Input X contains NaN"),
    (changed("red", object), InvalidInputError, "Column 1 of X holds text such as 'red'; expected"),
    (changed({}, object), TypeError, "must be a string or a real number, not 'dict'"),
    (X + 1j, ValueError, "Complex data not supported"),
    (X[:, 0], ValueError, r"(?s)Expected 2D array, got 1D array.*Reshape your data"),
    (X[None], ValueError, "the network has no layer for positions"),
    (X[:0], ValueError, r"Found array with 0 sample\(s\)"),
    (X[:, :0], ValueError, r"Found array with 0 feature\(s\)"),
    ([[1.0, 2.0], [3.0]], ValueError, "inhomogeneous shape"),
    (
        TABLE.assign(colour="red", width="1.5"),
        InvalidInputError,
        r"Column 'colour' of X holds text such as 'red'; expected numbers.*OneHotEncoder, or drop",
    ),
    (TABLE.assign(width=np.nan), ValueError, "Input X contains NaN"),
]


@pytest.mark.parametrize(("data", "error", "message"), MATRICES)
@pytest.mark.parametrize("model", [KernelRegressor(NET), KernelClassifier(NET)])
def test_features(model, data, error, message):
    n = data.shape[0] if hasattr(data, "shape") else len(data)
    targets = LABELS if isinstance(model, KernelClassifier) else Y
    with pytest.raises(error, match=message):
        model.fit(data, targets[:n])
    assert not hasattr(model, "dual_coef_")


@pytest.mark.parametrize(("data", "error", "message"), MATRICES[:12])
def test_features_at_prediction(data, error, message):
    model = KernelRegressor(NET).fit(X, Y)
    if np.ndim(data) == 2 and np.shape(data)[1] == 0:
        message = "minimum of 1 is required"
    with pytest.raises(error, match=message):
        model.predict(data)


def test_text_in_a_table_is_named_everywhere():
    text = TABLE.assign(depth="deep")
    model = KernelRegressor(NET).fit(TABLE, Y)
    for call in (model.predict, model.explain, lambda data: model.fit(data, Y)):
        with pytest.raises(
            InvalidInputError, match="Column 'depth' of X holds text such as 'deep'"
        ):
            call(text)


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_number_of_features(columns):
    data = np.ones((5, columns))
    for model in (KernelRegressor(NET).fit(X, Y), KernelClassifier(NET).fit(X, LABELS)):
        name = type(model).__name__
        with pytest.raises(ValueError, match=f"X has {columns} features, but {name} is expecting"):
            model.predict(data)


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        (np.where(Y > 0, np.nan, Y), ValueError, "Input y contains NaN"),
        (np.where(Y > 0, np.inf, Y), ValueError, "Input y contains infinity"),
        (Y + 1j, ValueError, "Complex data not supported"),
        (LABELS, InvalidInputError, r"y holds text such as '[ab]'; .* with KernelClassifier"),
        (LABELS.astype(object), InvalidInputError, r"y holds text such as '[ab]'; expected"),
        (Y[:-1], ValueError, r"inconsistent numbers of samples: \[20, 19\]"),
        (np.ones((20, 0)), ValueError, "0 feature"),
        (np.ones((20, 2, 2)), ValueError, "dim"),
        (None, ValueError, "requires y to be passed"),
    ],
)
def test_targets(targets, error, message):
    with pytest.raises(error, match=message):
        KernelRegressor(NET).fit(X, targets)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Y, "Unknown label type: continuous"),
        (np.column_stack([Y > 0, Y < 0]), "y should be a 1d array"),
        (np.where(Y > 0, np.nan, 1.0), "Input y contains NaN"),
        (LABELS[:-1], "inconsistent numbers of samples"),
        (None, "requires y to be passed"),
    ],
)
def test_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        KernelClassifier(NET).fit(X, labels)


@pytest.mark.parametrize(
    ("labels", "shown"),
    [(np.repeat("a", 20), "'a'"), (np.ones(20, dtype=int), "1"), (np.zeros(20, bool), "False")],
)
def test_one_class(labels, shown):
    with pytest.raises(InvalidInputError, match="at least two classes, found one class") as caught:
        KernelClassifier(NET).fit(X, labels)
    assert f"one class: {shown} " in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, KernregError)


def test_one_class_among_rows_that_count():
    weights = (LABELS == "a").astype(float)
    with pytest.raises(InvalidInputError, match="rows of weight 0 do not count"):
        KernelClassifier(NET).fit(X, LABELS, sample_weight=weights)


def test_masked_values_of_a_table_are_missing_values():
    table = TABLE.assign(extra=pd.array([1.0, None] * 10, dtype="Float64"))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        KernelRegressor(NET).fit(table, Y)


@pytest.mark.parametrize(("scale", "dtype"), [(1e200, "float64"), (1e25, "float32")])
def test_kernel_that_overflows(scale, dtype):
    data = (X * scale).astype(dtype)
    with pytest.raises(InvalidInputError, match=f"overflows {dtype}.*smaller W_std"):
        KernelRegressor(NET).fit(data, Y)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_features_beyond_the_precision_asked_for():
    with pytest.raises(ValueError, match="too large for dtype\\('float32'\\)"):
        KernelRegressor(NET, dtype="float32").fit(X * 1e60, Y)


def test_a_failed_fit_leaves_the_old_model():
    model = KernelRegressor(NET).fit(X, Y)
    before = model.predict(X)
    with pytest.raises(InvalidInputError):
        model.set_params(backend="abacus").fit(X, 2 * Y)
    model.set_params(backend="auto")
    assert np.array_equal(model.predict(X), before)
