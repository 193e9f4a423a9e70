"""ICE parameters <-> the control message that carries them (wire spec 7, `P2PIceArgs`)."""

from __future__ import annotations

from collections import Counter
from typing import Final

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.candidate import format_candidate, parse_candidate
from rtun_core.wire.ice_checker import MAX_REMOTE, IceParams
from rtun_core.wire.pb import rtun_pb2

MAX_CREDENTIAL: Final = 256
"""Longest ufrag or pwd that is accepted, in characters (RFC 8839 5.4)."""


def ice_params_to_pb(params: IceParams) -> rtun_pb2.P2PIceArgs:
    """The message that offers our parameters to the peer."""
    return rtun_pb2.P2PIceArgs(
        ufrag=params.ufrag,
        pwd=params.pwd,
        candidates=[format_candidate(candidate) for candidate in params.candidates],
    )


def ice_params_from_pb(message: rtun_pb2.P2PIceArgs, counters: Counter[str] | None = None) -> IceParams:
    """Read the peer's parameters; at most MAX_REMOTE candidates are kept.

    A candidate that cannot be read is skipped, as the others may well work, and counted in `counters`
    as "candidate"; one too many as "limit". Raises RemoteProtocolError(reason="ice") if the credentials
    are missing or too long.
    """
    _check_credential("ufrag", message.ufrag)
    _check_credential("pwd", message.pwd)
    counters = Counter() if counters is None else counters
    candidates = []
    for text in message.candidates[:MAX_REMOTE]:
        try:
            candidates.append(parse_candidate(text))
        except RemoteProtocolError as error:
            counters[error.reason] += 1
    if len(message.candidates) > MAX_REMOTE:
        counters["limit"] += len(message.candidates) - MAX_REMOTE
    return IceParams(message.ufrag, message.pwd, tuple(candidates))


def _check_credential(name: str, text: str) -> None:
    if not 0 < len(text) <= MAX_CREDENTIAL:
        raise RemoteProtocolError(
            f"the peer's ICE {name} has {len(text)} characters; accepted: 1 to {MAX_CREDENTIAL}", reason="ice"
        )
