"""Kernels of networks as objects of other libraries."""
