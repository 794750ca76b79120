"""The heaps of the C library: one for all threads of a process.

glibc gives each thread one and keeps in all of them what was freed: a tenth more than there ever is at once.

Source: GNU C library, mallopt(3), ``M_ARENA_MAX``.
"""

from __future__ import annotations

import contextlib
import os
import sys

#: What the environment may say of heaps already.
VARIABLES = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
#: M_ARENA_MAX.
ARENA_MAX = -8


def share() -> None:
    """Makes no more heaps from now on, where the C library is glibc and the environment says nothing of it: to be
    called before there are threads that would have one."""
    if sys.platform != "linux" or any(name in os.environ for name in VARIABLES):
        return
    # Other C libraries lack it, and Pythons may have been built without what calls them.
    with contextlib.suppress(AttributeError, ImportError, OSError):
        import ctypes

        ctypes.CDLL(None).mallopt(ARENA_MAX, 1)
