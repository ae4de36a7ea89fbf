"""Kernel matrices in float64 on NVIDIA GPUs: CUDA C++ tiles, compiled at run time."""
