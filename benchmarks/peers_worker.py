"""Runs neural-tangents in its own environment and times it on request.

Reads one JSON object per line from standard input and answers each with one on standard output.
"""

import json
import resource
import sys
import time

import jax
import neural_tangents.stax as stax
import numpy as np


def dense(activation, depth, W_std, b_std):
    """Hidden layers and a readout."""
    phi = {"relu": stax.Relu, "erf": stax.Erf}[activation]
    hidden = [layer for _ in range(depth) for layer in (stax.Dense(512, W_std, b_std), phi())]
    return [*hidden, stax.Dense(1, W_std, b_std)]


def convolutions(blocks, readout, W_std, b_std):
    """Convolutions of 3 x 3 with ReLU, pooled by two between the blocks."""
    layers = []
    for number, depth in enumerate(blocks):
        if number:
            layers.append(stax.AvgPool((2, 2), (2, 2)))
        for _ in range(depth):
            layers += [stax.Conv(1, (3, 3), (1, 1), "SAME", W_std, b_std), stax.Relu()]
    layers.append({"average": stax.GlobalAvgPool, "flatten": stax.Flatten}[readout]())
    return [*layers, stax.Dense(1, W_std, b_std)]


def kernel_fn(**network):
    """The compiled kernel of a network."""
    layers = convolutions(**network) if "blocks" in network else dense(**network)
    _, _, fn = stax.serial(*layers)
    return jax.jit(fn, static_argnames="get")


def empirical_fn(empirical, layers, channels, outputs, full, shape):
    """The compiled kernel of one draw of a convolutional network, by one implementation."""
    import neural_tangents as nt

    parts = [
        p for _ in range(layers) for p in (stax.Conv(channels, (3, 3), (1, 1), "SAME"), stax.Relu())
    ]
    init, apply, _ = stax.serial(*parts, stax.GlobalAvgPool(), stax.Dense(outputs))
    _, params = init(jax.random.PRNGKey(0), (1, *shape[1:]))
    made = nt.empirical_ntk_fn(
        apply,
        trace_axes=() if full else (-1,),
        implementation=nt.NtkImplementation(empirical),
        vmap_axes=0,
    )
    return jax.jit(lambda X, X2, get: made(X, X2, params), static_argnames="get")


def gradient_fn(kernel):
    """The gradient of the sum of the entries by the rows."""
    return jax.jit(jax.grad(lambda X, X2, get: kernel(X, X2, get=get).sum()), static_argnames="get")


def main():
    """Answer requests until standard input ends."""
    fn, X, kernel, before = None, None, None, 0
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        if request["do"] == "load":
            X = jax.numpy.asarray(np.load(request["X"]))
            given, kernel = request["network"], request["kernel"]
            fn = (
                empirical_fn(**given, shape=X.shape) if "empirical" in given else kernel_fn(**given)
            )
            kernel = tuple(kernel) if isinstance(kernel, list) else kernel
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if request.get("gradient"):
                fn = gradient_fn(fn)
        if request["do"] in ("load", "time"):
            jax.block_until_ready(fn(X, None, get=kernel))
        if request["do"] == "head":
            rows = request["rows"]
            found = fn(X, None, get="ntk" if isinstance(kernel, tuple) else kernel)
            np.save(request["path"], np.asarray(found)[:rows, :rows])
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        answer = {"seconds": time.perf_counter() - start, "bytes": 1024 * grown}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
