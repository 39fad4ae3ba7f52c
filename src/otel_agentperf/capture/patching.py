"""Patching other people's libraries: when they are imported, once, and back again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .. import _guard

if TYPE_CHECKING:
    from .callables import Begin, Describe
    from .streams import Ended

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]
"""wrapt's: (wrapped, instance, args, kwargs) → result"""


class Patches:
    """What one integration has replaced, to be put back by `restore`."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any, Any, bool]] = []
        self.active = True

    def trace(
        self,
        module: str | type,
        path: str,
        describe: Describe,
        on_result: Ended | None = None,
        begin: Begin | None = None,
    ) -> None:
        """Give each call of `module:path` that `describe` recognises a span; `module` may also be a class of which
        only the object is at hand. Raises what a missing name raises."""
        from .callables import traced  # not before something is wrapped: `wrapt` takes 30 ms
        from .invocation import start

        holder, name, original = self._find(module, path)
        self.replace(holder, name, traced(original, self._while_active(describe), on_result, begin or start))

    def wrap(self, module: str | type, path: str, wrapper: Wrapper) -> None:
        """Put a plain wrapt wrapper around `module:path`."""
        from .callables import TracedCallable

        holder, name, original = self._find(module, path)
        self.replace(holder, name, TracedCallable(original, wrapper, enabled=lambda: self.active))

    def change(self, module: str | type, path: str, make: Callable[[Any], Any]) -> None:
        """Put what `make` makes of the original in place of `module:path`: a closure, where a proxy costs too much."""
        holder, name, original = self._find(module, path)
        self.replace(holder, name, make(original))

    def replace(self, holder: Any, name: str, new: Any) -> None:
        """Set `holder.name`, remembering what was there and whether it was the holder's own."""
        own = name in vars(holder)
        self._replaced.append((holder, name, vars(holder).get(name), new, own))
        setattr(holder, name, new)

    def restore(self) -> None:
        """Put the originals back. What somebody else has wrapped since stays, with our part switched off."""
        self.active = False
        for holder, name, original, new, own in reversed(self._replaced):
            with _guard.guard("patches.restore"):
                if vars(holder).get(name) is not new:
                    continue
                if own:
                    setattr(holder, name, original)
                else:
                    delattr(holder, name)
        self._replaced.clear()

    def _find(self, module: str | type, path: str) -> tuple[Any, str, Any]:
        holder: Any = module
        if isinstance(module, str):
            holder = sys.modules.get(module) or __import__(module, fromlist=["_"])
        *outer, name = path.split(".")
        for part in outer:
            holder = getattr(holder, part)
        # From the class's own dictionary, so that a classmethod or staticmethod stays one.
        owner = next((base for base in getattr(holder, "__mro__", ()) if name in vars(base)), None)
        return holder, name, vars(owner)[name] if owner is not None else getattr(holder, name)

    def _while_active(self, describe: Describe) -> Describe:
        return lambda instance, args, kwargs: describe(instance, args, kwargs) if self.active else None


_waiting: dict[str, list[Callable[[], None]]] = {}
"""actions by the module they wait for"""


def when_imported(modules: Sequence[str], action: Callable[[], None]) -> None:
    """Run `action` once, when all of `modules` are imported: now, or after the import of the last one."""
    missing = [name for name in modules if not _is_imported(name)]
    if not missing:
        action()
        return
    first = missing[0]
    _waiting.setdefault(first, []).append(lambda: when_imported(missing[1:], action))
    if first in sys.modules:
        _watch(sys.modules[first].__spec__)
    elif _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def forget_waiting() -> None:
    """Drop all actions that still wait for an import."""
    _waiting.clear()
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


def _is_imported(name: str) -> bool:
    module = sys.modules.get(name)
    return module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False)


class _Finder:
    """Stands before the import system's other finders while something waits, and has the module found by those: the
    spec that they give is the module's own, only watched. `wrapt` has such a hook, too, but its import takes 30 ms
    of the start of programs that have nothing to wrap."""

    def __init__(self) -> None:
        self._searching: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        # Another finder of this kind may ask us in turn.
        if name not in _waiting or name in self._searching:
            return None
        self._searching.add(name)
        try:
            for finder in list(sys.meta_path):
                find = getattr(finder, "find_spec", None) if finder is not self else None
                spec: ModuleSpec | None = find(name, path, target) if find is not None else None
                if spec is not None:
                    _watch(spec)
                    return spec
            return None
        finally:
            self._searching.discard(name)


_finder = _Finder()


class _WatchedSpec(ModuleSpec):
    """The spec of a module that is waited for: the last thing the import system does is to note here that the import
    is done."""

    @property
    def _initializing(self) -> bool:
        return bool(vars(self).get("_initializing", False))

    @_initializing.setter
    def _initializing(self, value: bool) -> None:
        vars(self)["_initializing"] = value
        if not value:
            self.__class__ = ModuleSpec  # type: ignore[assignment]
            if self.name in sys.modules:
                _imported(self.name)


_WatchedSpec.__name__ = _WatchedSpec.__qualname__ = ModuleSpec.__name__  # in its repr, for who asks for the spec


def _watch(spec: ModuleSpec | None) -> None:
    if type(spec) is ModuleSpec:
        spec.__class__ = _WatchedSpec


def _imported(name: str) -> None:
    actions = _waiting.pop(name, [])
    while actions:
        action = actions.pop(0)
        with _guard.guard(f"import hook {name}"):
            action()
