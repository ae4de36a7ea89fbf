"""Arguments of layers, checked by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from kernreg.exceptions import ArgumentError
from kernreg.wording import did_you_mean, listed

__all__ = ["InitSignature", "check_arguments", "checked"]

Maker = TypeVar("Maker", bound=Callable[..., Any])


def check_arguments(
    name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Raise :class:`ArgumentError`, with the name that was meant, for a call that does not fit.

    Examples
    --------
    >>> def layer(width=1): ...
    >>> check_arguments("layer", inspect.signature(layer), (), {"widht": 2})
    Traceback (most recent call last):
    kernreg.exceptions.ArgumentError: layer: got an unexpected keyword argument 'widht'; layer takes
    width. Did you mean 'width'?
    """
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        known = list(signature.parameters)
        hints = "".join(did_you_mean(key, known) for key in kwargs if key not in known)
        raise ArgumentError(
            f"{name}: {error}; {name} takes {listed(known) or 'no arguments'}.{hints}"
        ) from None


def checked(maker: Maker) -> Maker:
    """A function that makes layers, with its arguments checked by :func:`check_arguments`."""
    signature = inspect.signature(maker)

    @functools.wraps(maker)
    def made(*args: Any, **kwargs: Any) -> Any:
        check_arguments(maker.__name__, signature, args, kwargs)
        return maker(*args, **kwargs)

    return cast(Maker, made)


class InitSignature:
    """The signature of a class whose ``__new__`` takes anything: that of its ``__init__``."""

    def __get__(self, instance: Any, owner: type) -> inspect.Signature:
        _, *rest = inspect.signature(owner.__init__).parameters.values()  # type: ignore[misc]
        return inspect.Signature(rest)
