"""Reading a recording: pictures by time, in order, and the events between. The format is in recording.py."""

from __future__ import annotations

import functools
import operator
import sqlite3
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec

from rtun_core.engine.flow_delta import decode_flows
from rtun_core.engine.packing import unpack
from rtun_core.engine.recording import DAMAGE, GROUP, check_format, database
from rtun_core.errors import RtunError, UsageError
from rtun_core.event import Event, Stamped
from rtun_core.events import BusLagged, event_types
from rtun_core.flow_rows import FlowRows
from rtun_core.model import Snapshot

MAX_SNAPSHOT: Final = 1 << 24  # bytes without flows, unpacked
MAX_VALUE: Final = 1 << 26  # bytes of anything in the file
MAX_EVENTS: Final = 1000  # given at once; older ones are counted
KEPT: Final = 16  # pictures' flows that are kept for steps back
KEPT_KEYS: Final = 8  # snapshots of key frames

_LAST_ID: Final = 2**63 - 1
_LATEST: Final = 4e10  # Unix seconds that can still be written as a date
_Time = Annotated[float, msgspec.Meta(ge=0, le=_LATEST)]
_Id = Annotated[int, msgspec.Meta(ge=1)]
_Value = TypeVar("_Value")


class Place(NamedTuple):
    """Where a picture stands: pictures are ordered by time, and by id where times are equal."""

    ts: float
    id: int


