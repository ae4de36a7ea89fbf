"""Errors and warnings of kernreg.

Every error is a :class:`KernregError` and also the builtin that a caller would expect, so that
``except ValueError`` keeps working.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "BackendError",
    "BackendWarning",
    "CheckpointError",
    "ConvergenceWarning",
    "DiskSpaceError",
    "DistributedError",
    "InvalidInputError",
    "JitterWarning",
    "KernregError",
    "MemoryBudgetError",
    "ModelFileError",
    "NetworkError",
    "NotPositiveDefiniteError",
    "RoundingWarning",
    "StoreError",
    "UnknownOperationError",
]


class KernregError(Exception):
    """Base of all errors that kernreg raises on purpose.

    Examples
    --------
    >>> import kernreg
    >>> try:
    ...     kernreg.gram("mlp(depth=-1)", [[1.0]])
    ... except KernregError as error:
    ...     print(type(error).__name__, isinstance(error, ValueError))
    NetworkError True
    """


class InvalidInputError(KernregError, ValueError):
    """Data or an argument that cannot be used: wrong shape, NaN, unknown name.

    Examples
    --------
    >>> import kernreg
    >>> kernreg.gram("mlp(depth=1)", [[1.0, float("nan")]])
    Traceback (most recent call last):
    ...
    kernreg.exceptions.InvalidInputError: X1 contains NaN or infinity (first in row 0); drop or ...
    """


class NetworkError(KernregError, ValueError):
    """A network description that does not fit together; raised when it is built.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Dense(W_std=-1.0)
    Traceback (most recent call last):
    ...
    kernreg.exceptions.NetworkError: Dense: W_std must be a finite number > 0, found -1.0.
    """


class ArgumentError(NetworkError, TypeError):
    """A layer was given an argument that it does not have, or lacks one.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Dense(width=512)
    Traceback (most recent call last):
    ...
    kernreg.exceptions.ArgumentError: Dense: got an unexpected keyword argument 'width'; ...
    """


class BackendError(KernregError, NotImplementedError):
    """A backend that was asked for by name cannot run this program.

    Examples
    --------
    >>> import kernreg
    >>> kernreg.gram("mlp(depth=1)", [[1.0, 2.0]], backend="cuda")
    Traceback (most recent call last):
    ...
    kernreg.exceptions.BackendError: backend='cuda' cannot run this: ...
    """


class UnknownOperationError(NetworkError, NotImplementedError):
    """A pass over a network meets an operation that it has no rule for.

    Examples
    --------
    >>> from kernreg import nn
    >>> from kernreg.theory.inverse import kernel_coefficients
    >>> kernel_coefficients(nn.serial(nn.Dense(), nn.Dropout(0.5), nn.Dense()))
    Traceback (most recent call last):
    ...
    kernreg.exceptions.UnknownOperationError: Dropout(keep_prob=0.5): there is no rule for ...
    """


class MemoryBudgetError(KernregError, MemoryError):
    """The work does not fit the memory budget; raised before it starts.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelRegressor
    >>> model = KernelRegressor("mlp(depth=1)", solver="cholesky", max_memory="1MB")
    >>> model.fit(np.eye(1000), np.ones(1000))
    Traceback (most recent call last):
    ...
    kernreg.exceptions.MemoryBudgetError: cholesky needs 22.9 MB for n=1000 in float64, allowed ...
    """


class NotPositiveDefiniteError(KernregError, ArithmeticError):
    """A matrix has no Cholesky factor, even after the jitter ladder.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg.operators import MatrixOperator
    >>> from kernreg.solvers import Cholesky
    >>> Cholesky().init(MatrixOperator(-np.eye(3)), 0.1)
    Traceback (most recent call last):
    ...
    kernreg.exceptions.NotPositiveDefiniteError: the kernel matrix has no Cholesky factor: ...
    """


class ModelFileError(KernregError, ValueError):
    """A saved model that is truncated, foreign or of another version.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import kernreg
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "model"
    ...     count = path.write_text("something else")
    ...     kernreg.load(path)
    Traceback (most recent call last):
    ...
    kernreg.exceptions.ModelFileError: .../model is not a kernreg model, or it is truncated.
    """


class CheckpointError(KernregError, ValueError):
    """A checkpoint that is damaged, of another problem, or cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from kernreg import KernelRegressor
    >>> from kernreg.solvers import PCG
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "iterates"
    ...     count = path.write_text("something else")
    ...     KernelRegressor("mlp(depth=1)", solver=PCG(checkpoint=path)).fit(np.eye(3), np.ones(3))
    Traceback (most recent call last):
    ...
    kernreg.exceptions.CheckpointError: .../iterates is no checkpoint of kernreg, or what is ...
    """


class DistributedError(KernregError, RuntimeError):
    """Another process of the job failed or was lost, or does something else.

    Examples
    --------
    >>> from kernreg import distributed
    >>> distributed.agree(what=f"reads {rows} rows")  # doctest: +SKIP
    Traceback (most recent call last):
    ...
    kernreg.exceptions.DistributedError: the processes do different things: rank 0 ...
    """


class StoreError(KernregError, ValueError):
    """A store or a factor on disk that is incomplete, damaged, or of another network or data.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from kernreg.operators import KernelOperator, TileStore
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = TileStore.create(folder, KernelOperator("mlp(depth=1)", np.eye(3)))
    ...     store.operator()
    Traceback (most recent call last):
    ...
    kernreg.exceptions.StoreError: ... is incomplete: 1 of 1 tiles are to do. ...
    """


class DiskSpaceError(KernregError, OSError):
    """The work does not fit the disk; raised before it starts where that can be known.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from kernreg.operators import KernelOperator, TileStore
    >>> K = KernelOperator("mlp(depth=1)", np.ones((400_000, 1)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     TileStore.create(folder, K, tile=8192).write(K)
    Traceback (most recent call last):
    ...
    kernreg.exceptions.DiskSpaceError: ... needs ... GB of disk, ... GB are free: free some, or ...
    """


class BackendWarning(UserWarning):
    """A much slower backend is used than this machine could run.

    Examples
    --------
    >>> import warnings
    >>> import kernreg
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", BackendWarning)  # rather than hours
    ...     kernreg.gram("mlp(depth=1)", [[1.0, 2.0]]).shape
    (1, 1)
    """


class ConvergenceWarning(UserWarning):
    """A solver stopped before it reached its tolerance.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from kernreg.operators import MatrixOperator
    >>> from kernreg.solvers import PCG
    >>> solver = PCG(preconditioner=None, max_iter=1)
    >>> state = solver.init(MatrixOperator(np.diag([1.0, 2.0, 3.0])), 0.1)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", ConvergenceWarning)
    ...     solver.solve(state, np.ones(3))
    Traceback (most recent call last):
    ...
    kernreg.exceptions.ConvergenceWarning: conjugate gradients stopped at a relative residual of ...
    """


class JitterWarning(UserWarning):
    """A solver added more to the diagonal than it was asked to.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from kernreg.operators import MatrixOperator
    >>> from kernreg.solvers import Cholesky
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", JitterWarning)
    ...     Cholesky().init(MatrixOperator(np.ones((3, 3))), 0.0)
    Traceback (most recent call last):
    ...
    kernreg.exceptions.JitterWarning: the kernel matrix is not positive definite in float64: ...
    """


class RoundingWarning(UserWarning):
    """A ridge is so small that the rounding of the kernel's entries shows in what is fitted.

    Examples
    --------
    >>> import warnings
    >>> from kernreg import KernelRegressor
    >>> model = KernelRegressor("mlp(depth=1)", alpha=1e-12)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", RoundingWarning)
    ...     model.fit([[1.0], [1.0 + 1e-9]], [1.0, -1.0])
    Traceback (most recent call last):
    ...
    kernreg.exceptions.RoundingWarning: the ridge of 4e-12 is below the rounding of the float64 ...
    """
