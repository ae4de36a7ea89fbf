"""What the expansion in 1/width predicts beside what was measured on real networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.theory.finite_width.monte_carlo import Estimate, Sample
from kernreg.theory.finite_width.one_input import run
from kernreg.theory.finite_width.two_inputs import run_pair
from kernreg.wording import aligned

__all__ = ["Comparison", "compare"]

Array = NDArray[np.float64]

_LEFT_OUT = "z counts what the expansion leaves out, of relative order depth / width, in full."
_ENTRIES = ((0, 0), (0, 1), (1, 1))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Prediction and measurement side by side; made by :func:`compare`.

    Parameters
    ----------
    names : tuple of str
        What is compared, with inputs as indices.
    prediction, estimate, standard_error : ndarray of shape (len(names),)
        Expansion to order 1/n, measured value, its standard error.

    Examples
    --------
    >>> from kernreg import nn
    >>> from kernreg.theory.finite_width import sample
    >>> found = compare(sample(nn.Relu(), 0, 2, 0, 2, depth=1, width=16, draws=500, K1=1.0))
    >>> found.names[2], round(float(found.prediction[2]), 6), bool(abs(found.z).max() < 5)
    ('V', 5.0, True)
    """

    names: tuple[str, ...]
    prediction: Array
    estimate: Array
    standard_error: Array

    @property
    def z(self) -> Array:
        """Difference in standard errors. What the expansion leaves out counts in full."""
        return (self.estimate - self.prediction) / self.standard_error

    def __str__(self) -> str:
        columns = (self.names, self.prediction, self.estimate, self.standard_error, self.z)
        rows = [
            (name, f"{expected:.5g}", f"{found:.5g}", f"{error:.2g}", f"{z:.1f}")
            for name, expected, found, error, z in zip(*columns, strict=True)
        ]
        head = ("", "prediction", "estimate", "std error", "z")
        return "\n".join([*aligned(head, rows, numbers=True), _LEFT_OUT])


def compare(measured: Sample) -> Comparison:
    """Set what was measured beside what the expansion in 1/width predicts.

    Parameters
    ----------
    measured : Sample
        For one input or two.

    Returns
    -------
    Comparison
        ``print`` shows a table. Of one input ``K + G1/n, Theta + H1/n, V, A, B, D, F``; of two
        the means, the six components of V, and D and F with the NTK of both inputs.

    Raises
    ------
    InvalidInputError
        If there are more inputs than two.

    Examples
    --------
    >>> from kernreg import nn
    >>> from kernreg.theory.finite_width import sample
    >>> table = compare(sample(nn.Relu(), 0, 2, 0, 2, depth=2, width=32, draws=2000, K1=2.0))
    >>> print(table)
                  prediction  estimate  std error     z
    K + G1/n               2 ...
    >>> table.names
    ('K + G1/n', 'Theta + H1/n', 'V', 'A', 'B', 'D', 'F')
    """
    net, widths, n = measured.network, measured.widths, measured.widths[-1]
    rows: list[tuple[str, float, Estimate]] = []
    if measured.K1.ndim == 0:
        one = run(net, measured.K1, widths)
        rows = [
            ("K + G1/n", one.kernel(n)[-1], measured.K),
            ("Theta + H1/n", one.ntk(n)[-1], measured.Theta),
        ]
        rows += [(name, getattr(one, name)[-1], getattr(measured, name)) for name in "VABDF"]
    elif measured.K1.shape == (2, 2):
        two = run_pair(net, measured.K1, widths)
        for name, whole, found in (
            ("K + G1/n", two.kernel(n)[-1], measured.K),
            ("Theta + H1/n", two.ntk(n)[-1], measured.Theta),
        ):
            rows += [(f"{name} {_index(i)}", whole[i], _entry(found, i)) for i in _ENTRIES]
        for k, i in enumerate(_ENTRIES):
            for j in _ENTRIES[k:]:
                name = f"V ({_index(i)})({_index(j)})"
                rows.append((name, two.V[-1][i + j], _entry(measured.V, i + j)))
        # With the NTK of both inputs.
        own, both = _ENTRIES, (0, 1)
        rows += [(f"D {_index(i)}", two.D[-1][i], _entry(measured.D, i + both)) for i in own]
        for i in np.ndindex(2, 2):
            rows.append((f"F {_index(i)}", two.F[-1][i], _entry(measured.F, i + both)))
    else:
        raise InvalidInputError(
            f"predictions are for one input or two, found K1 of shape {measured.K1.shape}."
        )
    names, predictions, measurements = zip(*rows, strict=True)
    values = ([e.value for e in measurements], [e.standard_error for e in measurements])
    return Comparison(names, np.array(predictions), *map(np.array, values))


def _index(entry: tuple[int, ...]) -> str:
    return f"{entry[0] + 1}{entry[1] + 1}"


def _entry(found: Estimate, entry: tuple[int, ...]) -> Estimate:
    return Estimate(float(found.value[entry]), float(found.standard_error[entry]))
