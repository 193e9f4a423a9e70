"""Specs and pages: defaults, JSON, and the bounds that decoding checks."""

import msgspec
import pytest

from rtun_core.view.page import MAX_FILTER, MAX_LIMIT, MAX_MARKS, MAX_SORTS, Sort, ViewSpec


def decode(**fields):
    return msgspec.json.decode(msgspec.json.encode({"table": "flows", **fields}), type=ViewSpec)


def test_the_least_that_a_spec_needs():
    assert decode() == ViewSpec(table="flows")
    assert ViewSpec(table="rules").limit == 64


def test_a_spec_travels_as_json():
    spec = ViewSpec(
        table="agents",
        filter="exp<10m",
        sort=(Sort("exp"), Sort("name", True)),
        offset=5,
        limit=MAX_LIMIT,
        follow="a/b",
        marks=("a/b",),
    )
    assert msgspec.json.decode(msgspec.json.encode(spec), type=ViewSpec) == spec


@pytest.mark.parametrize(
    "fields",
    [
        {"table": "nope"},
        {"limit": 0},
        {"limit": MAX_LIMIT + 1},
        {"offset": -1},
        {"filter": "x" * (MAX_FILTER + 1)},
        {"sort": [{"column": "dn"}] * (MAX_SORTS + 1)},
        {"marks": ["x"] * (MAX_MARKS + 1)},
    ],
)
def test_bounds(fields):
    with pytest.raises(msgspec.ValidationError):
        decode(**fields)
