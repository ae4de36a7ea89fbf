"""What a model would do with some data, said before it does it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kernreg.exceptions import MemoryBudgetError
from kernreg.planning.plan import Plan
from kernreg.wording import counted

__all__ = ["Explanation", "labelled"]

# More values are told by their ends.
_RANGE = 10


@dataclass(frozen=True, repr=False)
class Explanation:
    """The plan of a fit; ``str()`` and ``repr()`` are a readable text.

    Parameters
    ----------
    model : str
        Class of the estimator.
    network : str
        The network, as the code that makes it.
    kernel : str
        Which of its kernels.
    program : str
        The network as operations on the state of a pair of inputs.
    n_samples, n_features, n_targets : int
        Size of the problem.
    dtype : str
        Precision of the kernel matrix.
    alphas : tuple of float
        Values of ``alpha`` that will be tried.
    sampled : int
        Rows of the sample that they will be tried on; 0 for all.
    flops_per_entry : int
        Floating-point operations for one kernel entry, to about a factor of two.
    backends : tuple of (str, str or None)
        Every backend, with the reason why it cannot run this program or None if it can.
    plan : Plan or MemoryBudgetError
        Solver, predicted peak memory and alternatives, or why nothing fits.
    """

    model: str
    network: str
    kernel: str
    program: str
    n_samples: int
    n_features: int
    n_targets: int
    dtype: str
    alphas: tuple[float, ...]
    sampled: int
    flops_per_entry: int
    backends: tuple[tuple[str, str | None], ...]
    plan: Plan | MemoryBudgetError

    @property
    def fits(self) -> bool:
        """Whether the fit stays within the memory budget."""
        return isinstance(self.plan, Plan)

    def __str__(self) -> str:
        n = self.n_samples
        sizes = ((n, "row"), (self.n_features, "feature"), (self.n_targets, "target"))
        entries = n * (n + 1) // 2
        usable = "yes"
        backends = [f"{name}: {reason or usable}" for name, reason in self.backends]
        verdict = str(self.plan) if self.fits else f"does not fit: {self.plan}"
        rows = [
            ("model", self.model),
            ("network", self.network),
            ("kernel", self.kernel),
            ("program", self.program),
            ("data", ", ".join(counted(size, noun) for size, noun in sizes)),
            ("dtype", self.dtype),
            ("alpha", self._alpha()),
            (
                "cost",
                f"{entries:.3g} kernel entries of about "
                f"{self.flops_per_entry + 2 * self.n_features} operations, "
                f"then {n**3 / 3:.2g} operations per factorisation",
            ),
            ("backends", "\n".join(backends)),
            ("plan", verdict),
        ]
        return labelled(rows)

    def _alpha(self) -> str:
        """The values that are tried, and where."""
        if len(self.alphas) < _RANGE:
            return ", ".join(f"{alpha:g}" for alpha in self.alphas)
        where = f" on {counted(self.sampled, 'row')}" if self.sampled else ""
        low, high = min(self.alphas), max(self.alphas)
        return (
            f"of {len(self.alphas)} from {low:.3g} to {high:.3g} the best by leave-one-out{where}"
        )

    __repr__ = __str__


def labelled(rows: Iterable[tuple[str, str]]) -> str:
    """Lines of text behind a label each; further lines of a text stand below its first.

    Examples
    --------
    >>> print(labelled([("data", "3 rows"), ("plan", "first\\nsecond")]))
    data      3 rows
    plan      first
              second
    """
    return "\n".join(
        f"{label if number == 0 else '':<10}{line}"
        for label, text in rows
        for number, line in enumerate(text.splitlines() or [""])
    )
