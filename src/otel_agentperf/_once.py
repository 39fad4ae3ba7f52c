"""Attributes that are computed when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class once(Generic[T]):  # noqa: N801 - reads as what it is: `@once def children(self): …`
    """`functools.cached_property` without its lock: up to Python 3.11 that is one for all instances, and a child
    forked while another thread holds it would wait for ever. Two threads may compute the same value, no more."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> once[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object, owner: type) -> once[T] | T:
        if instance is None:
            return self
        value = vars(instance)[self._compute.__name__] = self._compute(instance)
        return value
