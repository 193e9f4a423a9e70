import functools
import json
import operator
import os
import types
import typing
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from rtun_core.event import Event, Level, Stamped, event_json, rfc3339
from rtun_core.events import event_types
from rtun_core.model import SCHEMA_VERSION

GOLDEN = Path(__file__).with_name("events.golden.txt")

KINDS = list(event_types().values())


def value_for(kind):
    """Some value of an annotated type."""
    kind = getattr(kind, "__supertype__", kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return value_for(arguments[0])
    if origin is tuple:
        return (value_for(arguments[0]),)
    if origin is dict:
        return {"oversize": 3}
    return {str: "word", int: 7, float: 1.5, bool: True}[kind]


def example(kind, *, full):
    hints = typing.get_type_hints(kind)
    fields = msgspec.structs.fields(kind)
    return kind(**{field.name: value_for(hints[field.name]) for field in fields if full or field.required})


def describe(kind):
    """One line of the golden list."""
    hints = typing.get_type_hints(kind)
    fields = " ".join(
        f"{field.name}{'' if field.required else '?'}:{show(hints[field.name])}"
        for field in msgspec.structs.fields(kind)
    )
    return f"{kind.__struct_config__.tag} {kind.level.name.lower()} {fields}".rstrip()


def show(kind):
    """A type as text, the same with every Python."""
    arguments = ", ".join("..." if one is ... else show(one) for one in typing.get_args(kind))
    if not arguments:
        return "None" if kind is type(None) else kind.__name__
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return arguments.replace(", ", " | ")
    return f"{typing.get_origin(kind).__name__}[{arguments}]"


@functools.cache
def union():
    return functools.reduce(operator.or_, KINDS)


def test_types_and_fields_are_as_documented():
    text = "".join(f"{describe(kind)}\n" for kind in KINDS)
    if os.environ.get("RTUN_UPDATE_GOLDEN") == "1":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_each_event_has_a_text_of_one_line(kind, full):
    text = example(kind, full=full).text()
    assert text
    assert "\n" not in text


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_json_round_trip(kind, full):
    event = example(kind, full=full)
    line = event_json(Stamped(3, 1.0, 2.0, event))
    assert msgspec.json.decode(line, type=union()) == event


@pytest.mark.parametrize("kind", KINDS)
def test_each_event_is_described(kind):
    assert kind.__doc__
    assert isinstance(kind.level, Level)
    assert not {"v", "seq", "ts", "mono", "type"} & set(kind.__struct_fields__)


def test_the_envelope_leads():
    stamped = Stamped(17, 1_700_000_000.789, 12.3456789, example(event_types()["tunnel.closed"], full=True))
    fields = json.loads(event_json(stamped))
    assert list(fields)[:5] == ["v", "seq", "ts", "mono", "type"]
    assert (fields["v"], fields["seq"], fields["mono"]) == (SCHEMA_VERSION, 17, 12.345679)
    assert (fields["ts"], fields["type"]) == ("2023-11-14T22:13:20.789Z", "tunnel.closed")


def test_rfc3339_is_utc_with_milliseconds():
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert datetime.fromisoformat(rfc3339(1_700_000_000.5)).timestamp() == 1_700_000_000.5


def test_the_base_has_no_text():
    class Silent(msgspec.Struct):
        pass

    with pytest.raises(NotImplementedError):
        Event.text(Silent())
