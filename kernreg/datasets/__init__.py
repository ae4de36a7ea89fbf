"""Data sets for the command line and the examples: scikit-learn's own and files."""

from kernreg.datasets.columns import Column
from kernreg.datasets.dataset import Dataset, Layout, load
from kernreg.datasets.encoding import Encoder
from kernreg.datasets.new_data import NewRows, new_rows

__all__ = ["Column", "Dataset", "Encoder", "Layout", "NewRows", "load", "new_rows"]
