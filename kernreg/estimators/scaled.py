"""Models on columns that are multiplied by learned scales."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from kernreg import nn
from kernreg.distributed import from_first
from kernreg.estimators.progress import Callback
from kernreg.estimators.scales import MAX_ITER, learn_scales
from kernreg.exceptions import InvalidInputError

__all__ = ["Scaled"]


class Scaled:
    """What ``scale="ard"`` does to :class:`~kernreg.estimators.base.KernelModel`."""

    scale: str | None
    store: Any
    scales_: NDArray[np.float64]
    feature_importances_: NDArray[np.float64]

    @property
    def _scales(self) -> NDArray[np.float64] | None:
        return getattr(self, "scales_", None)

    def _scaled(self, X: NDArray[Any]) -> NDArray[Any]:
        """Rows as the kernel sees them.

        Data of another width are none of this fit: ``explain`` may ask for them.
        """
        scales = self._scales
        if scales is None or X.shape[1] != len(scales):
            return X
        return np.asarray(X * scales.astype(X.dtype))

    @contextlib.contextmanager
    def _without_scales(self) -> Iterator[None]:
        """Forget the scales of the fit before, unless the one inside fails."""
        names = ("scales_", "feature_importances_")
        before = {name: vars(self).pop(name) for name in names if name in vars(self)}
        try:
            yield
        except BaseException:
            for name in names:
                vars(self).pop(name, None)
            vars(self).update(before)
            raise

    def _check_scalable(self, network: nn.Layer, X: Any) -> None:
        """Refuse what columns cannot be scaled for, before work starts."""
        if issparse(X):
            raise InvalidInputError("scale='ard' needs dense rows: use X.toarray(), or scale=None.")
        program = network.program()
        if program.axes != 0 or program.shape is not None:
            raise InvalidInputError(
                "scale='ard' learns one scale per column, and this network is for images: use "
                "scale=None."
            )
        if self.store is not None:
            raise InvalidInputError(
                "scale='ard' changes the kernel that the store holds: use scale=None, or leave "
                "store out."
            )

    def _learn_scales(
        self,
        network: nn.Layer,
        kernel: str,
        data: tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]],
        callback: Callback,
    ) -> None:
        """Learn them from rows, targets of shape (n, t) and weights."""
        X, targets, weights = data

        def told(step: int) -> None:
            if callback is not None:
                callback(min(step, MAX_ITER), MAX_ITER)

        def learned() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            found = learn_scales(network, kernel, X, targets, weights=weights, callback=told)
            return found.kept, found.shares()

        self.scales_, self.feature_importances_ = from_first(learned)
