"""Infinite ensembles of infinitely wide networks in training."""
