"""Quadrature, series and sums that kernels are made of."""
