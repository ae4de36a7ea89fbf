"""Results are never written over the data that they are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernreg import KernelOperator, gram, nn
from kernreg.exceptions import InvalidInputError
from kernreg.operators.outputs import check_apart

NET = nn.mlp(depth=1)
N, D = 7, 3


def room(width=20):
    return np.random.default_rng(0).standard_normal((N, width))


def as_given(array, torch_too):
    return torch.from_numpy(array) if torch_too else array


@pytest.mark.parametrize("torch_too", [False, True])
@pytest.mark.parametrize("start", range(D + N))
def test_gram_beside_and_across_the_rows(start, torch_too):
    """In one array, from wholly across to wholly beside."""
    whole = room()
    X, out = whole[:, :D], whole[:, start : start + N]
    expected, before = gram(NET, X.copy()), whole.copy()
    X, out = as_given(X, torch_too), as_given(out, torch_too)
    if start >= D:
        gram(NET, X, out=out)
        assert np.array_equal(np.asarray(out), expected)
        assert np.array_equal(whole[:, :D], before[:, :D])
        return
    with pytest.raises(InvalidInputError, match="out shares memory with the data"):
        gram(NET, X, out=out)
    assert np.array_equal(whole, before)


def test_either_side():
    X, other = room(D), room(N)
    for sides in ((X, other[:4, :D]), (other[:, :D], X)):
        out = other[:, : len(sides[1])]
        with pytest.raises(InvalidInputError, match="shares memory"):
            gram(NET, *sides, out=out)


def test_rows_that_are_copied_for_their_layout():
    """A view backwards, or of a frame: the data of the caller would change all the same."""
    whole = room(N)
    for X in (whole[::-1, :D], whole[:, D - 1 :: -1]):
        before = whole.copy()
        with pytest.raises(InvalidInputError, match="shares memory"):
            gram(NET, X, out=whole)
        assert np.array_equal(whole, before)


def test_two_results():
    X, whole = room(D), room(2 * N - 1)
    with pytest.raises(InvalidInputError, match="shares memory"):
        gram(NET, X, kernel=("ntk", "nngp"), out=(whole[:, :N], whole[:, N - 1 :]))
    whole = room(2 * N)
    gram(NET, X, kernel=("ntk", "nngp"), out=(whole[:, :N], whole[:, N:]))
    assert np.array_equal(whole[:, N:], gram(NET, X, kernel="nngp"))


@pytest.mark.parametrize("step", [0, 1, N - 1])
@pytest.mark.parametrize("torch_too", [False, True])
def test_rows_of_a_result_that_share_memory(step, torch_too):
    flat = np.zeros(N * N)
    out = np.lib.stride_tricks.as_strided(flat, (N, N), (8 * step, 8))
    if torch_too:
        out = torch.from_numpy(flat).as_strided((N, N), (step, 1))
    with pytest.raises(InvalidInputError, match="rows of out share memory"):
        gram(NET, room(D), out=out)
    assert not flat.any()


@pytest.mark.parametrize("call", ["tile", "lower_panel", "to_dense"])
def test_operators(call):
    whole = room(N)
    operator = KernelOperator(NET, whole[:, :D])
    before, expected = whole.copy(), operator.to_dense()
    arguments = {"tile": (slice(0, N), slice(0, N)), "lower_panel": (0, N), "to_dense": ()}[call]
    with pytest.raises(InvalidInputError, match="shares memory"):
        getattr(operator, call)(*arguments, out=whole)
    assert np.array_equal(whole, before)
    assert np.array_equal(operator.to_dense(), expected)


def test_what_is_no_array_shares_nothing():
    check_apart(np.zeros((2, 2)), None, [[1.0]], "text", np.zeros(0))
    check_apart(np.zeros((0, 3)), np.zeros(3))
