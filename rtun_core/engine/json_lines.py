"""`--json`: one event per line on standard output, and nothing else there."""

from __future__ import annotations

from collections.abc import Callable

from rtun_core.bus import EventBus
from rtun_core.engine.line_output import DescriptorSink, EventLines
from rtun_core.event import Stamped, event_json


def json_line(stamped: Stamped) -> bytes:
    """The event as one line."""
    return event_json(stamped) + b"\n"


class JsonLines:
    """Writes every event that passes as JSON. When the reader goes away the output ends, not the service."""

    def __init__(
        self, bus: EventBus, *, descriptor: int = 1, passes: Callable[[Stamped], bool] | None = None
    ) -> None:
        self._bus = bus
        self._passes = passes
        self._descriptor = descriptor
        self._lines: EventLines | None = None

    async def start(self) -> None:
        """Begin with the next event."""
        self._lines = EventLines(self._bus, DescriptorSink(self._descriptor, "standard output"), self._line)

    async def stop(self) -> None:
        """Write what is left."""
        if self._lines is not None:
            await self._lines.stop()

    def _line(self, stamped: Stamped) -> bytes:
        return json_line(stamped) if self._passes is None or self._passes(stamped) else b""
