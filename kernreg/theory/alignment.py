"""How well a kernel fits a task before training: alignment, power in the leading modes, a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.nn import Layer
from kernreg.solvers import Eigh
from kernreg.theory.checks import check_count
from kernreg.theory.eigenlearning.errors import eigenlearning
from kernreg.theory.eigenlearning.finite_pool import errors_from_points, errors_from_spectrum
from kernreg.theory.eigenlearning.problem import (
    absolute_ridge,
    as_targets,
    decompose,
    kernel_matrix,
)
from kernreg.theory.eigenlearning.spectra import spectrum_of
from kernreg.theory.eigenlearning.spectrum import Spectrum
from kernreg.wording import aligned

__all__ = ["Comparison", "compare", "cumulative_power", "kernel_alignment", "target_alignment"]

Array = NDArray[np.float64]

_ADVICE = """\
Errors are shares of the target's variance. Rank architectures by them, not by CKA or KTA: kernels
with global average pooling have lower CKA than those without, yet are more accurate at scale.
KTA mostly measures the constant mode. At another n the order can change."""


def kernel_alignment(K1: Any, K2: Any, *, centered: bool = True) -> float:
    """Cosine between two kernel matrices on the same points.

    Parameters
    ----------
    K1, K2 : ndarray of shape (n, n)
        Kernel matrices.
    centered : bool
        Centre both first, which gives CKA; uncentred, two matrices of positive entries are
        aligned because of their means.

    Returns
    -------
    float
        Between 0 and 1 for positive semidefinite matrices.

    Raises
    ------
    InvalidInputError
        If the matrices do not fit together, or one is zero (after centring).

    Notes
    -----
    O(n^2).

    References
    ----------
    Cortes, Mohri, Rostamizadeh, Algorithms for learning kernels based on centered alignment
    (2012); Kornblith et al., Similarity of neural network representations revisited (2019).

    Examples
    --------
    >>> round(kernel_alignment(np.eye(3), np.eye(3) + 1.0), 12)
    1.0
    """
    first, second = (_prepared(kernel_matrix(K, None, "ntk"), centered) for K in (K1, K2))
    if first.shape != second.shape:
        raise InvalidInputError(
            f"both kernel matrices must be of the same points, found shapes {first.shape} and "
            f"{second.shape}."
        )
    return _cosine(float(np.sum(first * second)), np.linalg.norm(first), np.linalg.norm(second))


def target_alignment(
    net: Any, X: Any, y: Any, *, centered: bool = True, kernel: str = "ntk"
) -> float:
    """Cosine between a kernel matrix and that of the targets, ``Y Y^T``.

    Parameters
    ----------
    net : Layer or ndarray of shape (n, n)
        A network, or a kernel matrix and then ``X=None``.
    X : array of shape (n, d) or None
        Inputs.
    y : array of shape (n,) or (n, t)
        Targets; text, booleans and whole numbers of shape (n,) are labels, one output per class.
    centered : bool
        Centre both (CKA). Uncentred (KTA), the constant mode dominates.
    kernel : {"ntk", "nngp"}
        Which kernel of the network.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    InvalidInputError
        If data cannot be used, or the targets are constant.

    Notes
    -----
    O(n^2 t). It weighs modes by the square of their eigenvalues, so a few leading ones decide,
    while the test error at larger n depends on the others: do not rank architectures by it.
    Kernels with global average pooling have lower alignment than those that flatten, yet are
    known to be more accurate at scale.

    References
    ----------
    Cristianini et al., On kernel-target alignment (2001); Cortes, Mohri, Rostamizadeh (2012).

    Examples
    --------
    >>> labels = ["a", "a", "b", "b"]
    >>> round(target_alignment(np.kron(np.eye(2), np.ones((2, 2))), None, labels), 6)
    1.0
    """
    K = kernel_matrix(net, X, kernel)
    return _target_alignment(K, as_targets(y, len(K)), centered)


def cumulative_power(spectrum: Spectrum) -> Array:
    """Share of the target's power in the leading levels.

    Parameters
    ----------
    spectrum : Spectrum
        With power, such as that of :func:`kernreg.theory.eigenlearning.sample_spectrum`.

    Returns
    -------
    ndarray of shape (m,)
        Entry k - 1 is the share in the k levels with the largest eigenvalues. Levels of eigenvalue
        0, which have no order, count together and last.

    Raises
    ------
    InvalidInputError
        If the spectrum has no power, or it is zero.

    References
    ----------
    Canatar, Bordelon, Pehlevan, Spectral bias and task-model alignment, Nature Communications 12
    (2021).

    Examples
    --------
    >>> cumulative_power(Spectrum([1.0, 4.0, 2.0], power=[1.0, 2.0, 1.0]))
    array([0.5 , 0.75, 1.  ])
    """
    total = 0.0 if spectrum.power is None else float(spectrum.power.sum()) + spectrum.tail_power
    if spectrum.power is None or not total:
        raise InvalidInputError("the spectrum has no target: its power is missing or zero.")
    order = np.argsort(-spectrum.values, kind="stable")
    power = np.where(spectrum.values[order] > 0, spectrum.power[order], 0.0)
    power[-1] += spectrum.power[spectrum.values <= 0].sum()
    return np.asarray(np.cumsum(power) / total)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Kernels on one data set; ``str()`` gives the table.

    Parameters
    ----------
    names : tuple of str
        One per kernel; the arrays below follow it.
    cka, kta : ndarray of shape (m,)
        Centred and uncentred alignment with the targets.
    top_power : ndarray of shape (m,)
        Share of the target's variance in the ``top`` leading modes.
    learnability : ndarray of shape (m,)
        Learnability of the target from n points.
    test : ndarray of shape (m,)
        Predicted test error of training on n points, as a share of the target's variance.
    loo : ndarray of shape (m,)
        Leave-one-out error of training on all points, as such a share.
    n, top : int
        Training points for ``learnability`` and ``test``; modes for ``top_power``.

    Examples
    --------
    >>> from kernreg import nn
    >>> X = np.random.default_rng(0).normal(size=(40, 2))
    >>> nets = {"linear": nn.Dense(), "shallow": nn.mlp(depth=1)}
    >>> found = compare(nets, X, X[:, 0] * X[:, 1], alpha=0.1)
    >>> found.names[found.loo.argmin()], found.loo.round(2).tolist()
    ('shallow', [1.04, 0.12])
    """

    names: tuple[str, ...]
    cka: Array
    kta: Array
    top_power: Array
    learnability: Array
    test: Array
    loo: Array
    n: int
    top: int

    def __str__(self) -> str:
        head = (
            "kernel",
            "CKA",
            "KTA",
            f"power in {self.top} modes",
            f"learnability n={self.n}",
            f"test n={self.n}",
            "leave-one-out",
        )
        columns = (self.cka, self.kta, self.top_power, self.learnability, self.test, self.loo)
        rows = [
            (name, *(f"{float(column[i]):.4f}" for column in columns))
            for i, name in enumerate(self.names)
        ]
        return "\n".join([*aligned(head, rows, numbers=True), _ADVICE])


