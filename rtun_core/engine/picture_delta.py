"""Pictures on their way to a viewer that knows the one before: only what changed, and numbered.

The first picture, and each that answers another look, is whole: a `picture`. What follows is a `change`: the
fields of the snapshot that differ, in its tables None for a row that stayed at its place, and pages whose
rows are places in those tables; flows are `packed_flows`. A change holds only for the picture with the
number right before its own. Whoever has another one asks for a `key`, a whole picture.

A viewer that did not ask for changes gets each picture whole, with its flows packed or, if it is older than
that, row by row. What a picture of 60 / 180 flows, 10 tunnels, 5 agents and 6 rules costs the engine:

    rows       130 / 310 us     39 / 76 kB
    packed      55 /  70 us     29 / 47 kB
    changes    130 / 180 us     12 / 16 kB

So changes are for where bytes cost something, which is not on a Unix socket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from rtun_core.engine.packed_flows import FlowRecords, PackedFlows, unpack_flows
from rtun_core.engine.view_messages import (
    ChangeMessage,
    PageForm,
    PageMessage,
    PictureMessage,
    write_message,
)
from rtun_core.errors import RemoteProtocolError
from rtun_core.flow_rows import FlowRows
from rtun_core.model import AgentView, RuleView, SignalView, Snapshot, TunnelView
from rtun_core.view.columns import TableId
from rtun_core.view.page import Page

_TABLES: Final[dict[str, Any]] = {  # of a snapshot, as they travel in a change
    "signal": tuple[SignalView | None, ...],
    "rules": tuple[RuleView | None, ...],
    "agents": tuple[AgentView | None, ...],
    "tunnels": tuple[TunnelView | None, ...],
}
_LEFT_OUT: Final = "flows"  # of a snapshot: they are in the pages


class Shot(NamedTuple):
    """What one picture shows. Flows of the pages are a `FlowRows`; `cost` in seconds."""

    snapshot: Snapshot
    pages: Mapping[TableId, Page]
    turn: int
    held: bool
    cost: float


class PictureWriter:
    """The engine's side, for one viewer."""

    def __init__(self, form: PageForm) -> None:
        self._form = form
        self._number = 0
        self._before: Snapshot | None = None
        self._flows: FlowRecords | None = None

    def write(self, shot: Shot, *, whole: bool) -> str:
        """The message of the next picture, `whole` when the viewer cannot know the one before."""
        self._number += 1
        before = None if whole or self._form != "changes" else self._before
        base, self._flows = self._flows, None
        pages = {table: self._page(page, shot.snapshot, before, base) for table, page in shot.pages.items()}
        self._before = shot.snapshot
        fields = {
            "number": self._number,
            "turn": shot.turn,
            "held": shot.held,
            "cost": shot.cost,
            "pages": pages,
        }
        if before is None:
            snapshot = msgspec.structs.replace(shot.snapshot, flows=())
            return write_message("picture", fields | {"snapshot": snapshot})
        return write_message("change", fields | {"snapshot": _changed(before, shot.snapshot)})

    def _page(self, page: Page, now: Snapshot, before: Snapshot | None, base: FlowRecords | None) -> object:
        if self._form == "rows":
            return msgspec.structs.replace(page, rows=tuple(page.rows))
        if isinstance(page.rows, FlowRows):
            self._flows = FlowRecords.of(page.rows)
            known = None if before is None else base
            packed = self._flows.packed() if known is None else self._flows.change_from(known)
            return _with_rows(page, packed=packed)
        if before is None:
            return page
        places = {id(row): place for place, row in enumerate(getattr(now, page.table))}
        return _with_rows(page, places=[places[id(row)] for row in page.rows])


class PictureReader:
    """The viewer's side of one link."""

    def __init__(self) -> None:
        self._number = 0
        self._snapshot: Snapshot | None = None
        self._flows: FlowRecords | None = None

    def read(self, message: PictureMessage | ChangeMessage) -> Shot | None:
        """What is shown; None for a change of another picture than the last one.

        Raises RemoteProtocolError for what cannot be put together.
        """
        try:
            if isinstance(message, ChangeMessage):
                if self._snapshot is None or message.number != self._number + 1:
                    return None
                snapshot = _apply(self._snapshot, message.snapshot)
            else:
                snapshot = message.snapshot
            pages = self._pages(message, snapshot)
        except (ValueError, IndexError, msgspec.MsgspecError) as error:
            raise RemoteProtocolError(f"a picture cannot be read: {error}", reason="view") from None
        self._number, self._snapshot = message.number, snapshot
        return Shot(snapshot, pages, message.turn, message.held, message.cost)

    def _pages(self, message: PictureMessage | ChangeMessage, snapshot: Snapshot) -> dict[TableId, Page]:
        base = self._flows if isinstance(message, ChangeMessage) else None
        self._flows = None
        return {page.table: self._page(page, snapshot, base) for page in message.pages.all()}

    def _page(self, page: PageMessage[Any], snapshot: Snapshot, base: FlowRecords | None) -> Page:
        rows: Sequence[Any] = page.rows
        if page.packed is not None:
            self._flows = unpack_flows(page.packed, base)
            rows = tuple(self._flows.rows())
        elif page.places is not None:
            table = getattr(snapshot, page.table)
            rows = tuple(table[place] for place in page.places)
        return page_of(page, rows)


def page_of(page: PageMessage[Any], rows: Sequence[Any]) -> Page:
    """A page that travelled, with its rows."""
    return Page(
        table=page.table,
        total=page.total,
        shown=page.shown,
        first=page.first,
        rows=rows,
        follow=page.follow,
        now=page.now,
    )


def _with_rows(
    page: Page, *, packed: PackedFlows | None = None, places: list[int] | None = None
) -> PageMessage[Any]:
    return PageMessage(
        table=page.table,
        total=page.total,
        shown=page.shown,
        first=page.first,
        packed=packed,
        places=places,
        follow=page.follow,
        now=page.now,
    )


def _changed(before: Snapshot, now: Snapshot) -> dict[str, object]:
    """The fields that differ; in tables None for a row that did not change."""
    changed: dict[str, object] = {}
    for name in Snapshot.__struct_fields__:
        old, new = getattr(before, name), getattr(now, name)
        if name != _LEFT_OUT and old is not new and old != new:
            changed[name] = _rows_changed(old, new) if name in _TABLES else new
    return changed


def _rows_changed(old: Sequence[object], new: Sequence[object]) -> list[object]:
    known = len(old)
    return [None if place < known and old[place] == row else row for place, row in enumerate(new)]


def _apply(before: Snapshot, changed: Mapping[str, msgspec.Raw]) -> Snapshot:
    values: dict[str, Any] = {}
    for name, raw in changed.items():
        if name not in _DECODERS:
            continue  # of a newer version
        value = _DECODERS[name].decode(raw)
        if name in _TABLES:
            old = getattr(before, name)
            value = tuple(old[place] if row is None else row for place, row in enumerate(value))
        values[name] = value
    return msgspec.structs.replace(before, **values)


def _decoders() -> dict[str, msgspec.json.Decoder[Any]]:
    kinds: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(Snapshot)}
    kinds |= _TABLES
    del kinds[_LEFT_OUT]
    return {name: msgspec.json.Decoder(kind) for name, kind in kinds.items()}


_DECODERS: Final = _decoders()
