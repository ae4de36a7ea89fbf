"""The infinite-width baseline of a data set: search, comparison, results."""

from kernreg.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Fold": "outcome",
        "Outcome": "outcome",
        "Scaler": "scaling",
        "Settings": "outcome",
        "TableModel": "model",
        "fit_model": "model",
        "run": "outcome",
        "splits": "outcome",
    },
)
