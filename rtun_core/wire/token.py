"""The token that proves knowledge of the shared secret (wire spec 3.3).

A token is Base64 without padding of an 8-byte nonce and its HMAC-SHA-256. The nonce is the time of
making in Unix ms, but nobody checks its age: clients make one token at start and keep using it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from rtun_core.errors import RemoteProtocolError

PUBLIC_SECRET = b"tKwC83s8"
"""The key of every program that was started without a secret; published, so it protects nothing."""

_NONCE_SIZE = 8
_TOKEN_LENGTH = 54  # characters of 40 bytes
_BASE64 = re.compile(r"[A-Za-z0-9+/]*")


def make_token(secret: bytes, now_ms: int) -> str:
    """Build the token for `secret` with the nonce `now_ms` (Unix ms, unsigned 64 bits): 54 characters."""
    nonce = now_ms.to_bytes(_NONCE_SIZE, "big")
    return base64.b64encode(nonce + _mac(secret, nonce)).rstrip(b"=").decode()


def verify_token(secret: bytes, token: str) -> int:
    """Check `token` against `secret` and return its nonce (ms).

    Raises RemoteProtocolError(reason="token") with the text `token too short` or `invalid token`.
    """
    raw = _decode(token)
    if len(raw) < _NONCE_SIZE:
        raise RemoteProtocolError("token too short", reason="token")
    nonce, mac = raw[:_NONCE_SIZE], raw[_NONCE_SIZE:]
    if not hmac.compare_digest(mac, _mac(secret, nonce)):
        raise RemoteProtocolError("invalid token", reason="token")
    return int.from_bytes(nonce, "big")


def _mac(secret: bytes, nonce: bytes) -> bytes:
    return hmac.new(secret, nonce, hashlib.sha256).digest()


def _decode(token: str) -> bytes:
    # A length of 4n+1 is no Base64; bits left over at the end must be zero, as peers demand too.
    if len(token) > _TOKEN_LENGTH or not _BASE64.fullmatch(token) or len(token) % 4 == 1:
        raise RemoteProtocolError("invalid token", reason="token")
    raw = base64.b64decode(token + "=" * (-len(token) % 4))
    if base64.b64encode(raw).rstrip(b"=") != token.encode():
        raise RemoteProtocolError("invalid token", reason="token")
    return raw