def compare(
    nets: Mapping[str, Any] | Sequence[Any],
    X: Any,
    y: Any,
    alpha: float = 1e-3,
    *,
    alpha_scale: str = "mean_diag",
    kernel: str = "ntk",
    n: int | None = None,
    top: int = 10,
) -> Comparison:
    """Compare architectures on a data set, without training.

    Parameters
    ----------
    nets : mapping from names, or sequence
        Networks, or kernel matrices of shape (N, N) of the same points.
    X : array of shape (N, d) or None
        Inputs; None if all are matrices.
    y : array of shape (N,) or (N, t)
        Targets; text, booleans and whole numbers of shape (N,) are labels, one output per class.
        They are centred.
    alpha : float
        Ridge, relative to the mean diagonal of each kernel matrix.
    alpha_scale : {"mean_diag", "absolute"}
        What ``alpha`` is relative to.
    kernel : {"ntk", "nngp"}
        Which kernel of the networks.
    n : int, optional
        Training points for the predicted test error; half of the points if left out.
    top : int
        Number of leading modes.

    Returns
    -------
    Comparison

    Raises
    ------
    InvalidInputError
        If data or arguments cannot be used, or the targets are constant.

    Notes
    -----
    About 25 N^3 operations for each kernel. Rank by ``test`` or ``loo``, not by ``cka``: kernels
    with global average pooling have lower CKA than those that flatten (on 120 CIFAR-10 images
    0.116 against 0.216), yet are known to be more accurate at scale. ``kta`` mostly measures the
    constant mode. An order at this n need not be that at a larger one, and ``alpha`` should suit
    each kernel.

    Examples
    --------
    >>> from kernreg import nn
    >>> X = np.random.default_rng(0).normal(size=(80, 2))
    >>> y = np.sign(X[:, 0] * X[:, 1])
    >>> nets = {"linear": nn.Dense(), "deep": nn.mlp(depth=3)}
    >>> found = compare(nets, X, y, alpha=0.1)
    >>> bool(found.test[1] < found.test[0])
    True
    """
    named = dict(nets) if isinstance(nets, Mapping) else None
    one = isinstance(nets, Layer | str)
    items = list(named.values()) if named is not None else [nets] if one else list(nets)
    names = tuple(map(str, named)) if named is not None else tuple(map(_name, items))
    if not items:
        raise InvalidInputError("expected at least one network or kernel matrix, found none.")
    top = check_count("top", top, 1)
    rows = []
    for item in items:
        K = kernel_matrix(item, X if isinstance(item, Layer | str) else None, kernel)
        Y = as_targets(y, len(K))
        size = len(K) // 2 if n is None else check_count("n", n, 1)
        if size >= len(K):
            raise InvalidInputError(
                f"n must leave points to test on: it is {size} of {len(K)} points."
            )
        rows.append(_measures(K, Y, absolute_ridge(alpha, alpha_scale, K), size, top))
    cka, kta, power, learnability, test, loo = np.array(rows).T
    return Comparison(names, cka, kta, power, learnability, test, loo, size, top)


