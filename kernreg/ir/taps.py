"""Which positions a layer reads for each position that it writes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kernreg.exceptions import NetworkError

__all__ = ["PADDINGS", "WHOLE", "Sizes", "Taps"]

PADDINGS = ("SAME", "VALID", "CIRCULAR")

Sizes = tuple[int, ...]
"""Numbers of positions along each axis."""

OUTSIDE = -1

# Positions of one image: their pairs are numbered in 64 bits.
_MOST_POSITIONS = 2**31


@dataclass(frozen=True)
class Taps:
    """The positions that a filter or window covers.

    Parameters
    ----------
    shape : tuple of int or None
        Positions along each axis; None for all of them, which leaves a vector.
    strides, dilation : tuple of int
        Steps between windows, and between the positions of one.
    padding : {"VALID", "SAME", "CIRCULAR"}
        Windows that fit; as many as positions (over the stride), with nothing outside; the same
        with what is at the other end. A window is centred as TensorFlow does: of an odd number of
        positions outside the larger half is at the end.
    transposed : bool
        Windows of the output over the input, as in ``jax.lax.conv_transpose``.

    Examples
    --------
    >>> Taps((3,), (2,), (1,), "SAME").sources(0, 5)
    ((-1, 0, 1), (1, 2, 3), (3, 4, -1))
    """

    shape: tuple[int, ...] | None = None
    strides: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: str = "VALID"
    transposed: bool = False

    def count(self, sizes: Sizes) -> int:
        """Number of positions of a window."""
        return math.prod(sizes if self.shape is None else self.shape)

    def out(self, sizes: Sizes, label: str) -> Sizes:
        """Numbers of positions behind.

        Raises
        ------
        NetworkError
            If no window fits, or there are more positions than can be numbered.
        """
        if self.shape is None:
            return ()
        out = tuple(self._out(axis, size) for axis, size in enumerate(sizes))
        if min(out) < 1:
            reach = tuple((k - 1) * d + 1 for k, d in zip(self.shape, self.dilation, strict=True))
            over = "" if reach == self.shape else f", which spans {_by(reach)},"
            raise NetworkError(
                f"{label}: a window of {_by(self.shape)} positions{over} does not fit images of "
                f"{_by(sizes)}: use larger images, a smaller window, or padding='SAME'."
            )
        if math.prod(out) > _MOST_POSITIONS:
            raise NetworkError(
                f"{label}: {_by(out)} positions are more than can be numbered; expected at most "
                f"{_MOST_POSITIONS}."
            )
        return out

    def _out(self, axis: int, size: int) -> int:
        assert self.shape is not None
        k, s = self.shape[axis], self.strides[axis]
        if self.transposed:
            low, high = self._transposed_padding(axis)
            return (size - 1) * s + 1 + low + high - k + 1
        if self.padding == "VALID":
            return (size - (k - 1) * self.dilation[axis] - 1) // s + 1
        return -(-size // s)

    def low(self, axis: int, size: int) -> int:
        """Positions before the first one that the first window covers."""
        assert self.shape is not None
        if self.padding == "VALID":
            return 0
        reach = (self.shape[axis] - 1) * self.dilation[axis] + 1
        return max((self._out(axis, size) - 1) * self.strides[axis] + reach - size, 0) // 2

    def _transposed_padding(self, axis: int) -> tuple[int, int]:
        assert self.shape is not None
        k, s = self.shape[axis], self.strides[axis]
        if self.padding == "VALID":
            total = k + s - 2 + max(k - s, 0)
            return k - 1, total - k + 1
        total = k + s - 2
        low = k - 1 if s > k - 1 else -(-total // 2)
        return low, total - low

    def sources(self, axis: int, size: int) -> tuple[tuple[int, ...], ...]:
        """For each position behind along an axis, what its window covers; -1 where nothing is."""
        assert self.shape is not None
        k, s, d = self.shape[axis], self.strides[axis], self.dilation[axis]
        out = range(self._out(axis, size))
        if self.transposed:
            low, _ = self._transposed_padding(axis)
            spread = [[o + a * d - low for a in range(k)] for o in out]
            if self.padding == "CIRCULAR":
                spread = [[p % (size * s) for p in row] for row in spread]
            inside = [[p % s == 0 and 0 <= p < size * s for p in row] for row in spread]
            return tuple(
                tuple(p // s if ok else OUTSIDE for p, ok in zip(row, oks, strict=True))
                for row, oks in zip(spread, inside, strict=True)
            )
        low = self.low(axis, size)
        rows = [[o * s + a * d - low for a in range(k)] for o in out]
        if self.padding == "CIRCULAR":
            return tuple(tuple(p % size for p in row) for row in rows)
        return tuple(tuple(p if 0 <= p < size else OUTSIDE for p in row) for row in rows)

    def __str__(self) -> str:
        if self.shape is None:
            return "all positions"
        text = _by(self.shape)
        if any(s != 1 for s in self.strides):
            text += f" strides={_by(self.strides)}"
        if any(d != 1 for d in self.dilation):
            text += f" dilation={_by(self.dilation)}"
        return f"{text} {self.padding}" + (" transposed" if self.transposed else "")


WHOLE = Taps()
"""All positions."""


def _by(sizes: Sizes) -> str:
    return " x ".join(map(str, sizes))
