import json
import os
from pathlib import Path

import rtun_core
from rtun_core.engine.event_schema import event_schema, event_schema_json
from rtun_core.event import Stamped, event_json
from rtun_core.events import AgentSelected, event_types

SHIPPED = Path(rtun_core.__file__).with_name("events.schema.json")


def test_the_shipped_file_is_current():
    if os.environ.get("RTUN_UPDATE_GOLDEN") == "1":
        SHIPPED.write_bytes(event_schema_json())
    assert SHIPPED.read_bytes() == event_schema_json()


def test_each_type_has_its_schema():
    schema = event_schema()
    assert list(schema["$defs"]) == list(event_types())
    assert schema["oneOf"][0] == {"$ref": "#/$defs/engine.started"}


def test_a_line_has_exactly_the_described_fields():
    line = json.loads(event_json(Stamped(1, 0.0, 0.0, AgentSelected(agent="a"))))
    described = event_schema()["$defs"]["agent.selected"]
    assert set(line) == set(described["properties"])
    assert set(described["required"]) == set(line) - {"expires_at"}
    assert described["properties"]["type"]["enum"] == [line["type"]]


def test_the_text_is_json():
    assert json.loads(event_schema_json()) == event_schema()
