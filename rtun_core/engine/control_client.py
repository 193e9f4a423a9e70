"""The other end of the control socket: find a running rtun, look at it, tell it what to do."""

from __future__ import annotations

import functools
import operator
import stat
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import msgspec

from rtun_core.commands import Command, CommandResult, encode_command
from rtun_core.engine.control import is_alive
from rtun_core.engine.hello import Hello
from rtun_core.engine.paths import control_socket, runtime_dir
from rtun_core.errors import CommandRefused, RtunError, UsageError
from rtun_core.event import Stamped
from rtun_core.events import event_types
from rtun_core.model import Snapshot

ANSWER_LIMIT = 30.0  # seconds to wait for an answer
MAX_ANSWER = 256 * 1024 * 1024  # bytes of one
MAX_LINE = 1024 * 1024  # bytes of one event

_BASE = "http://rtun"
_ANSWERS = (200, 400, 409)  # of a command: done, cannot be read, refused
_Value = TypeVar("_Value")


class _Answer(msgspec.Struct, frozen=True):
    ok: bool
    text: str = ""
    data: dict[str, Any] = {}
    error: str = ""


def find_socket(which: str | None) -> Path:
    """The control socket of a living process: by path, by process id, or the only one there is.

    Raises RtunError with what was found instead.
    """
    if which is None:
        return _only_one(runtime_dir())
    path = control_socket(int(which)) if which.isascii() and which.isdigit() else Path(which)
    if not _is_socket(path):
        raise RtunError(f"there is no control socket at {path}; is rtun running with --control?")
    if not _answers(path):
        raise RtunError(f"no process listens on the control socket {path} any more")
    return path


class ControlClient:
    """Talks to one running rtun. Every method raises RtunError when the process cannot be reached."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._path)),
            timeout=aiohttp.ClientTimeout(total=ANSWER_LIMIT),
            read_bufsize=MAX_LINE,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def hello(self) -> Hello:
        """Versions and sequence of the other side."""
        return _decode(await self._get("/hello"), Hello)

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
            async with self._open.get(f"{_BASE}/events", params=query, timeout=endless) as response:
                await _expect_ok(response)
                async for line in response.content:
                    yield line.rstrip(b"\n")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._lost(error) from None

    async def command(self, command: Command, *, who: str = "ctl") -> CommandResult:
        """Have a command carried out for `who`. Raises CommandRefused or UsageError with the reason."""
        query = {"who": who}
        try:
            async with self._open.post(
                f"{_BASE}/command", params=query, data=encode_command(command)
            ) as response:
                if response.status not in _ANSWERS:
                    await _expect_ok(response)
                answer = _decode(await _body(response), _Answer)
                status = response.status
        except (aiohttp.ClientError, OSError) as error:
            raise self._lost(error) from None
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
            async with self._open.get(_BASE + path) as response:
                await _expect_ok(response)
                return await _body(response)
        except (aiohttp.ClientError, OSError) as error:
            raise self._lost(error) from None

    def _lost(self, error: Exception) -> RtunError:
        return RtunError(f"no answer on the control socket {self._path}: {error or type(error).__name__}")


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


def _only_one(directory: Path) -> Path:
    alive = [path for path in sorted(directory.glob("*.sock")) if _answers(path)]
    if len(alive) == 1:
        return alive[0]
    if not alive:
        raise RtunError(f"no running rtun has a control socket in {directory}; start it with --control")
    names = ", ".join(path.stem for path in alive)
    raise RtunError(f"several rtun run here, say which one: {names}")


def _answers(path: Path) -> bool:
    try:
        return is_alive(path)
    except OSError as error:
        raise RtunError(f"cannot connect to the control socket {path}: {error.strerror or error}") from None


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


async def _expect_ok(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        text = (await _body(response)).decode(errors="replace").strip()
        raise RtunError(f"the other rtun answered with {response.status}: {text}")


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
