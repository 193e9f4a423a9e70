import numpy as np
import pytest

from rtun_core.flow_rows import pack_source
from rtun_core.view.filter_predicates import (
    Contains,
    Equals,
    FlagTest,
    InNetwork,
    Matches,
    NumberTest,
)
from rtun_core.view.filter_values import read_network
from rtun_core.view.pattern import compile_pattern


@pytest.mark.parametrize(
    ("op", "passing"),
    [(":", [2]), ("=", [2]), ("!=", [2]), (">", [3]), (">=", [2, 3]), ("<", [1]), ("<=", [1, 2])],
)
def test_numbers_one_by_one_and_as_a_column(op, passing):
    test = NumberTest(op, [2.0])
    column = np.array([1, 2, 3], np.int64)
    assert [value for value in (1, 2, 3) if test(value)] == passing
    assert column[test.mask(column)].tolist() == passing


def test_of_several_limits_one_is_enough():
    test = NumberTest("=", [1.0, 3.0])
    assert test.mask(np.array([1.0, 2.0, 3.0])).tolist() == [test(value) for value in (1, 2, 3)]


def test_nan_passes_nothing():
    column = np.array([np.nan])
    for op in ("=", ">", ">=", "<", "<="):
        test = NumberTest(op, [0.0])
        assert not test(float("nan"))
        assert not test.mask(column).any()


def test_flags():
    assert FlagTest([True])(True)
    assert not FlagTest([True])(False)
    assert FlagTest([True, False])(False)


@pytest.mark.parametrize(
    ("test", "passing"),
    [
        (Contains(["DE"]), ["degraded", "idle, de"]),
        (Contains(["de", "T5"]), ["degraded", "t5", "idle, de"]),
        (Equals(["T5"]), ["t5"]),
        (Equals(["t5", "degraded"]), ["degraded", "t5"]),
        (Matches([compile_pattern("^d"), compile_pattern("5$")]), ["degraded", "t5"]),
    ],
)
def test_texts_one_by_one_and_many(test, passing):
    texts = ["degraded", "t5", "idle, de", ""]
    assert [text for text in texts if test(text)] == passing
    assert [text for text, found in zip(texts, test.over(texts), strict=True) if found] == passing


def test_contains_and_equals_ignore_case_and_patterns_do_not():
    assert Contains(["eu-"])("EU-west")
    assert Equals(["STRASSE"])("straße")
    assert not Matches([compile_pattern("eu")])("EU")
    assert Matches([compile_pattern("(?i)eu")])("EU")


def test_names_and_networks_of_addresses():
    network = read_network("10.0.0.0/8")
    assert network is not None
    test = InNetwork([network], ["A.example", "b.example:53"])
    passing = ["10.1.1.1:5", "a.example:99", "a.example", "b.example:53"]
    assert [text for text in [*passing, "b.example:54", "11.0.0.1:5", "-"] if test(text)] == passing


@pytest.mark.parametrize(
    "spelling",
    [
        *("0.0.0.0/0", "10.0.0.0/8", "10.0.4.17", "10.0.4.17:53", "10.0.4.16/31", "::/0", "::/96", "::1"),
        *("fd00::/8", "[fd00::1]:53", "::ffff:0:0/96", "::ffff:10.0.4.17"),
    ],
)
def test_packed_addresses_give_the_same_answer(spelling):
    texts = ["-", "10.0.4.17:53", "10.0.4.17:54", "11.0.0.1:53", "[::1]:53", "[fd00::1]:53", "[fd00::2]:309"]
    network = read_network(spelling)
    assert network is not None
    test = InNetwork([network], [])
    packed = np.frombuffer(b"".join(pack_source(text) for text in texts), np.uint8).reshape(-1, 18)
    assert test.mask(packed).tolist() == [test(text) for text in texts]
    assert test.mask(packed[:0]).tolist() == []
