"""The file of a recording, and writing it: pictures and events in SQLite, readable by `rtun replay`.

Format 1. `PRAGMA application_id` is `rtun`, `PRAGMA user_version` the format. Every minute begins a group of
pictures with a key frame, whose id is the group's `key`; the others of the group need the ones before them:

* `snapshot`: the picture without flows, MessagePack, packed (see packing.py) with the unpacked snapshot of
  the key frame as the dictionary; the key frame's own without one;
* `flows`: the difference to the flows of the picture before (see flow_delta.py), a key frame's to none.

Events are JSON with their envelope in columns. Times are Unix seconds. Only whole groups are ever deleted.
While it is written, the file has the companions `-wal` and `-shm`; closed in good order, it stands alone.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from rtun_core.engine.flow_delta import encode_flows
from rtun_core.engine.packing import pack
from rtun_core.errors import RtunError, UsageError
from rtun_core.event import Stamped
from rtun_core.flow_rows import FlowRows
from rtun_core.model import Snapshot
from rtun_core.view.project import as_flow_rows

FORMAT: Final = 1  # see CHANGELOG
APPLICATION: Final = int.from_bytes(b"rtun", "big")
GROUP: Final = 60  # seconds and pictures from one key frame to the next
MAX_AGE: Final = 86_400.0  # seconds
MAX_BYTES: Final = 1 << 30

_TABLES: Final = """
BEGIN;
CREATE TABLE picture (
    id INTEGER PRIMARY KEY, ts REAL NOT NULL, key INTEGER NOT NULL,
    snapshot BLOB NOT NULL, flows BLOB NOT NULL
);
CREATE INDEX picture_by_time ON picture (ts);
CREATE INDEX picture_by_group ON picture (key, ts);
CREATE TABLE event (
    id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, ts REAL NOT NULL, mono REAL NOT NULL, event TEXT NOT NULL
);
CREATE INDEX event_by_time ON event (ts);
"""
_PROBES: Final = (
    "SELECT id, ts, key, snapshot, flows FROM picture LIMIT 0",
    "SELECT id, seq, ts, mono, event FROM event LIMIT 0",
)


class RecordingWriter:
    """Appends to a recording, which is made when it does not exist. Belongs to one thread at a time.

    Groups whose newest picture is more than `max_age` seconds older than the newest of all are deleted,
    and the oldest ones while the rest takes more than `max_bytes`. Every method raises RtunError when the
    file cannot be written.
    """

    def __init__(self, path: Path, *, max_age: float = MAX_AGE, max_bytes: int = MAX_BYTES) -> None:
        """Open the file. Raises UsageError for one that is not ours to write; it is left as it is."""
        self.path = path
        self._max_age, self._max_bytes = max_age, max_bytes
        self._lock = _claim(path)
        try:
            self._db = _open(path, new=os.fstat(self._lock).st_size == 0)
            with self._writing():
                self._next = self._number("SELECT coalesce(max(id), 0) + 1 FROM picture")
        except BaseException:
            os.close(self._lock)
            raise
        self._before: FlowRows | None = None  # None: the next picture is a key frame
        self._key, self._key_ts, self._key_raw = 0, 0.0, b""

    def append_picture(self, snapshot: Snapshot) -> None:
        """Add a picture."""
        flows = self._rows(snapshot)
        raw = msgspec.msgpack.encode(msgspec.structs.replace(snapshot, flows=()))
        before, self._before = self._before, None  # whatever fails: the next one is a key frame
        begins = before is None or not self._belongs(snapshot)
        key = self._next if begins else self._key
        packed = pack(raw, b"" if begins else self._key_raw)
        changes = encode_flows(FlowRows.empty() if begins or before is None else before, flows)
        with self._writing():
            self._db.execute(
                "INSERT INTO picture VALUES (?, ?, ?, ?, ?)", (self._next, snapshot.ts, key, packed, changes)
            )
            if begins:
                self._forget(snapshot.ts)
        if begins:
            self._key, self._key_ts, self._key_raw = key, snapshot.ts, raw
        self._next += 1
        self._before = flows

    def append_events(self, events: Sequence[Stamped]) -> None:
        """Add events."""
        rows = [(each.seq, each.ts, each.mono, msgspec.json.encode(each.event).decode()) for each in events]
        with self._writing():
            self._db.executemany("INSERT INTO event (seq, ts, mono, event) VALUES (?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Put everything into the one file and let go of it."""
        with suppress(sqlite3.OperationalError):  # somebody reads: then the companions stay
            self._db.execute("PRAGMA journal_mode = DELETE")
        self._db.close()
        os.close(self._lock)

    def _rows(self, snapshot: Snapshot) -> FlowRows:
        try:
            return as_flow_rows(snapshot.flows)
        except ValueError as error:
            raise RtunError(f"cannot write the recording {self.path}: {error}") from None

    def _belongs(self, snapshot: Snapshot) -> bool:
        """Whether a picture goes on with the group of the last one."""
        return self._next - self._key < GROUP and 0.0 <= snapshot.ts - self._key_ts < GROUP

    def _forget(self, now: float) -> None:
        groups = self._db.execute("SELECT key, max(ts) FROM picture GROUP BY key ORDER BY key").fetchall()
        gone = 0
        for key, newest in groups[:-1]:
            if now - newest <= self._max_age and self._used() <= self._max_bytes:
                break
            self._db.execute("DELETE FROM picture WHERE key = ?", (key,))
            gone += 1
        if gone:
            self._db.execute("DELETE FROM event WHERE ts < (SELECT min(ts) FROM picture)")

    def _used(self) -> int:
        """Bytes of the file that hold something; what was deleted is used again."""
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return pages * self._number("PRAGMA page_size")

    def _number(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._db:
                yield
        except DAMAGE as error:
            raise RtunError(f"cannot write the recording {self.path}: {error}") from None


# A damaged file can make SQLite complain in bytes that are no text: that is a UnicodeDecodeError.
DAMAGE: Final = (sqlite3.Error, UnicodeDecodeError)


def check_format(db: sqlite3.Connection, path: Path) -> None:
    """Raise UsageError, one sentence, when the file is not a recording that this version reads."""
    try:
        application, version = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application != APPLICATION or version < 1:
            raise UsageError(f"{path} is not a recording of rtun")
        if version > FORMAT:
            raise UsageError(f"{path} was recorded by a newer rtun, format {version}; accepted: {FORMAT}")
        for probe in _PROBES:
            db.execute(probe)
    except sqlite3.OperationalError as error:
        raise UsageError(f"{path} cannot be read as a recording: {error}") from None
    except DAMAGE as error:
        raise UsageError(f"{path} is not a recording of rtun, or a broken one: {error}") from None


def database(path: Path, mode: str) -> str:
    """The address of a file for SQLite; `mode` is ro or rw."""
    return f"{path.absolute().as_uri()}?mode={mode}"


def _claim(path: Path) -> int:
    """A descriptor that keeps other writers out for as long as it is open."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot record into {path}: {getattr(error, 'strerror', error)}") from None
    try:
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            raise UsageError(f"cannot record into {path}: it is not a file")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UsageError(f"cannot record into {path}: somebody is recording into it") from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _open(path: Path, *, new: bool) -> sqlite3.Connection:
    db = sqlite3.connect(database(path, "rw"), uri=True, check_same_thread=False)
    try:
        if new:
            db.executescript(
                f"{_TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT}; COMMIT;"
            )
        else:
            check_format(db, path)
        # Readers never wait for the writer nor it for them; a commit is no wait for the disk.
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
    except UsageError as error:
        db.close()
        raise UsageError(f"{error}; it is left as it is") from None
    except DAMAGE as error:
        db.close()
        raise RtunError(f"cannot record into {path}: {error}") from None
    return db
