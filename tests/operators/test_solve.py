"""Solutions of kernel systems, and their gradients."""

import pytest
import torch
from torch.autograd import gradcheck

from kernreg import KernelOperator, gram, nn, solve
from kernreg.exceptions import InvalidInputError, NotPositiveDefiniteError

NET = nn.mlp(1, nn.Erf(), 1.2, 0.3)


@pytest.fixture
def rows():
    torch.manual_seed(0)
    return torch.randn(5, 3, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def targets():
    torch.manual_seed(1)
    return torch.randn(5, 2, dtype=torch.float64, requires_grad=True)


def test_solution(rows, targets):
    K, ridge = gram(NET, rows.detach()), 0.3
    want = torch.linalg.solve(K + ridge * torch.eye(5, dtype=K.dtype), targets.detach())
    for given in (K, KernelOperator(NET, rows.detach())):
        found = solve(given, targets.detach(), ridge)
        torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)
        one = solve(given, targets.detach()[:, 0], ridge)
        torch.testing.assert_close(one, want[:, 0], rtol=1e-12, atol=1e-12)


def test_gradients_by_matrix_targets_and_ridge(targets):
    torch.manual_seed(2)
    A = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    ridge = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda A, y, r: solve(A @ A.T, y, r), (A, targets, ridge))


def test_gradients_by_rows(rows, targets):
    assert gradcheck(lambda X, y: solve(KernelOperator(NET, X), y, 0.2), (rows, targets))
    assert gradcheck(lambda X, y: solve(gram(NET, X), y, 0.2), (rows, targets))


def test_what_cannot_be_solved(rows, targets):
    K = gram(NET, rows.detach())
    with pytest.raises(InvalidInputError, match=r"symmetric matrix .* found shape \(5, 4\)"):
        solve(K[:, :4], targets, 0.1)
    with pytest.raises(InvalidInputError, match="operator of one set of rows"):
        solve(KernelOperator(NET, rows.detach(), rows.detach()), targets, 0.1)
    with pytest.raises(InvalidInputError, match=r"y must be a tensor of shape \(5,\)"):
        solve(K, targets[:3], 0.1)
    for ridge in (-1.0, float("nan"), torch.ones(2)):
        with pytest.raises(InvalidInputError, match="ridge must be one number"):
            solve(K, targets, ridge)
    with pytest.raises(NotPositiveDefiniteError, match="larger ridge"):
        solve(-K, targets, 0.0)