def _measures(K: NDArray[Any], Y: Array, ridge: float, n: int, top: int) -> tuple[float, ...]:
    """CKA, KTA, power, learnability, test and leave-one-out error."""
    alignments = [_target_alignment(K, Y, centered) for centered in (True, False)]
    Y = _centred(Y)
    state = decompose(K)
    spectrum = spectrum_of(state, Y)
    power = cumulative_power(spectrum)
    kappa = errors_from_spectrum(spectrum, n, ridge).kappa
    test = errors_from_points(K, Y, n, ridge, kappa=kappa).test
    residuals = Eigh().path(state, Y, np.array([ridge])).loo_residuals[0]
    variance = float(np.mean(np.sum(Y**2, axis=1)))
    return (
        *alignments,
        float(power[min(top, len(power)) - 1]),
        eigenlearning(spectrum, n, ridge).learnability,
        test / variance,
        float(np.mean(np.sum(residuals**2, axis=1))) / variance,
    )


def _prepared(K: NDArray[Any], centered: bool) -> Array:
    K = K.astype(np.float64, copy=False)
    if not centered:
        return K
    means = K.mean(axis=0)
    return _unless_rounding(K - means - means[:, None] + means.mean(), K)


def _centred(Y: Array) -> Array:
    return _unless_rounding(Y - Y.mean(axis=0), Y)


def _unless_rounding(centred: Any, given: Array) -> Array:
    """What is centred, or zero where only the rounding of a constant is left of it."""
    rounding = 4.0 * np.finfo(np.float64).eps * np.linalg.norm(given)
    return np.asarray(centred if np.linalg.norm(centred) > rounding else centred * 0.0)


def _target_alignment(K: NDArray[Any], Y: Array, centered: bool) -> float:
    if centered:
        Y = _centred(Y)
    K = _prepared(K, centered)
    return _cosine(float(np.sum(Y * (K @ Y))), np.linalg.norm(K), np.linalg.norm(Y.T @ Y))


def _cosine(product: float, first: Any, second: Any) -> float:
    if not first > 0 or not second > 0:
        raise InvalidInputError(
            "alignment needs a kernel matrix and targets that vary over the points, found one "
            "that is zero or constant."
        )
    return float(product / (first * second))


def _name(item: Any) -> str:
    return repr(item) if isinstance(item, Layer) else f"matrix {np.shape(item)}"
