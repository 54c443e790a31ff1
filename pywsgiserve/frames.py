"""Room for the frames of an app, so that its deep calls are as quick as its shallow ones.

From 3.11 on CPython keeps the frames of a thread, or of a greenlet, in chunks of 16 KiB.
A call that does not fit into the last chunk has the kernel map another one, and its
return has that unmapped: some microseconds, in each request of an app that happens to
cross the boundary, and several times where a stack is deep. A chunk is made as large as
its first frame demands: one that demands much, and uses next to nothing of it, since what
nobody touches takes no memory.

A thread has its first chunk before it comes to us, so the server calls the app below a
frame that demands more than half of another one. A greenlet has none before its first
frame, and keeps the first one to its end: there it suffices that such a frame was once.
The frames of the app lie at its beginning then, in as few pages as they need.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar

T = TypeVar("T")
F = TypeVar("F", bound=Any)

# Words of a frame: a bit more than half of 512 KiB, and of 64 KiB for each greenlet.
THREAD = 33_000
GREENLET = 4_200


def demanding(words: int) -> Callable[[F], F]:
    """The frames of such a function are that large, or more."""

    def changed(function: F) -> F:
        if sys.version_info >= (3, 11) and sys.implementation.name == "cpython":
            code: CodeType = function.__code__
            function.__code__ = code.replace(co_stacksize=words)
        return function

    return changed


@demanding(THREAD)
def in_thread(call: Callable[..., T], *args: Any) -> T:
    """Call it below such a frame."""
    return call(*args)


@demanding(GREENLET)
def begin_greenlet() -> None:
    """To be the first frame in a greenlet."""
