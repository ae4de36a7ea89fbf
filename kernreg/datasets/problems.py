"""All that is wrong with some data in one message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from kernreg.exceptions import InvalidInputError

__all__ = ["all_of"]

T = TypeVar("T")


class _Several(InvalidInputError):
    def __init__(self, parts: Sequence[str]) -> None:
        self.parts = tuple(parts)
        shown = " ".join(f"({number}) {text}" for number, text in enumerate(parts, start=1))
        super().__init__(f"{len(parts)} problems: {shown}")


def all_of(*steps: Callable[[], T]) -> list[T]:
    """What some steps return, or one error with everything that they refuse."""
    results: list[T] = []
    problems: list[str] = []
    for step in steps:
        try:
            results.append(step())
        except InvalidInputError as error:
            problems += error.parts if isinstance(error, _Several) else [str(error)]
    if len(problems) > 1:
        raise _Several(problems)
    if problems:
        raise InvalidInputError(problems[0])
    return results
