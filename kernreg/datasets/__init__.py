"""Data sets for the command line and the examples: scikit-learn's own and files."""

from kernreg.datasets.dataset import Dataset, features_for, load
from kernreg.datasets.encoding import Column, Encoder

__all__ = ["Column", "Dataset", "Encoder", "features_for", "load"]
