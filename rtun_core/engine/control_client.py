"""The other end of a control socket or address: look at a running rtun, tell it what to do."""

from __future__ import annotations

import functools
import operator
from collections.abc import AsyncIterator
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import msgspec

from rtun_core.commands import Command, CommandResult, encode_command
from rtun_core.engine.control_place import ControlPlace
from rtun_core.engine.hello import Hello, check_hello
from rtun_core.errors import CommandRefused, RtunError, UsageError
from rtun_core.event import Stamped
from rtun_core.events import event_types
from rtun_core.model import Snapshot

ANSWER_LIMIT = 30.0  # seconds to wait for an answer
HELLO_LIMIT = 5.0  # seconds to find out who is there
MAX_ANSWER = 256 * 1024 * 1024  # bytes of one
MAX_LINE = 1024 * 1024  # bytes of one event

_ANSWERS = (200, 400, 409)  # of a command: done, cannot be read, refused
_Value = TypeVar("_Value")


class _Answer(msgspec.Struct, frozen=True):
    ok: bool
    text: str = ""
    data: dict[str, Any] = {}
    error: str = ""


class ControlClient:
    """Talks to one running rtun. Every method raises RtunError when the process cannot be reached."""

    def __init__(self, place: ControlPlace) -> None:
        self._place = place
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = self._place.session(
            timeout=aiohttp.ClientTimeout(total=ANSWER_LIMIT), read_bufsize=MAX_LINE
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def check(self) -> None:
        """Raise RtunError with the reason when there is no rtun that this one understands."""
        check_hello(await self.hello())

    async def hello(self) -> Hello:
        """Versions and sequence of the other side."""
        limit = aiohttp.ClientTimeout(total=HELLO_LIMIT)
        try:
            async with self._open.get(f"{self._place.url}/hello", timeout=limit) as response:
                if response.status in (401, 403):
                    await self._expect_ok(response)
                return msgspec.json.decode(await _body(response), type=Hello)
        except msgspec.MsgspecError:
            raise RtunError(f"what answers on {self._place} is not an rtun") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._place.lost(error) from None

    async def snapshot(self, flows: int | None = None) -> Snapshot:
        """The whole picture, or with only the `flows` busiest flows."""
        query = "" if flows is None else f"?flows={flows}"
        return _decode(await self._get(f"/snapshot{query}"), Snapshot)

    async def snapshot_bytes(self) -> bytes:
        """The whole picture as it was sent."""
        return await self._get("/snapshot")

    async def events(self, since: int | None = None, *, follow: bool = True) -> AsyncIterator[bytes]:
        """JSON lines without their end: all after `since` that are still known, then as they happen.

        Without `since` only new ones. Ends when the other process stops.
        """
        query = {"follow": "1" if follow else "0"} | ({} if since is None else {"since": str(since)})
        endless = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_LIMIT)
        try:
            async with self._open.get(f"{self._place.url}/events", params=query, timeout=endless) as response:
                await self._expect_ok(response)
                self._place.guard(response)
                async for line in response.content:
                    yield line.rstrip(b"\n")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._place.lost(error) from None

    async def command(self, command: Command, *, who: str = "ctl") -> CommandResult:
        """Have a command carried out for `who`. Raises CommandRefused or UsageError with the reason."""
        query = {"who": who}
        try:
            async with self._open.post(
                f"{self._place.url}/command", params=query, data=encode_command(command)
            ) as response:
                if response.status not in _ANSWERS:
                    await self._expect_ok(response)
                answer = _decode(await _body(response), _Answer)
                status = response.status
        except (aiohttp.ClientError, OSError) as error:
            raise self._place.lost(error) from None
        if answer.ok:
            return CommandResult(text=answer.text, data=answer.data)
        raise (UsageError if status == 400 else CommandRefused)(answer.error)

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is used inside `async with`")
        return self._session

    async def _get(self, path: str) -> bytes:
        try:
            async with self._open.get(self._place.url + path) as response:
                await self._expect_ok(response)
                return await _body(response)
        except (aiohttp.ClientError, OSError) as error:
            raise self._place.lost(error) from None

    async def _expect_ok(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 401:
            raise RtunError(f"{self._place} refuses the token")
        if response.status != 200:
            text = (await _body(response)).decode(errors="replace").strip()
            raise RtunError(f"the other rtun answered with {response.status}: {text}")


def decode_event(line: bytes) -> Stamped | None:
    """A JSON line as the event that it was; None for a type that a newer version sends."""
    envelope = _decode(line, _Envelope)
    if envelope.type not in event_types():
        return None
    event = _decode(line, _event_union())
    return Stamped(envelope.seq, datetime.fromisoformat(envelope.ts).timestamp(), envelope.mono, event)


class _Envelope(msgspec.Struct):
    seq: int
    ts: str
    mono: float
    type: str


@functools.cache
def _event_union() -> Any:
    return functools.reduce(operator.or_, event_types().values())


async def _body(response: aiohttp.ClientResponse) -> bytes:
    if (response.content_length or 0) > MAX_ANSWER:
        raise RtunError(f"the answer has {response.content_length} bytes, more than {MAX_ANSWER}")
    return await response.read()


def _decode(data: bytes, kind: type[_Value]) -> _Value:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise RtunError(
            f"the other rtun's answer cannot be read, it may be another version: {error}"
        ) from None
