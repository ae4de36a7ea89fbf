"""What the engine knows of each operation: a file has all rules of one.

To add an operation, give it a class of :class:`kernreg.ir.operations.Op`, a layer that emits it,
and a file like these, imported below.
"""

from kernreg.backends.ops import (  # noqa: F401  (each registers its rules)
    apply,
    dense,
    dropout,
    join,
    mix,
    normalize,
    product,
    repeat,
    sum,
)

__all__: list[str] = []
