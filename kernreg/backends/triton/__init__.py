"""Kernel matrices on GPUs: hand-written Triton tiles around a generated kernel program."""
