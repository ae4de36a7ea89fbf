"""Linear networks, whose tangent kernel never moves, trained by loops and matrix exponentials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from kernreg.solvers.eigh import EighState
from kernreg.theory.training import Dynamics, Ensemble, MatrixFree, along_modes

Floats = np.ndarray


@dataclass(frozen=True)
class Linear:
    """``f(x) = f0(x) + features(x) theta``; f0 has the covariance of ``start``.

    The loss is ``sum_i w_i (f(x_i) - y_i)^2 / 2 + ridge theta^2 / 2``.
    """

    features: Floats
    new: Floats
    start: Floats
    start_new: Floats
    weights: Floats
    ridge: float
    noise: float

    @property
    def train(self) -> Floats:
        return self.features @ self.features.T

    @property
    def prior(self) -> Floats:
        return self.start @ self.start.T

    @property
    def between(self) -> Floats:
        return self.new @ self.features.T

    @property
    def prior_between(self) -> Floats:
        return self.start_new @ self.start.T

    @property
    def own(self) -> Floats:
        return self.start_new @ self.start_new.T

    @property
    def largest(self) -> float:
        """Largest curvature of the loss."""
        weighted = self.features * np.sqrt(self.weights)[:, None]
        return float(np.linalg.norm(weighted, 2) ** 2 + self.ridge)

    def ensemble(self, dynamics: Dynamics) -> Ensemble:
        root = np.sqrt(self.weights)
        weighted = root[:, None] * self.train * root
        modes = EighState(*np.linalg.eigh(weighted), ridge=self.ridge, root_weights=root)
        return Ensemble(modes, dynamics, along_modes(modes, self.prior), self.noise)

    def matrix_free(self, dynamics: Dynamics, tol: float = 1e-11) -> MatrixFree:
        return MatrixFree(
            lambda V: self.train @ V,
            lambda V: self.prior @ V,
            dynamics,
            np.sqrt(self.weights),
            self.ridge,
            self.noise,
            tol,
        )

    def trained(self, targets: Floats, dynamics: Dynamics, time: float) -> Floats:
        """Weights after training, for the columns of ``targets`` less f0, by definition."""
        push = self.features.T @ (self.weights[:, None] * targets)
        p = len(push)
        curvature = self.features.T @ (self.weights[:, None] * self.features)
        curvature = curvature + self.ridge * np.eye(p)
        if dynamics.discrete:
            theta, move = np.zeros_like(push), np.zeros_like(push)
            for _ in range(int(time)):
                step = dynamics.learning_rate * (push - curvature @ theta)
                move = dynamics.momentum * move + step
                theta = theta + move
            return theta
        # theta, its velocity and the constant push as one linear equation.
        rate, eye, none = dynamics.learning_rate, np.eye(p), np.zeros((p, p))
        if dynamics.momentum:
            slope = np.block(
                [
                    [none, eye, none],
                    [-rate * curvature, (dynamics.momentum - 1) * eye, rate * eye],
                    [none, none, none],
                ]
            )
        else:
            slope = np.block([[-rate * curvature, rate * eye], [none, none]])
        return scipy.linalg.expm(slope * time)[:p, -p:] @ push

    def response(self, dynamics: Dynamics, time: float) -> Floats:
        """A of ``f(x_new) = f0(x_new) + A (y - f0(X))``."""
        return self.new @ self.trained(np.eye(len(self.features)), dynamics, time)

    def covariance(self, dynamics: Dynamics, time: float) -> Floats:
        """Of ``f0(x_new) - A (f0(X) - noise)``, as a sum of squares."""
        moved = self.response(dynamics, time)
        root = self.start_new - moved @ self.start
        noisy = moved * np.sqrt(self.noise / self.weights)
        return root @ root.T + noisy @ noisy.T


def linear(
    seed: int,
    n: int = 7,
    m: int = 4,
    rank: int = 9,
    *,
    weighted: bool = False,
    ridge: float = 0.0,
    noise: float = 0.0,
) -> Linear:
    """A random one; ``rank`` below n makes its tangent kernel singular."""
    rng = np.random.default_rng(seed)
    features, new = rng.standard_normal((n, rank)), rng.standard_normal((m, rank))
    start, start_new = rng.standard_normal((n, n + m)), rng.standard_normal((m, n + m))
    weights = rng.uniform(0.3, 3.0, n) if weighted else np.ones(n)
    return Linear(features, new, start, start_new, weights, ridge, noise)
