"""The profile pass: a network that sees only the angle becomes one function of the angle.

Where the coefficients of all layers are the same for all rows (inputs of one norm, or homogeneous
layers without biases), the kernel is a function of ``theta = acos(rho)`` alone. It is analytic in
``theta`` on [0, pi], so a Chebyshev series in ``theta`` replaces any number of layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Profile", "fit_profile"]

Function = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]


@dataclass(frozen=True)
class Profile:
    """Chebyshev series in ``1 - 2 theta / pi``.

    Parameters
    ----------
    coefficients : ndarray of shape (2, terms)
        Of the correlation and of the normalised tangent kernel.
    error : float
        Largest deviation seen at test angles, relative to the value at ``theta = 0``.
    """

    coefficients: NDArray[np.float64]
    error: float


def fit_profile(f: Function, tol: float, depth: int, max_terms: int = 4096) -> Profile | None:
    """Fit a Chebyshev series to a kernel as a function of the angle.

    Parameters
    ----------
    f : callable
        Maps angles of shape (m,) to values of shape (2, m).
    tol : float
        Largest error allowed, relative to the value at angle 0.
    depth : int
        Number of layers; the first try has about ``16 sqrt(depth)`` terms.
    max_terms : int
        Give up beyond.

    Returns
    -------
    Profile or None
        None if ``max_terms`` are not enough.

    Notes
    -----
    The nearest singularity of a ReLU network of depth L lies about ``3 pi / L`` beyond 0.

    Examples
    --------
    >>> import numpy as np
    >>> profile = fit_profile(lambda t: np.stack([np.cos(t), np.sin(t)]), 1e-12, depth=1)
    >>> profile.error < 1e-12
    True
    """
    import numpy as np
    from scipy.fft import dct

    tests = np.concatenate(
        [np.linspace(0.0, np.pi, 401), np.logspace(-7, 0, 200), np.pi - np.logspace(-7, 0, 100)]
    )
    terms = 16
    while terms < 16 * depth**0.5:
        terms *= 2
    # The first nodes and the tests in one call: it is the layers that cost time.
    values = f(np.concatenate([tests, _nodes(terms)]))
    expected, samples = values[:, : len(tests)], values[:, len(tests) :]
    scale = np.abs(expected[:, :1])
    scale[scale == 0] = 1.0
    while terms <= max_terms:
        c = dct(samples, type=2, axis=1) / terms
        c[:, 0] *= 0.5
        # Coefficients below a tenth of the tolerance carry nothing but rounding.
        tail = np.cumsum(np.abs(c[:, ::-1]) / scale, axis=1)[:, ::-1].max(axis=0)
        keep = max(2, int(np.count_nonzero(tail > 0.1 * tol)))
        if keep < terms:
            series = np.polynomial.chebyshev.chebval(1.0 - 2.0 * tests / np.pi, c[:, :keep].T)
            error = float((np.abs(series - expected) / scale).max())
            if error <= tol:
                # Equal rows, at angle 0, are exact: there all T_k are 1.
                c[:, 0] += expected[:, 0] - c[:, :keep].sum(axis=1)
                return Profile(np.ascontiguousarray(c[:, :keep]), error)
        terms *= 2
        samples = f(_nodes(terms))
    return None


def _nodes(terms: int) -> NDArray[np.float64]:
    """Angles of the Chebyshev nodes of the first kind."""
    import numpy as np

    return 0.5 * np.pi * (1.0 - np.cos(np.pi * (np.arange(terms) + 0.5) / terms))
