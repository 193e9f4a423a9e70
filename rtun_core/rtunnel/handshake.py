"""Headers of the WebSocket handshake (rtunnel spec 3.1, 3.2 and 15).

The original knows one, the id of the session, and skips the others. So these are only ever relied on when
the other end has shown that it knows them:

    X-Rtun-Half-Close: 1    asked for by the client, repeated by the server that agrees
    X-Rtun-Resume: 1        the client had this session open; a server that does not know it answers 410
    X-Rtun-Token: HEX       proof of a shared token, for this session id only
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

SESSION: Final = "X-Session-Id"
HALF_CLOSE: Final = "X-Rtun-Half-Close"
RESUME: Final = "X-Rtun-Resume"
TOKEN: Final = "X-Rtun-Token"  # noqa: S105  # the name of a header, not a token

TEST_ID: Final = "test-connection"
"""The session id of a client that only wants to know whether the server is there."""
MAX_ID: Final = 128
"""Characters of a session id, at most. Those of clients in the field have 36."""

_YES = "1"
_CONTEXT = b"rtunnel session "


def request_headers(session_id: str, *, token: bytes | None, resume: bool) -> dict[str, str]:
    """What a client sends to open or resume a session."""
    headers = {SESSION: session_id, HALF_CLOSE: _YES}
    if resume:
        headers[RESUME] = _YES
    if token is not None:
        headers[TOKEN] = proof(token, session_id)
    return headers


def proof(token: bytes, session_id: str) -> str:
    """The token itself never travels, and who overhears a proof can open no other session with it."""
    return hmac.new(token, _CONTEXT + session_id.encode(), hashlib.sha256).hexdigest()


def is_authorized(token: bytes | None, session_id: str, headers: Mapping[str, str]) -> bool:
    """Whether the client knows the token; takes as long for a wrong one as for the right one."""
    if token is None:
        return True
    given = headers.get(TOKEN, "").encode("utf-8", "surrogateescape")
    return hmac.compare_digest(given, proof(token, session_id).encode())


def half_close(headers: Mapping[str, str]) -> bool:
    """Whether a request asks for half-close, or a response agrees to it."""
    return headers.get(HALF_CLOSE, "") == _YES


def resumes(headers: Mapping[str, str]) -> bool:
    """Whether a request comes back to a session."""
    return headers.get(RESUME, "") == _YES


def agreement(*, half_close: bool) -> dict[str, str]:
    """What a server adds to its 101."""
    return {HALF_CLOSE: _YES} if half_close else {}
