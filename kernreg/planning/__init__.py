"""What a fit will take: memory, time, and the solver for it."""

from kernreg.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Plan": "plan",
    },
)
