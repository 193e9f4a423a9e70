"""What a viewer and an engine say to each other on `GET /view`: JSON, one message a WebSocket frame.

The engine begins with `{"hello": {...}}`. The viewer answers with `since`, the sequence of the last event
that it knows, and says at any time what it looks at: `look` (a spec a table), `interval`, `hold`. What it
leaves out stays as it is. The engine then sends, in this order and each only when there is something:

    {"events": [...]}    as `rtun events` prints them, oldest first
    {"history": {...}}   the newest samples, the first time all of them, as `PackedHistory`
    {"answer": {...}}    the page that `ask` asked for, once
    {"error": {...}}     a spec that cannot be read; the last good one of that table stays in force
    {"picture": {...}}   the snapshot without its flows, and the pages
    {"change": {...}}    instead of that, if the viewer wants it so: what differs, see `picture_delta`

Then it pings, and sends nothing more before the pong: however slow the viewer is, one picture is on its
way to it, and the next is the newest. A viewer that parts says why by the code of its close frame.

Each side leaves out what the other may not know: an engine that knows no `form` sends rows, and a viewer that
names none gets rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec

from rtun_core.engine.hello import Hello
from rtun_core.engine.packed_flows import PackedFlows
from rtun_core.engine.source import Parting
from rtun_core.errors import RemoteProtocolError
from rtun_core.event import Stamped, event_json
from rtun_core.model import AgentView, FlowView, RuleView, Snapshot, TunnelView
from rtun_core.view.columns import TableId
from rtun_core.view.history import HistoryPicture
from rtun_core.view.history_packed import PackedHistory, pack_history
from rtun_core.view.page import MAX_LIMIT, Page, ViewSpec

FASTEST: Final = 0.1  # seconds between two pictures
SLOWEST: Final = 5.0
MAX_SPECS: Final = 8
MAX_ASKS: Final = 4
MAX_REQUEST: Final = 1024 * 1024  # bytes of what a viewer may say at once: 10,000 marks are 110 kB
MAX_MESSAGE: Final = 16 * 1024 * 1024  # bytes of what an engine may say at once
MAX_EVENTS: Final = 256  # in one message: 2 ms to write

CLOSE_CODES: Final[Mapping[Parting, int]] = {Parting.CLOSED: 1000, Parting.LOST: 1001, Parting.FAILED: 1011}

_MAX_SEQUENCE: Final = 2**63 - 1

Number = Annotated[int, msgspec.Meta(ge=0, le=_MAX_SEQUENCE)]
Interval = Annotated[float, msgspec.Meta(ge=FASTEST, le=SLOWEST)]
PageForm = Literal["rows", "packed", "changes"]
Row = TypeVar("Row")


def parting_of(code: int) -> Parting:
    """Why a viewer parted; closed by its user, where the code says nothing else."""
    return next((parting for parting, own in CLOSE_CODES.items() if own == code), Parting.CLOSED)


class Ask(msgspec.Struct, frozen=True):
    """One page, once. `number` comes back with the answer."""

    number: Number
    spec: ViewSpec


class ViewRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a viewer wants. `turn` numbers a look and comes back with every picture that answers it.

    `form`, at the beginning: how pictures come. `key`: the next one is to be whole, as a change was missed.
    """

    since: Number | None = None
    look: Annotated[tuple[ViewSpec, ...], msgspec.Meta(max_length=MAX_SPECS)] | None = None
    turn: Number = 0
    interval: Interval | None = None
    hold: bool | None = None
    ask: Annotated[tuple[Ask, ...], msgspec.Meta(max_length=MAX_ASKS)] = ()
    form: PageForm | None = None
    key: bool = False


class SpecError(msgspec.Struct, frozen=True):
    """Why a spec cannot be answered; `column` is the place in its filter, if it is that."""

    table: TableId
    text: str
    column: int | None = None


