"""Whether a table's title says that its filter takes long. No Textual in here.

There are two ways to take long. An engine elsewhere has not answered yet: the rows in sight are those of the
filter before. Or the rows are made here, while nothing can be drawn: then it is known afterwards, and true of
every look until one is faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from rtun_core.view.columns import TableId

SLOW: Final = 0.05  # seconds; what is faster is not worth a word
PENDING: Final = "filtering"


class FilterSign:
    """What is to be said of the filters of one console. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._applied: dict[TableId, str] = {}
        self._since: dict[TableId, float] = {}
        self.due = False  # whether something may be to say SLOW seconds after the last look

    def look(
        self, filters: Mapping[TableId, str], *, waiting: bool, costs: Mapping[TableId, float]
    ) -> Mapping[TableId, str]:
        """What to say of each table at a look: PENDING, or how long it takes; nothing of the others.

        `filters` are those in force, `waiting` whether the rows are still those of another look, and `costs`
        how many seconds of CPU the rows of each table took.
        """
        now, self.due = self._clock(), False
        signs = {}
        for table, text in filters.items():
            if waiting and text != self._applied.get(table, text):
                if now - self._since.setdefault(table, now) >= SLOW:
                    signs[table] = PENDING
                else:
                    self.due = True
                continue
            self._since.pop(table, None)
            self._applied[table] = text
            if text and costs.get(table, 0.0) >= SLOW:
                signs[table] = f"{costs[table] * 1000:.0f} ms"
        return signs
