"""A forked child is another process: without the parent's other threads, and with locks that these may have held."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from threading import RLock

loading = RLock()
"""to be held while modules are imported in the middle of a program: a child forked by another thread meanwhile would
wait for these imports for ever"""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=loading.acquire, after_in_parent=loading.release, after_in_child=loading.release)


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
