"""Kernel ridge regression with m centres."""