class PageMessage(msgspec.Struct, Generic[Row], frozen=True, kw_only=True, omit_defaults=True):
    """A page as it travels: rows of one known kind, or flows packed, or places in the snapshot's table."""

    table: TableId
    total: Number
    shown: Number
    first: Number
    rows: Annotated[tuple[Row, ...], msgspec.Meta(max_length=MAX_LIMIT)] = ()
    packed: PackedFlows | None = None
    places: Annotated[list[Number], msgspec.Meta(max_length=MAX_LIMIT)] | None = None
    follow: Number | None = None
    now: float


class PagesMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Pages by table."""

    rules: PageMessage[RuleView] | None = None
    agents: PageMessage[AgentView] | None = None
    tunnels: PageMessage[TunnelView] | None = None
    flows: PageMessage[FlowView] | None = None

    def all(self) -> Iterator[PageMessage[Any]]:
        """Those that are there."""
        pages = (self.rules, self.agents, self.tunnels, self.flows)
        return (page for page in pages if page is not None)


class PictureMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One picture. `held`: of the moment at which the viewer began to hold. `cost` in seconds.

    `number` counts the pictures and changes of a link.
    """

    number: Number = 0
    turn: Number = 0
    held: bool = False
    cost: float = 0.0
    snapshot: Snapshot
    pages: PagesMessage


class ChangeMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What makes the picture with this number out of the one before; see `picture_delta`."""

    number: Number
    turn: Number
    held: bool
    cost: float
    snapshot: dict[str, msgspec.Raw]
    pages: PagesMessage


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one `Ask`: a page or an error."""

    number: Number
    pages: PagesMessage = PagesMessage()
    error: SpecError | None = None


class ViewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine says; one of these."""

    hello: Hello | None = None
    events: Annotated[tuple[msgspec.Raw, ...], msgspec.Meta(max_length=MAX_EVENTS)] = ()
    history: PackedHistory | None = None
    answer: AnswerMessage | None = None
    error: SpecError | None = None
    picture: PictureMessage | None = None
    change: ChangeMessage | None = None


def read_request(data: bytes | str) -> ViewRequest:
    """What a viewer sent. Raises RemoteProtocolError, also when it wants nothing."""
    request = _read(_REQUESTS, data)
    if request == _NOTHING:
        raise RemoteProtocolError("a message wants nothing", reason="view")
    return request


def read_message(data: bytes | str) -> ViewMessage:
    """What an engine sent. Raises RemoteProtocolError."""
    return _read(_MESSAGES, data)


def write_request(request: ViewRequest) -> str:
    """The JSON form of a request."""
    return msgspec.json.encode(request).decode()


def hello_message(hello: Hello) -> str:
    """The first message."""
    return write_message("hello", hello)


def events_message(events: Sequence[Stamped]) -> str:
    """Events, at most MAX_EVENTS."""
    return write_message("events", [msgspec.Raw(event_json(stamped)) for stamped in events])


def history_message(history: HistoryPicture) -> str:
    """Samples."""
    return write_message("history", pack_history(history))


def error_message(error: SpecError) -> str:
    """A spec that cannot be answered."""
    return write_message("error", error)


def answer_message(number: int, answer: Page | SpecError) -> str:
    """A page that was asked for, or why there is none."""
    if isinstance(answer, SpecError):
        return write_message("answer", {"number": number, "error": answer})
    return write_message("answer", {"number": number, "pages": {answer.table: answer}})


def write_message(name: str, value: object) -> str:
    """A message of one kind."""
    return msgspec.json.encode({name: value}).decode()


_NOTHING: Final = ViewRequest()
_REQUESTS: Final = msgspec.json.Decoder(ViewRequest)
_MESSAGES: Final = msgspec.json.Decoder(ViewMessage)
_Read = TypeVar("_Read")


def _read(decoder: msgspec.json.Decoder[_Read], data: bytes | str) -> _Read:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"a message cannot be read: {error}", reason="view") from None
