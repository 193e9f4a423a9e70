"""How many sockets this process may have open: one per flow is many."""

from __future__ import annotations

import sys
from typing import Final

ENOUGH: Final = 1 << 20
"""More is never asked for: some systems have no hard limit, and children may walk through all of it."""


RESERVE: Final = 256
"""Descriptors that flows leave for tunnels, signalling and the control socket."""


def flows_within(limit: int | None, wanted: int) -> int:
    """How many of `wanted` flows a process with this descriptor limit may have at a time, at least one."""
    return wanted if limit is None else max(1, min(wanted, limit - RESERVE))


def raise_descriptor_limit() -> int | None:
    """Raise the soft limit of open files to the hard one; the limit now, None where there is none.

    A system that refuses keeps its limit: flows beyond it are dropped and counted.
    """
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):
        return soft
    return wanted
