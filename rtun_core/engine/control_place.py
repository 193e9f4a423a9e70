"""Where a running rtun is reached: its control socket, or an address of --control-tcp with the token."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from rtun_core.engine.control import is_alive
from rtun_core.engine.paths import control_socket, runtime_dir
from rtun_core.errors import RtunError, UsageError
from rtun_core.net.keepalive import end_when_lost
from rtun_core.wire.address import Address, parse_address

LOST_AFTER = 20  # seconds without a sign of the other machine until a TCP connection is over


@dataclass(frozen=True, slots=True)
class UnixPlace:
    """A control socket of this machine."""

    path: Path
    url = "http://rtun"
    is_far = False

    def __str__(self) -> str:
        return f"the control socket {self.path}"

    def session(self, **options: Any) -> aiohttp.ClientSession:
        """A client for requests to there."""
        return aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.path)), **options)

    def guard(self, response: aiohttp.ClientResponse) -> None:
        """Nothing is needed for an answer to end with the process that gives it."""

    def lost(self, error: BaseException) -> RtunError:
        """What it means that a request found nobody."""
        return RtunError(f"no answer on {self}: {_reason(error)}")


@dataclass(frozen=True, slots=True)
class TcpPlace:
    """An address of --control-tcp, maybe of another machine."""

    address: Address
    token: bytes = field(repr=False)
    is_far = True

    def __str__(self) -> str:
        return str(self.address)

    @property
    def url(self) -> str:
        """What paths are put behind."""
        return f"http://{self.address}"

    def session(self, **options: Any) -> aiohttp.ClientSession:
        """A client for requests to there."""
        return aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self.token.decode('ascii')}"}, **options
        )

    def guard(self, response: aiohttp.ClientResponse) -> None:
        """Have an answer that may take for ever end when the other machine is gone."""
        if response.connection is not None and response.connection.transport is not None:
            end_when_lost(response.connection.transport.get_extra_info("socket"), LOST_AFTER)

    def lost(self, error: BaseException) -> RtunError:
        """What it means that a request found nobody."""
        match error:
            case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
                return RtunError(f"nobody listens at {self}")
            case aiohttp.ClientConnectorError(os_error=cause):
                return RtunError(f"cannot connect to {self}: {cause.strerror or cause}")
            case aiohttp.ClientResponseError() | aiohttp.ServerDisconnectedError():
                return RtunError(f"{self} is not the control address of an rtun, or is too busy")
            case _:
                return RtunError(f"no answer from {self}: {_reason(error)}")


ControlPlace = UnixPlace | TcpPlace


def find_place(which: str | None, token: bytes | None = None) -> ControlPlace:
    """A running rtun by the path of its socket, its process id or its address; None: the only one here.

    Raises RtunError with what was found instead, UsageError for an address without a token.
    """
    address = None if which is None else _address(which)
    if address is None:
        return UnixPlace(find_socket(which))
    if token is None:
        raise UsageError(
            f"{address} wants the token of --control-tcp; accepted: --control-token-file FILE, or "
            "RTUN_CONTROL_TOKEN in the environment"
        )
    return TcpPlace(address, token)


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


def _address(which: str) -> Address | None:
    """None for what is rather a path: it has a slash, or is there."""
    if "/" in which or Path(which).exists():
        return None
    try:
        address = parse_address(f"127.0.0.1{which}" if which.startswith(":") else which)
    except ValueError:
        return None
    return address if address.port else None


def _reason(error: BaseException) -> str:
    return str(error) or ("not in time" if isinstance(error, TimeoutError) else type(error).__name__)


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
