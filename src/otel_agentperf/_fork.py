"""A forked child is another process: without the parent's other threads, and with locks that these may have held."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock, get_ident

loading = RLock()
"""to be held while modules are imported in the middle of a program: a child forked by another thread meanwhile would
wait for these imports for ever"""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=loading.acquire, after_in_parent=loading.release, after_in_child=loading.release)


_LONGEST_S = 1.0


class ForkLock:
    """Is held while the process forks, so that no child finds what it protects in the middle of a change, or held for
    ever by a thread that it has not got. Nobody waits long for it: inside may be code of the program's (a log
    handler) that waits for one who waits for this."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._forking = 0
        """the thread that holds it while it forks"""
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._after, after_in_child=self._after_in_child)

    @contextmanager
    def held(self) -> Iterator[None]:
        """As a lock's own `with`."""
        lock = self._lock  # a child forked in here has another one
        taken = lock.acquire(timeout=_LONGEST_S)
        try:
            yield
        finally:
            if taken:
                lock.release()

    def _before(self) -> None:
        if self._lock.acquire(timeout=_LONGEST_S):
            self._forking = get_ident()

    def _after(self) -> None:
        if self._forking == get_ident():
            self._forking = 0
            self._lock.release()

    def _after_in_child(self) -> None:
        self._forking = 0
        self._lock = RLock()


def call_in_child(method: Callable[[], object]) -> None:
    """Call the bound `method` in each forked child, as long as its object is alive."""
    if not hasattr(os, "register_at_fork"):
        return
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    os.register_at_fork(after_in_child=call)
