"""Data sets for the command line and the examples: scikit-learn's own and files."""

from kernreg.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Column": "columns",
        "Dataset": "dataset",
        "Encoder": "encoding",
        "Layout": "dataset",
        "NewRows": "new_data",
        "load": "dataset",
        "new_rows": "new_data",
    },
)