class RecordingReader:
    """One recording, also while it is being written. Belongs to one thread at a time.

    Every method raises RtunError where the file cannot be read or is damaged.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises UsageError, one sentence, when there is nothing in it to show."""
        self.path = path
        self._db = _open(path)
        self._flows: OrderedDict[int, FlowRows] = OrderedDict()
        self._keys: OrderedDict[int, bytes] = OrderedDict()
        try:
            if not self.count:
                raise UsageError(f"the recording {path} has no pictures")
            _ = self.start, self.end
        except RtunError as error:
            self._db.close()
            raise UsageError(str(error)) from None

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return self._row("SELECT count(*) FROM picture", (), tuple[int])[0]

    @property
    def start(self) -> float:
        """Time of the first picture."""
        return self.first().ts

    @property
    def end(self) -> float:
        """Time of the last picture."""
        return self.last().ts

    @property
    def last_moment(self) -> float:
        """Time of the last picture, or of the last event when that came later."""
        (newest,) = self._row("SELECT max(ts) FROM event", (), tuple[_Time | None])
        return max(self.end, newest or 0.0)

    def first(self) -> Place:
        """The first picture."""
        return self._place("ORDER BY ts, id LIMIT 1", ()) or self._emptied()

    def last(self) -> Place:
        """The last picture."""
        return self._place("ORDER BY ts DESC, id DESC LIMIT 1", ()) or self._emptied()

    def find(self, ts: float) -> Place:
        """The newest picture that is no later than `ts`, or the first of all."""
        return self._place("WHERE ts <= ? ORDER BY ts DESC, id DESC LIMIT 1", (ts,)) or self.first()

    def next(self, place: Place) -> Place | None:
        """The picture after this one."""
        return self._place("WHERE (ts, id) > (?, ?) ORDER BY ts, id LIMIT 1", place)

    def previous(self, place: Place) -> Place | None:
        """The picture before this one."""
        return self._place("WHERE (ts, id) < (?, ?) ORDER BY ts DESC, id DESC LIMIT 1", place)

    def at(self, ts: float) -> Snapshot:
        """The picture that stood at this time."""
        return self.read(self.find(ts))

    def read(self, place: Place) -> Snapshot:
        """A whole picture; `flows` is a FlowRows, or () when there were none."""
        ts, key, packed = self._light(place.id)
        snapshot = self._snapshot(place.id, ts, key, packed)
        flows = self._flows_of(place.id, key)
        return msgspec.structs.replace(snapshot, flows=flows if len(flows) else ())

    def without_flows(self, after: float, until: float) -> Iterator[Snapshot]:
        """The pictures with `after` < time <= `until`, oldest first, without their flows."""
        query = "SELECT id, ts, key, snapshot FROM picture WHERE ts > ? AND ts <= ? ORDER BY ts, id"
        for row in self._rows(query, (after, until), tuple[_Id, _Time, _Id, bytes]):
            number, ts, key, packed = row
            yield self._snapshot(number, ts, key, packed)

    def events(self, after: float, until: float, limit: int = MAX_EVENTS) -> list[Stamped]:
        """What happened at `after` < time <= `until`, oldest first.

        Of more than `limit` the newest are given, led by a `BusLagged` that says how many are left out.
        """
        where = "FROM event WHERE ts > ? AND ts <= ?"
        query = f"SELECT seq, ts, mono, event {where} ORDER BY ts DESC, id DESC LIMIT ?"
        rows = list(self._rows(query, (after, until, limit), tuple[int, _Time, float, str]))
        events = [stamped for row in reversed(rows) if (stamped := self._event(*row)) is not None]
        if len(rows) == limit and events:
            (total,) = self._row(f"SELECT count(*) {where}", (after, until), tuple[int])
            if total > limit:
                first = events[0]
                lagged = BusLagged(skipped=total - limit)
                events.insert(0, Stamped(first.seq - 1, first.ts, first.mono, lagged))
        return events

    def find_event(self, ts: float, passes: Callable[[Stamped], bool], *, by: int) -> Stamped | None:
        """The first event later than `ts` that passes, or the last one earlier where `by` is negative."""
        sign, order, place = (">", "ASC", (ts, _LAST_ID)) if by > 0 else ("<", "DESC", (ts, -1))
        query = (
            f"SELECT id, seq, ts, mono, event FROM event WHERE (ts, id) {sign} (?, ?) "  # noqa: S608 - constants
            f"ORDER BY ts {order}, id {order} LIMIT {MAX_EVENTS}"
        )
        while rows := list(self._rows(query, place, tuple[int, int, _Time, float, str])):
            for _, seq, at, mono, text in rows:
                stamped = self._event(seq, at, mono, text)
                if stamped is not None and passes(stamped):
                    return stamped
            place = (rows[-1][2], rows[-1][0])
        return None

    # -- pictures ------------------------------------------------------------------------------

    def _flows_of(self, number: int, key: int) -> FlowRows:
        """Flows of a picture, from those of the nearest one before it that is kept, or from the key frame."""
        if number in self._flows:
            return self._flows[number]
        begin = max((each for each in self._flows if key <= each < number), default=key - 1)
        flows = self._flows.get(begin, FlowRows.empty())
        query = "SELECT id, flows FROM picture WHERE key = ? AND id > ? AND id <= ? ORDER BY id LIMIT ?"
        expected = begin + 1
        for each, packed in self._rows(query, (key, begin, number, GROUP), tuple[_Id, bytes]):
            if each != expected:
                break
            flows = self._decoded(each, flows, packed)
            expected += 1
        if expected != number + 1:
            raise self._broken(number, "pictures before it are missing")
        return flows

    def _decoded(self, number: int, before: FlowRows, packed: bytes) -> FlowRows:
        try:
            flows = decode_flows(before, packed)
        except ValueError as error:
            raise self._broken(number, str(error)) from None
        _keep(self._flows, number, flows, KEPT)
        return flows

    def _light(self, number: int) -> tuple[float, int, bytes]:
        query = "SELECT ts, key, snapshot FROM picture WHERE id = ?"
        return self._row(query, (number,), tuple[_Time, _Id, bytes])

    def _snapshot(self, number: int, ts: float, key: int, packed: bytes) -> Snapshot:
        raw = self._unpacked(number, packed, b"" if number == key else self._key_frame(key))
        try:
            snapshot = msgspec.msgpack.decode(raw, type=Snapshot)
        except msgspec.MsgspecError as error:
            raise self._broken(number, str(error)) from None
        if snapshot.ts != ts:
            raise self._broken(number, "its times differ")
        return msgspec.structs.replace(snapshot, flows=())

    def _key_frame(self, key: int) -> bytes:
        raw = self._keys.get(key)
        if raw is None:
            _, group, packed = self._light(key)
            if group != key:
                raise self._broken(key, "it is no key frame")
            raw = self._unpacked(key, packed, b"")
            _keep(self._keys, key, raw, KEPT_KEYS)
        return raw

    def _unpacked(self, number: int, packed: bytes, dictionary: bytes) -> bytes:
        try:
            return unpack(packed, MAX_SNAPSHOT, dictionary)
        except ValueError as error:
            raise self._broken(number, str(error)) from None

    def _event(self, seq: int, ts: float, mono: float, text: str) -> Stamped | None:
        """The event; None for a kind that a newer version wrote."""
        try:
            kind = msgspec.json.decode(text, type=_Kind)
            if kind.type not in event_types():
                return None
            return Stamped(seq, ts, mono, _event_decoder().decode(text))
        except msgspec.MsgspecError as error:
            raise RtunError(f"the recording {self.path} has an event that cannot be read: {error}") from None

    # -- the file ------------------------------------------------------------------------------

    def _place(self, condition: str, values: Sequence[float]) -> Place | None:
        rows = self._rows(f"SELECT ts, id FROM picture {condition}", values, tuple[_Time, _Id])  # noqa: S608 - constants
        return next((Place(*row) for row in rows), None)

    def _row(self, query: str, values: Sequence[float], kind: type[_Value]) -> _Value:
        for row in self._rows(query, values, kind):
            return row
        raise RtunError(f"the recording {self.path} is damaged: a picture is missing")

    def _rows(self, query: str, values: Sequence[float], kind: type[_Value]) -> Iterator[_Value]:
        """All rows, checked. They are fetched at once: an open query would hold up the writer's tidying."""
        try:
            rows = self._db.execute(query, values).fetchall()
        except DAMAGE as error:
            raise RtunError(f"the recording {self.path} cannot be read: {error}") from None
        for row in rows:
            try:
                yield msgspec.convert(row, kind)
            except msgspec.ValidationError as error:
                raise RtunError(f"the recording {self.path} is damaged: {error}") from None

    def _emptied(self) -> Place:
        raise RtunError(f"the recording {self.path} has no pictures")

    def _broken(self, number: int, why: str) -> RtunError:
        return RtunError(f"the recording {self.path} is damaged at picture {number}: {why}")


class _Kind(msgspec.Struct):
    type: str


@functools.cache
def _event_decoder() -> msgspec.json.Decoder[Event]:
    union: Any = functools.reduce(operator.or_, event_types().values())
    return msgspec.json.Decoder(union)


def _keep(cache: OrderedDict[int, _Value], key: int, value: _Value, most: int) -> None:
    cache[key] = value
    while len(cache) > most:
        cache.popitem(last=False)


def _open(path: Path) -> sqlite3.Connection:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"cannot read the recording {path}: it is not a file")
        db = sqlite3.connect(database(path, "ro"), uri=True, check_same_thread=False)
    except (OSError, ValueError, sqlite3.Error) as error:
        raise UsageError(
            f"cannot read the recording {path}: {getattr(error, 'strerror', None) or error}"
        ) from None
    try:
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
        check_format(db, path)
    except UsageError:
        db.close()
        raise
    return db
