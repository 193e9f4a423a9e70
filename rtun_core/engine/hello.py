"""How an engine introduces itself on its control socket."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from rtun_core import __version__
from rtun_core.errors import RtunError
from rtun_core.model import SCHEMA_VERSION

if TYPE_CHECKING:
    from rtun_core.engine.engine import Engine


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers: schema version, program version, process, newest sequence, services."""

    v: int
    version: str
    pid: int
    seq: int
    services: tuple[str, ...]


def hello_of(engine: Engine) -> Hello:
    """The introduction of an engine in this process, as of now."""
    return Hello(
        v=SCHEMA_VERSION, version=__version__, pid=os.getpid(), seq=engine.bus.seq, services=engine.names
    )


def check_hello(hello: Hello) -> None:
    """Raise RtunError when that engine and this program do not mean the same by what they say."""
    if hello.v != SCHEMA_VERSION:
        raise RtunError(
            f"process {hello.pid} is rtun {hello.version}, which speaks version {hello.v} of the control "
            f"protocol; this one is {__version__} and speaks version {SCHEMA_VERSION}"
        )
