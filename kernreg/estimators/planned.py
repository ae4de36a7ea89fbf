"""How a model comes to its operator, its plan and its ridge."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import check_array

from kernreg import nn
from kernreg.backends.sparse import numbers_per_row, sparse_or_as_it_is
from kernreg.distributed import processes
from kernreg.estimators.alphas import ROWS, Approach, approach, is_auto, sample
from kernreg.estimators.explain import Explanation
from kernreg.estimators.inputs import check_data
from kernreg.estimators.loo import LeaveOneOut
from kernreg.estimators.ridge import ridge_unit, smallest_ridge
from kernreg.estimators.scaled import Scaled
from kernreg.estimators.solve import read_dtype, solve_alphas
from kernreg.estimators.targets import Targets
from kernreg.estimators.text import naming_text
from kernreg.exceptions import InvalidInputError, MemoryBudgetError, StoreError
from kernreg.finite.as_network import ModuleNetwork
from kernreg.operators.base import Operator
from kernreg.operators.images import check_shapes, flat_rows, on_images, shape_of
from kernreg.operators.inputs import check_device, check_network
from kernreg.operators.kernel import KernelOperator
from kernreg.operators.parts import Parts
from kernreg.operators.store.store import TileStore
from kernreg.planning.plan import Plan, plan
from kernreg.planning.probe import Probe
from kernreg.solvers.base import Solver
from kernreg.solvers.registry import SOLVERS, for_ridges

__all__ = ["Planned", "described"]


def described(network: nn.Layer | ModuleNetwork, what: str) -> nn.Layer:
    """The description of a network.

    Raises
    ------
    InvalidInputError
        If it is a torch module, which ``what`` cannot be done with.
    """
    if isinstance(network, nn.Layer):
        return network
    raise InvalidInputError(
        f"{what} needs the description of a network, and network is {network!r}: pass "
        "kernreg.finite.read(module) for its infinite limit, or leave that out."
    )


class Planned(Scaled):
    """What :class:`~kernreg.estimators.base.KernelModel` decides before it solves."""

    network: nn.Layer | torch.nn.Module | str | None
    kernel: str
    alpha: Any
    alpha_scale: str
    fit_intercept: bool
    solver: str | Solver
    dtype: Any
    device: str
    backend: str
    precision: str
    max_memory: float | str | None
    store: str | os.PathLike[str] | None
    input_shape: tuple[int, ...] | None
    network_: nn.Layer | ModuleNetwork
    _sparse_format: ClassVar[str | bool]

    # Of the images of the last fit, if they came as images.
    _image_shape: tuple[int, ...] | None = None
    # The module that is the network, as it was at the last fit.
    _of_module: ModuleNetwork | None = None
    # Rows during a fit, and their kernel, where its entries are too dear to be worked out twice.
    _known: tuple[NDArray[Any], Parts] | None = None

    def explain(self, X: Any, y: Any = None, *, seconds: bool = True) -> Explanation:
        """Say what ``fit(X, y)`` would do, without doing it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), optional
            Targets or labels; only their number matters, one if left out.
        seconds : bool, default=True
            Predict times, by some seconds of measurements on a part of the rows; without it
            only the shape and type of the data matter, and nothing is computed but, where alpha
            is absolute, the diagonal of the kernel.

        Returns
        -------
        Explanation
            Network, program, cost, backends with reasons, and the solver's plan.

        Examples
        --------
        >>> import numpy as np
        >>> from kernreg import KernelRegressor
        >>> report = KernelRegressor(alpha=1e-3).explain(np.ones((1000, 20)))
        >>> report.plan.solver, report.fits
        ('cholesky', True)
        """
        from kernreg import backends

        self._validate_params()  # type: ignore[attr-defined]
        check_device(self.device)
        check_data(X)
        X = self._as_rows(X)
        with naming_text(X):
            options = {"dtype": self._dtypes(), "estimator": self, "input_name": "X"}
            X = check_array(X, accept_sparse=self._sparse_format, **options)
        X = sparse_or_as_it_is(X)
        network = self._network()
        self._check_columns(network, X)
        if self.scale == "ard":
            self._check_scalable(described(network, "scale='ard'"), X)
        by: tuple[tuple[str, str | None], ...]
        if isinstance(network, ModuleNetwork):
            flops, by = network.flops(), ()
        else:
            program = network.program()
            flops, by = program.flops(), tuple(backends.explain(program, check_device(self.device)))
        n_targets = 1 if y is None else self._count_targets(y)
        weights = np.ones(len(X))
        how = self._approach(X, n_targets, weights)
        found: Plan | MemoryBudgetError
        try:
            found = self._plan(X, n_targets, weights, how)
            if seconds:
                kept = self._worth_keeping(X, found)
                probe = self._probe(X, float(how.in_fit[0]), kept)
                found = self._plan(X, n_targets, weights, how, probe)
        except MemoryBudgetError as error:
            found = error
        return Explanation(
            model=type(self).__name__,
            network=repr(network),
            kernel=self.kernel,
            program=str(network.program()) if isinstance(network, nn.Layer) else repr(network),
            n_samples=X.shape[0],
            n_features=X.shape[1],
            n_targets=n_targets,
            dtype=X.dtype.name,
            alphas=tuple(how.alphas.tolist()),
            sampled=how.rows,
            flops_per_entry=flops,
            backends=by,
            plan=found,
        )

    def _network(self) -> nn.Layer | ModuleNetwork:
        """The network, with the shape of the images that it is fitted to."""
        if isinstance(self.network, torch.nn.Module):
            if self._of_module is None:
                given = None if self.input_shape is None else tuple(self.input_shape)
                if None not in (given, self._image_shape) and given != self._image_shape:
                    raise InvalidInputError(
                        f"X holds rows of shape {self._image_shape}, but input_shape is {given}: "
                        "leave input_shape out, which is for flat rows."
                    )
                self._of_module = ModuleNetwork(self.network, self._image_shape or given)
            return self._of_module
        net = nn.mlp(depth=3) if self.network is None else check_network(self.network)
        shape, given = self._image_shape, self.input_shape
        if shape is not None and given is not None and tuple(given) not in (shape, (*shape, 1)):
            raise InvalidInputError(
                f"X holds images of shape {shape}, but input_shape is {tuple(given)}: leave "
                "input_shape out, which is for images in flat rows."
            )
        return on_images(net, shape or given)

    def _as_rows(self, X: Any) -> Any:
        """Images as rows; what they looked like is part of the network from then on."""
        self._image_shape, self._of_module = shape_of(X), None
        return flat_rows(X)

    def _check_columns(self, network: nn.Layer | ModuleNetwork, X: NDArray[Any]) -> None:
        """Raise unless a network can stand on such rows."""
        if not isinstance(network, ModuleNetwork):
            check_shapes(network, X.shape[1], sparse=issparse(X))
            return
        if issparse(X):
            raise InvalidInputError("X is sparse, and a module takes dense rows: use X.toarray().")
        network.check(X.shape[1])

    def _as_fitted(self, X: Any) -> Any:
        """The same for new data, which must look like those of the fit."""
        if isinstance(self.network_, ModuleNetwork):
            shape = shape_of(X)
            if shape is not None and shape != self.network_.shape:
                raise InvalidInputError(
                    f"X holds rows of shape {shape}, but the fit was to {self.network_.shape}."
                )
        else:
            on_images(self.network_, shape_of(X))
        return flat_rows(X)

    def _dtypes(self) -> Any:
        """What ``validate_data`` should make of X: by default float32 stays, all else is float64.

        Raises
        ------
        InvalidInputError
            If ``dtype`` is a type other than these two.
        """
        if self.dtype is None:
            return [np.float64, np.float32]
        name = np.dtype(self.dtype).name
        if name not in ("float32", "float64"):
            raise InvalidInputError(f"dtype must be float32, float64 or None, found {name}.")
        return np.dtype(name)

    def _approach(self, X: NDArray[Any], n_targets: int, weights: NDArray[np.float64]) -> Approach:
        """How the ridge is found for such data."""

        def unit() -> float:
            if self.alpha_scale == "mean_diag":
                return 1.0
            return ridge_unit("mean_diag", self._operator(X), weights)

        return approach(
            self.alpha,
            (len(X), numbers_per_row(X)),
            n_targets,
            dtype=X.dtype,
            read=read_dtype(X.dtype, self.store),
            solver=self.solver,
            max_memory=self.max_memory,
            device=self.device,
            unit=unit,
        )

    def _probe(self, X: NDArray[Any], alpha: float, kept: bool = False) -> Probe:
        """Measurements on the kernel of some rows, made when they are needed."""
        operator = self._operator(X)
        unit = ridge_unit(self.alpha_scale, operator, np.ones(len(X)))
        return Probe(operator, alpha * unit, kept)

    def _operator(
        self,
        X: NDArray[Any],
        X2: NDArray[Any] | None = None,
        network: nn.Layer | ModuleNetwork | None = None,
        kernel: str | None = None,
        dtype: Any = None,
    ) -> Parts:
        of_fit = X2 is None and network is None and kernel is None
        if of_fit and self._known is not None and self._known[0] is X:
            return self._known[1] if dtype is None else self._known[1].astype(dtype)
        net, kernel = network or self._network(), kernel or self.kernel
        if isinstance(net, ModuleNetwork):
            return net.operator(X, X2, kernel, dtype or X.dtype)
        return KernelOperator(
            net,
            self._scaled(X),
            None if X2 is None else self._scaled(X2),
            kernel=kernel,
            dtype=dtype or X.dtype,
            device=self.device,
            backend=self.backend,
            precision=self.precision,
        )

    def _read(
        self,
        X: NDArray[Any],
        numbers: NDArray[np.intp],
        network: nn.Layer | ModuleNetwork | None = None,
        kernel: str | None = None,
    ) -> Operator:
        """The kernel of some rows of the fit; no entry of images is worked out that is known."""
        operator = self._operator(X, None, network, kernel)
        if self.store is not None and operator.dear:
            try:
                tiles = TileStore.open(self.store)
                tiles.require(operator)
                return tiles.operator().in_memory(numbers)
            except (FileNotFoundError, StoreError):
                if network is None:  # a fit; a fitted model may have left its store behind
                    raise
        return operator.take(numbers)

    def _plan(
        self,
        X: NDArray[Any],
        n_targets: int,
        weights: NDArray[np.float64],
        how: Approach,
        probe: Probe | None = None,
    ) -> Plan:
        alphas = how.in_fit
        return plan(
            X.shape[0],
            numbers_per_row(X),
            n_outputs=n_targets + how.leave_one_out,
            dtype=read_dtype(X.dtype, self.store),
            solver=self.solver,
            max_memory=self.max_memory,
            n_alphas=len(alphas),
            device=self.device,
            leave_one_out=how.leave_one_out,
            ridge=smallest_ridge(
                self.alpha_scale, float(alphas.min()), weights, lambda: self._operator(X)
            ),
            probe=probe,
        )

    def _worth_keeping(self, X: NDArray[Any], planned: Plan) -> bool:
        """Whether entries cost so much that all are worked out once, and there is room for them."""
        network = self._network()
        cheap = not isinstance(network, ModuleNetwork) and network.program().axes == 0
        if cheap or self.store is not None or processes() > 1:
            return False
        if SOLVERS[planned.solver].needs_parts:  # and so never sees all
            return False
        room = planned.budget_bytes - planned.peak_bytes
        return 2 * len(X) ** 2 * X.dtype.itemsize <= room

    def _count_targets(self, y: Any) -> int:
        shape = np.shape(y)
        return shape[1] if len(shape) == 2 else 1

    def _merges(self, n: int) -> bool:
        """Whether equal rows become one before the fit."""
        if not is_auto(self.alpha):
            return not np.asarray(self.alpha).all()
        numbered = isinstance(self.solver, Solver) and self.solver.names_rows
        return n <= ROWS and self.store is None and not numbered

    def _choose(
        self, how: Approach, X: NDArray[Any], targets: Targets, callback: Any
    ) -> LeaveOneOut:
        """Leave-one-out of a fit to some rows, for all ridges at once."""
        rows = sample(len(X), how.rows)
        kept, part = targets.taken(rows).merged(X[rows])
        rows = rows[kept]
        operator = self._read(X, rows)
        unit = ridge_unit(self.alpha_scale, operator, part.weights)
        choice = solve_alphas(
            for_ridges(len(rows)),
            operator,
            part,
            alphas=how.alphas,
            ridges=how.alphas * unit,
            leave_one_out=True,
            callback=callback,
        )
        assert choice.loo is not None
        return replace(choice.loo, rows=rows)

    def _correct(
        self, targets: NDArray[np.float64], predictions: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        """Share of each row that gets the right label; None if there are no labels."""
        return None
