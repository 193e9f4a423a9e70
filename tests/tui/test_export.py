import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import UsageError
from rtun_core.view.columns import COLUMNS, TABLES
from rtun_core.view.units import Look
from rtun_tui.export import FORMS, export_text
from tests.tui.views import AGENT, FLOW, NOW, RULE, SECOND, TUNNEL, but

PLAIN, PRIVATE = Look(), Look(private=True)
ROW = {"agents": AGENT, "tunnels": TUNNEL, "flows": FLOW, "rules": RULE}


def records(form, table, rows, look=PLAIN, **options):
    text = export_text(form, table, rows, look, NOW, **options)
    if form == "csv":
        return list(csv.DictReader(io.StringIO(text)))
    return [json.loads(line) for line in text.split("\n")[:-1]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("table", TABLES)
def test_every_column_in_its_order(form, table):
    (record,) = records(form, table, [ROW[table]])
    assert list(record) == [column.id for column in COLUMNS[table]]


def test_values_are_numbers_not_texts():
    (record,) = records("ndjson", "flows", [FLOW])
    assert (record["dn"], record["idle"], record["age"]) == (250_000.0, 0.4, 2520.0)
    assert (record["src"], record["state"], record["flow"]) == ("10.0.4.17:60001", "active", FLOW.id)
    (record,) = records("csv", "tunnels", [TUNNEL])
    assert (record["loss"], record["rtt"]) == ("0.042", "18.4")


def test_what_is_not_known_is_null_in_json_and_empty_in_csv():
    assert records("ndjson", "tunnels", [SECOND], columns=["rtt"]) == [{"rtt": None}]
    assert records("csv", "tunnels", [SECOND], columns=["id", "rtt"]) == [{"id": "t2", "rtt": ""}]
    nan = but(FLOW, up_rate=float("nan"))
    assert records("ndjson", "flows", [nan], columns=["up"]) == [{"up": None}]


def test_columns_can_be_chosen_by_any_of_their_names():
    assert (
        export_text("csv", "flows", [FLOW], PLAIN, NOW, columns=("tun", "down")) == "tunnel,dn\nt1,250000.0\n"
    )
    with pytest.raises(UsageError, match="colour"):
        export_text("csv", "flows", [], PLAIN, NOW, columns=("colour",))


def test_no_rows():
    assert export_text("ndjson", "flows", [], PLAIN, NOW) == ""
    assert export_text("csv", "flows", [], PLAIN, NOW).count("\n") == 1


def test_what_is_hidden_on_the_screen_is_hidden_in_the_file():
    (flow,) = records("ndjson", "flows", [FLOW], PRIVATE)
    assert (flow["src"], flow["dst"]) == ("10.0.*.*:60001", "192.0.*.*:53")
    assert (flow["state"], flow["tunnel"], flow["flow"], flow["dn"]) == ("active", "t1", FLOW.id, 250_000.0)
    (agent,) = records("csv", "agents", [but(AGENT, id="beta/10.0.0.9", instance="10.0.0.9")], PRIVATE)
    assert (agent["id"], agent["name"], agent["state"]) == ("beta/10.0.*.*", "beta", "in use")
    assert "example" in agent["signal"]
    assert "a.example" not in agent["signal"]


@pytest.mark.parametrize("table", TABLES)
def test_no_address_is_left_in_private(table):
    for form in FORMS:
        text = export_text(form, table, [ROW[table]], PRIVATE, NOW)
        assert not any(address in text for address in ("10.0.4", "192.0.2", "203.0.113", "198.51.100"))


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "\x1b=1", "\uff1d1"])
def test_a_name_never_becomes_a_formula(name):
    (record,) = records("csv", "agents", [but(AGENT, name=name)], columns=["name"])
    assert record["name"].startswith("'")
    (record,) = records("ndjson", "agents", [but(AGENT, name=name)], columns=["name"])
    assert record["name"] == name


def test_numbers_and_the_dash_are_left_as_they_are():
    (record,) = records("csv", "flows", [but(FLOW, source="-", up_rate=-1.0)], columns=["src", "up"])
    assert record == {"src": "-", "up": "-1.0"}


@given(name=st.text(max_size=20), reason=st.text(max_size=20))
def test_whatever_a_peer_says_a_row_stays_a_row(name, reason):
    agent = but(AGENT, name=name, reason=reason)
    for form in FORMS:
        text = export_text(form, "agents", [agent, agent], PLAIN, NOW, columns=("name", "reason", "tunnels"))
        assert len(records(form, "agents", [agent, agent])) == 2
        assert "\x1b" not in text
        assert text.count("\n") == (3 if form == "csv" else 2)
