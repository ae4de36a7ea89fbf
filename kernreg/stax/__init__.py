"""The calls of neural-tangents' ``stax`` and ``predict`` that people use, by kernreg's engine.

A script that describes a network, takes its kernels and predicts runs after a change of import:
``from kernreg import stax`` for ``from neural_tangents import stax``, and ``stax.predict``,
``stax.batch`` for ``nt.predict``, ``nt.batch``. Arrays are NumPy's; results are those of the
network :attr:`KernelFn.network`, which everything else of kernreg takes. What is not here raises
with the way kernreg has.

Examples
--------
>>> import numpy as np
>>> from kernreg import stax
>>> init_fn, apply_fn, kernel_fn = stax.serial(
...     stax.Dense(512, W_std=1.5, b_std=0.1), stax.Relu(), stax.Dense(1))
>>> x, y = np.eye(3), np.array([[1.0], [2.0], [3.0]])
>>> kernel_fn(x, None, "ntk").shape, kernel_fn(x, x, ("nngp", "ntk"))._fields
((3, 3), ('nngp', 'ntk'))
>>> kernel_fn.network
serial(Dense(W_std=1.5, b_std=0.1), Relu(), Dense(b_std=None))
>>> predict_fn = stax.predict.gradient_descent_mse_ensemble(kernel_fn, x, y, diag_reg=1e-4)
>>> predict_fn(x_test=np.ones((1, 3)), get="ntk").shape
(1, 1)
"""

from kernreg.stax import predict
from kernreg.stax.absent import *  # noqa: F403
from kernreg.stax.absent import __all__ as _absent
from kernreg.stax.combinators import FanInConcat, FanInProd, FanInSum, FanOut, parallel, repeat
from kernreg.stax.kernel import Kernel, KernelFn, Triple, batch, serial
from kernreg.stax.linear import (
    AvgPool,
    Conv,
    ConvLocal,
    ConvTranspose,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalSumPool,
    Identity,
    LayerNorm,
    SumPool,
)
from kernreg.stax.nonlinearities import *  # noqa: F403
from kernreg.stax.nonlinearities import __all__ as _nonlinearities

__all__ = [
    "AvgPool",
    "Conv",
    "ConvLocal",
    "ConvTranspose",
    "Dense",
    "Dropout",
    "FanInConcat",
    "FanInProd",
    "FanInSum",
    "FanOut",
    "Flatten",
    "GlobalAvgPool",
    "GlobalSumPool",
    "Identity",
    "Kernel",
    "KernelFn",
    "LayerNorm",
    "SumPool",
    "Triple",
    "batch",
    "parallel",
    "predict",
    "repeat",
    "serial",
]
__all__ += _absent
__all__ += _nonlinearities
