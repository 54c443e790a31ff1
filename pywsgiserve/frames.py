"""Room for the frames of an app, so that its deep calls are as quick as its shallow ones.

From 3.11 on CPython keeps the frames of a thread, or of a greenlet, in chunks of 16 KiB.
A call that does not fit into the last chunk has the kernel map another one, and its
return has that unmapped: some microseconds, in each request of an app that happens to
cross the boundary, and several times where a stack is deep. A chunk is made as large as
its first frame demands. So the server calls the app below a frame that demands more
than half of a large one, and uses next to nothing: what nobody touches takes no memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

# Words of a frame: a bit more than half of 512 KiB, and of 128 KiB for each greenlet.
THREAD = 33_000
GREENLET = 8_300


def below(words: int) -> Callable[..., Any]:
    """A function that calls its first argument with the others, in such a frame."""

    def roomy(call: Callable[..., T], *args: Any) -> T:
        return call(*args)

    if sys.version_info >= (3, 11) and sys.implementation.name == "cpython":
        roomy.__code__ = roomy.__code__.replace(co_stacksize=words)
    return roomy


in_thread = below(THREAD)
in_greenlet = below(GREENLET)
