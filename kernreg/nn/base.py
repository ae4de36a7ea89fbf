"""Layers as values: equal by content, hashable, printable as the code that makes them."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from typing import Any, ClassVar, Self

from kernreg.exceptions import NetworkError
from kernreg.ir.builder import Builder, Kind, NeedsInputError, Ref
from kernreg.ir.pair import Moments, Pair
from kernreg.ir.program import Program
from kernreg.nn.arguments import InitSignature, check_arguments

__all__ = ["LAYERS", "Layer", "Nonlinearity", "check_number"]

LAYERS: dict[str, type[Layer]] = {}
"""Every layer class by name, those of users with their module, for :func:`kernreg.nn.from_json`."""


def check_number(
    layer: str, name: str, value: Any, *, low: float = -math.inf, strict: bool = False
) -> None:
    """Raise :class:`NetworkError` unless ``value`` is a finite number not below ``low``."""
    wrong = not isinstance(value, numbers.Real) or isinstance(value, bool)
    if wrong or not math.isfinite(value) or value < low or (strict and value == low):
        bound = "" if low == -math.inf else f" {'>' if strict else '>='} {low:g}"
        raise NetworkError(f"{layer}: {name} must be a finite number{bound}, found {value!r}.")


class Layer:
    """Base of everything a network is made of.

    A subclass is a frozen dataclass whose fields are its constructor arguments. It says what it
    does to the kernel in :meth:`lower`.

    Examples
    --------
    >>> from kernreg import nn
    >>> net = nn.serial(nn.Dense(b_std=0.1), nn.Erf(), nn.Dense())
    >>> isinstance(net, nn.Layer), net == nn.from_json(nn.to_json(net))
    (True, True)
    """

    __signature__ = InitSignature()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if args or kwargs:  # copies and files make a layer without
            check_arguments(cls.__name__, cls.__signature__, args, kwargs)
        return super().__new__(cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__name__.startswith("_"):
            LAYERS[cls.key()] = cls

    @classmethod
    def key(cls) -> str:
        """Name of the class in files: with its module, unless it is one of kernreg."""
        own = cls.__module__.startswith("kernreg.")
        return cls.__name__ if own else f"{cls.__module__}:{cls.__qualname__}"

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return tuple(f.name for f in dataclasses.fields(cls) if f.init)  # type: ignore[arg-type]

    def passes(self) -> bool:
        """Whether the layer hands on its input, or a function of it, without weights of its own."""
        return True

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append this layer's operations to the program that ``b`` builds.

        Parameters
        ----------
        b : Builder
            The program so far.
        x : Ref
            The value that enters the layer.

        Returns
        -------
        Ref
            The value that leaves it.

        Raises
        ------
        NetworkError
            If the layer cannot follow what comes before it.
        """
        raise NotImplementedError

    def program(self) -> Program:
        """The network as a kernel program, this layer being the whole network.

        Raises
        ------
        NetworkError
            If the network is ill-formed, for example a nonlinearity directly on the input.
        """
        return self._program

    @functools.cached_property
    def _program(self) -> Program:
        builder = Builder()
        return builder.finish(self.lower(builder, builder.input()))

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles take: nothing that is worked out from it."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {f.name: getattr(self, f.name) for f in fields}

    def check(self) -> None:
        """Raise :class:`NetworkError` unless the layer fits some input, raw or Gaussian."""
        # No error is kept: its traceback would hold every caller's variables in a cycle.
        builder = Builder()
        try:
            self.lower(builder, builder.input(Kind.INPUT))
        except NetworkError as error:
            builder, first = Builder(), str(error)
        else:
            return
        try:
            self.lower(builder, builder.input(Kind.GAUSSIAN))
        except NeedsInputError:
            raise NetworkError(first) from None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments by name, as scikit-learn wants them.

        Parameters
        ----------
        deep : bool
            Also those of inner layers, as ``name__inner``.
        """
        params: dict[str, Any] = {}
        for name in self._names():
            value = getattr(self, name)
            params[name] = value
            if deep and isinstance(value, Layer):
                params |= {f"{name}__{k}": v for k, v in value.get_params().items()}
        return params

    def with_params(self, **params: Any) -> Self:
        """A copy with other arguments; ``inner__name=value`` reaches inner layers.

        Raises
        ------
        NetworkError
            If a name is unknown.

        Examples
        --------
        >>> from kernreg import nn
        >>> nn.mlp(depth=2).with_params(depth=5).depth
        5
        """
        own: dict[str, Any] = {}
        inner: dict[str, dict[str, Any]] = {}
        for key, value in params.items():
            head, _, rest = key.partition("__")
            if rest:
                inner.setdefault(head, {})[rest] = value
            else:
                own[head] = value
        base = self._replace(own)
        return base._replace(
            {head: base._child(head).with_params(**rest) for head, rest in inner.items()}
        )

    def set_params(self, **params: Any) -> Self:
        """Same as :meth:`with_params`: layers are immutable, so a copy is returned."""
        return self.with_params(**params)

    def _child(self, name: str) -> Layer:
        value = getattr(self, name, None)
        if name not in self._names() or not isinstance(value, Layer):
            raise NetworkError(f"{type(self).__name__} has no inner layer {name!r}.")
        return value

    def _replace(self, values: dict[str, Any]) -> Self:
        unknown = sorted(set(values) - set(self._names()))
        if unknown:
            raise NetworkError(
                f"{type(self).__name__} has no parameter {unknown[0]!r}; "
                f"it has {', '.join(self._names()) or 'none'}."
            )
        return dataclasses.replace(self, **values) if values else self  # type: ignore[type-var]

    def __repr__(self) -> str:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        shown = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields
            if f.init and not _is_default(f, getattr(self, f.name))
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        default = field.default
        return type(default) is type(value) and bool(default == value)
    return False


class Nonlinearity(Layer):
    """An elementwise nonlinearity ``phi``, defined by ``phi`` and its dual.

    Subclasses are frozen dataclasses. Those with a closed form implement :meth:`dual`; the others
    leave it out and are integrated numerically.

    Attributes
    ----------
    parameters : tuple of str
        Fields that are run-time data: a change of their value changes no compiled code.
    homogeneous : int or None
        Degree ``p`` if ``phi(c x) = c^p phi(x)`` for ``c > 0``; the dual is then asked for at
        unit variance only.
    smooth : bool
        Whether ``phi`` has derivatives of every order. Otherwise its only kink or jump must be
        at 0.
    nonnegative : bool
        Whether ``phi`` has one sign everywhere, so that no correlation behind it is negative.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import kernreg
    >>> from kernreg import nn
    >>> @dataclass(frozen=True, repr=False)
    ... class Cubic(nn.Nonlinearity):
    ...     def phi(self, xp, x):
    ...         return x * x * x
    >>> net = nn.serial(nn.Dense(), Cubic(), nn.Dense())
    >>> kernreg.gram(net, [[1.0]], kernel="nngp").round(6)  # the mean of z^6
    array([[15.]])
    """

    parameters: ClassVar[tuple[str, ...]] = ()
    homogeneous: ClassVar[int | None] = None
    smooth: ClassVar[bool] = True
    nonnegative: ClassVar[bool] = False

    @property
    def closed_form(self) -> bool:
        """Whether the dual is known in closed form."""
        return type(self).dual is not Nonlinearity.dual

    def phi(self, xp: Any, x: Any) -> Any:
        """The nonlinearity, elementwise, with the functions of ``xp``."""
        raise NotImplementedError

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Gaussian averages of ``phi`` and of its derivative over the pair ``p``."""
        raise NotImplementedError

    def bind(self, values: tuple[Any, ...]) -> Self:
        """The same nonlinearity with ``values`` in place of its run-time parameters."""
        if len(values) != len(self.parameters):
            raise ValueError(f"expected {len(self.parameters)} values, found {len(values)}")
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.__dict__.update(zip(self.parameters, values, strict=True))
        return other

    def structure(self) -> tuple[Any, ...]:
        """Everything that shapes compiled code: class and fields that are not parameters."""
        rest = tuple((n, getattr(self, n)) for n in self._names() if n not in self.parameters)
        return (type(self), rest)

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the nonlinearity; its input must be Gaussian."""
        if x.kind is not Kind.GAUSSIAN:
            where = "directly on the input" if x.kind is Kind.INPUT else f"after {x.made_by}"
            raise NetworkError(
                f"{self!r} stands {where}, but a nonlinearity needs a Gaussian preactivation: "
                "put a Dense layer before it."
            )
        values = tuple(float(getattr(self, name)) for name in self.parameters)
        return b.apply(x, self, values, label=repr(self))
