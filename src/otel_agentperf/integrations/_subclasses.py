"""Methods of all classes below a base, also of those still to be defined: where they override what the base only
declares, a wrapper on the base sees nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import _guard
from ..capture.callables import TracedCallable
from ..capture.patching import Patches

PatchMethod = Callable[[Patches, type, str], None]
"""(patches, class, method) → nothing: puts the wrapper on"""


def patch_all_below(patches: Patches, base: Any, methods: dict[str, PatchMethod]) -> None:
    """Patch the `methods` of `base` and of every class below it, now and when it is defined."""
    theirs = vars(base).get("__init_subclass__")

    def init_subclass(cls: Any, /, **kwargs: Any) -> None:
        if theirs is not None:
            theirs.__get__(None, cls)(**kwargs)
        else:
            super(base, cls).__init_subclass__(**kwargs)
        if patches.active:
            with _guard.guard("patch_all_below"):
                patch_own(patches, cls, methods)

    patches.replace(base, "__init_subclass__", classmethod(init_subclass))
    waiting = [base]
    while waiting:
        below = waiting.pop()
        patch_own(patches, below, methods)
        waiting.extend(below.__subclasses__())


def patch_own(patches: Patches, cls: type, methods: dict[str, PatchMethod]) -> None:
    """Patch those of `methods` that `cls` itself defines, once: a dataclass with slots is defined twice."""
    for name, patch in methods.items():
        method = vars(cls).get(name)
        if callable(method) and not isinstance(method, TracedCallable) and not _is_abstract(method):
            patch(patches, cls, name)


def patch_inherited(patches: Patches, cls: type, methods: dict[str, PatchMethod]) -> None:
    """The same for `cls` and all it inherits from, for a class that has no base in common with others."""
    for owner in cls.__mro__:
        if owner is not object:
            patch_own(patches, owner, methods)


def is_outermost(owner: type, instance: Any, name: str) -> bool:
    """Is `owner`'s method the first of ours that a call of `instance` meets, not one reached through `super()`?"""
    ours = (cls for cls in type(instance).__mro__ if isinstance(vars(cls).get(name), TracedCallable))
    return next(ours, owner) is owner


def _is_abstract(method: Any) -> bool:
    return getattr(method, "__isabstractmethod__", False) is True
