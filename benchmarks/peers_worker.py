"""Runs neural-tangents in its own environment and times it on request.

Reads one JSON object per line from standard input and answers each with one on standard output.
"""

import json
import sys
import time

import jax
import neural_tangents.stax as stax
import numpy as np


def kernel_fn(activation, depth, W_std, b_std):
    """The compiled kernel of a network with ``depth`` hidden layers."""
    phi = {"relu": stax.Relu, "erf": stax.Erf}[activation]
    hidden = [layer for _ in range(depth) for layer in (stax.Dense(512, W_std, b_std), phi())]
    _, _, fn = stax.serial(*hidden, stax.Dense(1, W_std, b_std))
    return jax.jit(fn, static_argnames="get")


def main():
    """Answer requests until standard input ends."""
    fn, X, kernel = None, None, None
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        if request["do"] == "load":
            X = jax.numpy.asarray(np.load(request["X"]))
            fn, kernel = kernel_fn(**request["network"]), request["kernel"]
        if request["do"] in ("load", "time"):
            fn(X, None, get=kernel).block_until_ready()
        if request["do"] == "head":
            rows = request["rows"]
            np.save(request["path"], np.asarray(fn(X, None, get=kernel))[:rows, :rows])
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
