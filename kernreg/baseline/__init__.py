"""The infinite-width baseline of a data set: search, comparison, results."""

from kernreg.baseline.model import TableModel, fit_model
from kernreg.baseline.run import Fold, Outcome, Settings, run, splits
from kernreg.baseline.scaling import Scaler

__all__ = ["Fold", "Outcome", "Scaler", "Settings", "TableModel", "fit_model", "run", "splits"]
