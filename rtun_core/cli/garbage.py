"""When garbage is looked for: seldom while a program starts, and never among what was made until then."""

from __future__ import annotations

import gc
from typing import Final

_WHILE_STARTING: Final = 10_000
"""Imports make a hundred thousand objects, all of them to stay. By default they are looked through some
two hundred times and once as a whole, together a tenth of the time until the first frame."""

_AS_EVER: Final = gc.get_threshold()[0]


def starting() -> None:
    """Make new objects be looked through seldom."""
    gc.set_threshold(_WHILE_STARTING)


def settled() -> None:
    """What was made until now stays: looking through it again and again is what stalls at 10,000 flows."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_AS_EVER)
