"""JSON of the signalling server: requests and answers on QUIC, the agent list on HTTP.

Wire spec 4, 5.3 and 5.4. Every document is an object tagged by `kind`, except the agent list, which
is a bare array. Keys are written in the order of the fields below; in reading their order is free,
unknown ones are skipped, and an absent optional one means null.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

from rtun_core.errors import RemoteProtocolError

NEVER = 2**63 - 1
"""The `expire_at` of an agent that stays until it goes; also the latest time that we keep (Unix ms)."""

MAX_AGENTS = 10_000
_MAX_REQUEST = 64 * 1024
_MAX_ANSWER = 16 * 1024 * 1024

_Unsigned = Annotated[int, Meta(ge=0)]
_Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]


class PubRequest(Struct, frozen=True, tag_field="kind", tag="pub"):
    """Register as `agent` for `expire_in` ms; None lets the server choose the name, or never expire.

    An `expire_in` above NEVER is kept as NEVER.
    """

    agent: str | None
    token: str
    expire_in: _Unsigned | None
    instance_id: str | None = None
    ver: str | None = None

    def __post_init__(self) -> None:
        _clamp(self, "expire_in", self.expire_in)


class SubRequest(Struct, frozen=True, tag_field="kind", tag="sub"):
    """Attach to `agent` (None means `local`), and only to its `instance_id` if that is given."""

    agent: str | None
    token: str
    expire_in: _Unsigned | None = None
    instance_id: str | None = None
    ver: str | None = None


class SessionsRequest(Struct, frozen=True, tag_field="kind", tag="sessions"):
    """Ask for the list of agents."""


class AgentEntry(Struct, frozen=True, omit_defaults=True):
    """One registered agent: `addr` as the server sees it, `expire_at` in Unix ms of the server's clock.

    An `expire_at` above NEVER is kept as NEVER, so that one odd agent cannot spoil the list for others.
    """

    NEVER: ClassVar[int] = NEVER

    name: str
    addr: str
    expire_at: _Unsigned
    instance_id: str | None = None
    ver: str | None = None

    def __post_init__(self) -> None:
        _clamp(self, "expire_at", self.expire_at)


_Agents = Annotated[list[AgentEntry], Meta(max_length=MAX_AGENTS)]


class PubResponse(Struct, frozen=True, tag_field="kind", tag="pub"):
    """Answer to `PubRequest`: code 0 and the name that was given, or -1 and a reason."""

    code: _Int32
    reason: str
    agent_name: str | None


class SubResponse(Struct, frozen=True, tag_field="kind", tag="sub"):
    """Answer to `SubRequest`: code 0, or -1 and a reason."""

    code: _Int32
    reason: str


class SessionsResponse(Struct, frozen=True, tag_field="kind", tag="sessions"):
    """Answer to `SessionsRequest`; at most `MAX_AGENTS` entries in any order."""

    code: _Int32
    reason: str
    sessions: _Agents


Request = PubRequest | SubRequest | SessionsRequest
Response = PubResponse | SubResponse | SessionsResponse


def encode_request(req: Request) -> bytes:
    """Write a request; absent values are written as null, as the programs in the field do."""
    return msgspec.json.encode(req)


def decode_request(data: bytes) -> Request:
    """Read a request of up to 64 KiB. Raises RemoteProtocolError(reason="json")."""
    document = {"agent": None, "expire_in": None} | _load(data, dict[str, Any], _MAX_REQUEST)
    request: Request = _shape(document, Request)
    return request


def encode_response(r: Response) -> bytes:
    """Write an answer."""
    return msgspec.json.encode(r)


def decode_response(data: bytes) -> Response:
    """Read an answer of up to 16 MiB. Raises RemoteProtocolError(reason="json").

    The caller checks that the kind is the one it asked for and that the code is 0.
    """
    document = {"agent_name": None} | _load(data, dict[str, Any], _MAX_ANSWER)
    if document.get("sessions") is None:
        document["sessions"] = []
    response: Response = _shape(document, Response)
    return response


def encode_agents(agents: list[AgentEntry]) -> bytes:
    """Write the body of `GET /pub/sessions`."""
    return msgspec.json.encode(agents)


def decode_agents(data: bytes) -> list[AgentEntry]:
    """Read the body of `GET /pub/sessions`, up to 16 MiB. Raises RemoteProtocolError(reason="json")."""
    agents: list[AgentEntry] = _load(data, _Agents, _MAX_ANSWER)
    return agents


def unauthorized(detail: str) -> str:
    """Reason of an error answer: the token was not accepted, because of `detail`."""
    return f"unauthorized: {detail}"


def agent_not_found(name: str) -> str:
    """Reason of an error answer: nobody is registered as `name`."""
    return f"not found agent [{name}]"


def instance_mismatch(name: str, want: str, actual: str) -> str:
    """Reason of an error answer: `name` is registered, but as another instance than the wanted one."""
    return f"instance mismatch for agent [{name}], want [{want}], actual [{actual}]"


def _clamp(struct: Struct, field: str, value: int | None) -> None:
    if value is not None and value > NEVER:
        msgspec.structs.force_setattr(struct, field, NEVER)


def _load(data: bytes, shape: Any, limit: int) -> Any:
    if len(data) > limit:
        raise RemoteProtocolError(f"a JSON document has {len(data)} bytes", reason="json")
    try:
        return msgspec.json.decode(data, type=shape)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"bad JSON: {error}", reason="json") from None


def _shape(document: dict[str, Any], shape: Any) -> Any:
    try:
        return msgspec.convert(document, shape)
    except msgspec.ValidationError as error:
        raise RemoteProtocolError(f"unexpected JSON: {error}", reason="json") from None
