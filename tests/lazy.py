"""Snapshots as JSON, all at once; the engine does it in pieces."""

from __future__ import annotations

from collections.abc import Sequence


def encode_lazy(value: object) -> object:
    """`enc_hook` for msgspec: services may give `flows` as a lazy sequence."""
    if isinstance(value, Sequence):
        return list(value)
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")
