"""Gaussian processes with the kernels of infinitely wide networks."""
