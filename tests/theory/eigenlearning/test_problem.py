from __future__ import annotations

import numpy as np
import pytest
import torch

from kernreg import gram, nn
from kernreg.exceptions import InvalidInputError
from kernreg.theory.checks import check_number
from kernreg.theory.eigenlearning.problem import (
    absolute_ridge,
    as_targets,
    decompose,
    kernel_matrix,
)


@pytest.mark.parametrize("labels", [["b", "a", "b"], [2, 0, 2], [True, False, True]])
def test_labels_become_one_column_per_class(labels):
    np.testing.assert_array_equal(as_targets(labels, 3), [[0, 1], [1, 0], [0, 1]])
    if not isinstance(labels[0], str):
        np.testing.assert_array_equal(as_targets(torch.tensor(labels), 3)[0], [0, 1])


def test_floats_are_targets():
    np.testing.assert_array_equal(as_targets([1.0, 2.0], 2), [[1.0], [2.0]])
    np.testing.assert_array_equal(as_targets([[1, 2], [3, 4]], 2), [[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.arange(10), "taken for labels"),
        (["a", "b"], "10 labels"),
        (np.full(10, np.nan), "NaN"),
        (np.ones(9), "shape"),
        (np.ones((10, 1, 1)), "shape"),
        (np.array([1, "a"] * 5, dtype=object), "several types"),
    ],
)
def test_bad_targets(y, message):
    with pytest.raises(InvalidInputError, match=message):
        as_targets(y, 10)


def test_matrix_of_a_network():
    X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    matrix = kernel_matrix(nn.mlp(), X, "nngp")
    assert matrix.dtype == np.float64
    np.testing.assert_array_equal(matrix, gram(nn.mlp(), X, kernel="nngp", dtype="float64"))
    np.testing.assert_array_equal(matrix, kernel_matrix(nn.mlp(), torch.from_numpy(X), "nngp"))


def test_given_matrix_keeps_its_precision():
    assert kernel_matrix(np.eye(2, dtype=np.float32), None, "ntk").dtype == np.float32
    assert kernel_matrix([[2, 1], [1, 2]], None, "ntk").dtype == np.float64


@pytest.mark.parametrize(
    ("net", "X", "message"),
    [
        (nn.mlp(), None, "X is missing"),
        (nn.mlp(), np.full((2, 2), np.nan), "NaN"),
        (np.eye(2), np.eye(2), "X=None"),
        (np.ones((2, 3)), None, "shape"),
        (np.ones((0, 0)), None, "shape"),
        ("relu", None, "shape"),
        (np.array([[1.0, np.inf], [np.inf, 1.0]]), None, "NaN or infinity"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), None, "not symmetric"),
    ],
)
def test_bad_matrix(net, X, message):
    with pytest.raises(InvalidInputError, match=message):
        kernel_matrix(net, X, "ntk")


def test_rounding_of_the_dtype_hides_eigenvalues():
    matrix = np.diag([1.0, 1e-7])
    assert decompose(matrix).values[0] == 1e-7
    assert decompose(matrix.astype(np.float32)).values[0] == 0.0


def test_ridge():
    assert absolute_ridge(0.5, "mean_diag", np.diag([1.0, 3.0])) == 1.0
    assert absolute_ridge(0.5, "absolute", np.diag([1.0, 3.0])) == 0.5
    with pytest.raises(InvalidInputError, match="alpha_scale"):
        absolute_ridge(0.5, "trace", np.eye(2))
    with pytest.raises(InvalidInputError, match="alpha must"):
        absolute_ridge(-0.5, "absolute", np.eye(2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -1, 0.0, "1", True, None])
def test_not_a_number_above_zero(value):
    with pytest.raises(InvalidInputError, match="n must be a finite number > 0"):
        check_number("n", value, strict=True)
