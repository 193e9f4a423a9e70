"""The JSON schema of the event lines, shipped as `rtun_core/events.schema.json`."""

from __future__ import annotations

from typing import Any

import msgspec

from rtun_core.event import Event
from rtun_core.events import event_types
from rtun_core.model import SCHEMA_VERSION

_ENVELOPE: dict[str, Any] = {
    "v": {"const": SCHEMA_VERSION, "description": "version of this schema"},
    "seq": {"type": "integer", "minimum": 0, "description": "sequence, counts every event from 1"},
    "ts": {"type": "string", "format": "date-time", "description": "UTC, with milliseconds"},
    "mono": {"type": "number", "description": "seconds since the start, never jumps"},
}


def event_schema() -> dict[str, Any]:
    """A schema (draft 2020-12) that every line of `--json` and of the control socket satisfies."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rtun event",
        "oneOf": [{"$ref": f"#/$defs/{tag}"} for tag in event_types()],
        "$defs": {tag: _flat(kind) for tag, kind in event_types().items()},
    }


def event_schema_json() -> bytes:
    """The text of the shipped file."""
    return msgspec.json.format(msgspec.json.encode(event_schema()), indent=2) + b"\n"


def _flat(kind: type[Event]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([kind])
    schema: dict[str, Any] = components[kind.__name__]
    return schema | {
        "properties": _ENVELOPE | schema["properties"],
        "required": [*_ENVELOPE, *schema["required"]],
    }
