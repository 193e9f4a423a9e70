"""Eight-character identifiers: instance ids, names of nameless agents, ICE credentials (wire spec 3.2)."""

from __future__ import annotations

import string

ID_LENGTH = 8
_ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_EPOCH_MS = 1_609_430_400_000  # 2020-12-31T16:00:00Z
_SEQUENCE_BITS = 24


def encode_id(number: int) -> str:
    """Write `number` modulo 62^8 as eight base-62 digits, the most significant one first."""
    digits = []
    for _ in range(ID_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def decode_id(text: str) -> int:
    """Read eight base-62 digits back as a number below 62^8. Raises ValueError for anything else."""
    if len(text) != ID_LENGTH:
        raise ValueError(f"the id has {len(text)} characters; accepted: {ID_LENGTH} of A-Z, a-z, 0-9")
    number = 0
    for character in text:
        if character not in _VALUES:
            raise ValueError(f"the id {text!r} has the character {character!r}; accepted: A-Z, a-z, 0-9")
        number = number * len(_ALPHABET) + _VALUES[character]
    return number


def snowflake(unix_ms: int, sequence: int) -> int:
    """Join a Unix time in ms and the low 24 bits of a counter into an unsigned 64-bit number.

    A clock that stands before the epoch of these numbers wraps around instead of failing.
    """
    number = (unix_ms - _EPOCH_MS) << _SEQUENCE_BITS | sequence & (1 << _SEQUENCE_BITS) - 1
    return number & 0xFFFF_FFFF_FFFF_FFFF
