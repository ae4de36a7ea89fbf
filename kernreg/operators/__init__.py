"""Kernel matrices in one call, and as operators: entries, parts and products."""

from kernreg.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "DistributedOperator": "distributed",
        "KernelOperator": "kernel",
        "Kernels": "dense",
        "MatrixOperator": "matrix",
        "Operator": "base",
        "PackedOperator": "packed",
        "ParquetRows": "sources",
        "RowSource": "sources",
        "StoredOperator": "store.operator",
        "StreamedOperator": "streamed",
        "TileStore": "store.store",
        "diag": "dense",
        "gram": "dense",
        "led": "distributed",
        "memory_budget": "budget",
        "solve": "systems",
        "write_store": "distributed",
    },
)
