"""The kernel in GPyTorch's exact processes, against kernreg's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import kernreg
from kernreg import gram, nn
from kernreg.exceptions import InvalidInputError

gpytorch = pytest.importorskip("gpytorch")
from kernreg.interop.gpytorch import NetworkKernel  # noqa: E402

RNG = np.random.default_rng(0)
X, Z = (torch.from_numpy(RNG.standard_normal((n, 3))) for n in (40, 15))
Y = torch.sin(X[:, 0]) + 0.1 * torch.from_numpy(RNG.standard_normal(40))
NET = nn.serial(nn.Dense(1.4, 0.3), nn.LeakyRelu(0.1), nn.Dense(1.2, 0.2))
NOISE = 0.05


class Process(gpytorch.models.ExactGP):  # type: ignore[misc]
    """A mean of 0 and the kernel."""

    def __init__(self, likelihood: Any, kernel: Any) -> None:
        super().__init__(X, Y, likelihood)
        self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), kernel

    def forward(self, x: torch.Tensor) -> Any:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def process(kernel: Any) -> tuple[Any, Any]:
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    likelihood.noise = NOISE
    return Process(likelihood, kernel).double(), likelihood


def ours(kind: str, net: nn.Layer = NET) -> kernreg.GaussianProcessRegressor:
    model = kernreg.GaussianProcessRegressor(
        net, kind, alpha=NOISE, alpha_scale="absolute", optimizer=None, fit_intercept=False
    )
    return model.fit(X.numpy(), Y.numpy())


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_evidence_and_its_gradient(kind: str) -> None:
    model, likelihood = process(NetworkKernel(NET, kind))
    evidence = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    model.train()
    value = evidence(model(X), Y) * len(X)  # theirs is the mean over rows
    value.backward()
    want, slopes = ours(kind).log_marginal_likelihood(eval_gradient=True)
    np.testing.assert_allclose(float(value.detach()), want, rtol=1e-6)
    kernel = model.covar_module
    names = ["log_0__W_std", "log_0__b_std", "1__slope", "log_2__W_std", "log_2__b_std"]
    found = [float(getattr(kernel, name).grad) for name in names]
    np.testing.assert_allclose(found, slopes[:-1], rtol=1e-6, atol=1e-6 * abs(want))


def test_posterior() -> None:
    model, _ = process(NetworkKernel(NET, learn=False))
    model.eval()
    with torch.no_grad():
        found = model(Z)
        mean, cov = found.mean, found.covariance_matrix
    wanted, covariance = ours("nngp").predict(Z.numpy(), return_cov=True)
    np.testing.assert_allclose(mean, wanted, atol=1e-6)
    np.testing.assert_allclose(cov, covariance, atol=1e-6)


def test_training_moves_the_numbers() -> None:
    model, likelihood = process(NetworkKernel(NET))
    evidence = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    model.train()
    steps = torch.optim.Adam(model.parameters(), lr=0.05)
    values = []
    for _ in range(25):
        steps.zero_grad()
        loss = -evidence(model(X), Y)
        loss.backward()
        steps.step()
        values.append(float(loss.detach()))
    assert values[-1] < values[0]
    trained = model.covar_module.network
    assert trained != NET
    np.testing.assert_allclose(
        model.covar_module(X).to_dense().detach(), gram(trained, X, kernel="nngp"), rtol=1e-12
    )


def test_diagonal_batches_and_rows() -> None:
    kernel = NetworkKernel(NET)
    rows = X[:6].clone().requires_grad_()
    K = kernel(rows).to_dense()
    diagonal = kernel(rows, diag=True)
    torch.testing.assert_close(diagonal, K.diagonal(), rtol=1e-12, atol=0)
    by_matrix = torch.autograd.grad(K.diagonal().sum(), [rows, *kernel.parameters()])
    by_diagonal = torch.autograd.grad(diagonal.sum(), [rows, *kernel.parameters()])
    for a, b in zip(by_matrix, by_diagonal, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
    batch = torch.stack([X[:6], X[6:12]])
    found = kernel(batch, Z).to_dense()
    assert found.shape == (2, 6, 15)
    torch.testing.assert_close(found[1], kernel(X[6:12], Z).to_dense())
    assert kernel(batch, diag=True).shape == (2, 6)
    other = kernel(X[:6], X[6:12], diag=True)
    torch.testing.assert_close(other, kernel(X[:6], X[6:12]).to_dense().diagonal())
    scaled = gpytorch.kernels.ScaleKernel(NetworkKernel(NET, active_dims=[0, 2])).double()
    scaled.outputscale = 2.0
    want = 2.0 * gram(NET, X[:, [0, 2]], kernel="nngp")
    torch.testing.assert_close(scaled(X).to_dense().detach(), want)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: NetworkKernel(NET, "nntk"), "found 'nntk'"),
        (lambda: NetworkKernel(3), "network"),
        (lambda: NetworkKernel(NET)(X, last_dim_is_batch=True).to_dense(), "whole rows"),
    ],
)
def test_refusals(call: Any, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        call()
