"""What an event is: something that *happened*, with the envelope that the bus gives it.

Counters are sampled in the snapshot and never sent as events. The JSON form of a stamped event is flat:

    {"v":1,"seq":17,"ts":"2026-02-03T04:05:06.789Z","mono":12.345,"type":"tunnel.up","tunnel":"t5",...}
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import ClassVar

import msgspec

from rtun_core.model import SCHEMA_VERSION


class Level(enum.IntEnum):
    """How loudly an event is logged."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


def counted(number: int, thing: str) -> str:
    """`1 flow`, `1,284 flows`."""
    return f"{number} {thing}" if number == 1 else f"{number:,} {thing}s"


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of all events."""

    level: ClassVar[Level] = Level.INFO

    @property
    def severity(self) -> Level:
        """How loudly this very event is logged; `level` is that of its kind."""
        return self.level

    def text(self) -> str:
        """One line for people."""
        raise NotImplementedError


class Stamped(msgspec.Struct, frozen=True):
    """An event with its envelope: sequence from 1, Unix seconds, monotonic seconds since start."""

    seq: int
    ts: float
    mono: float
    event: Event


def rfc3339(ts: float) -> str:
    """Unix seconds as UTC text with milliseconds."""
    return datetime.fromtimestamp(ts, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Head(msgspec.Struct):
    """What every event has, before its type and its own fields."""

    v: int
    seq: int
    ts: str
    mono: float


def event_json(stamped: Stamped) -> bytes:
    """One flat JSON object, without a newline."""
    head = _Head(SCHEMA_VERSION, stamped.seq, rfc3339(stamped.ts), round(stamped.mono, 6))
    # The type comes first in what is encoded, so that there always is a field to go on with.
    return b"%b,%b" % (msgspec.json.encode(head)[:-1], msgspec.json.encode(stamped.event)[1:])
