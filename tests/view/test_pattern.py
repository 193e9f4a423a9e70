"""Regular expressions of filters end soon, or are refused."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.view.pattern import (
    BASE,
    EACH,
    MAX_PATTERN,
    MAX_TEXT,
    PatternError,
    SlowPattern,
    compile_pattern,
    search_all,
)


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("ab(", 2, "regular expression: missing"),
        ("a**", 2, "multiple repeat"),
        ("a{99999999999}", 0, "regular expression:"),
        ("a" * (MAX_PATTERN + 1), MAX_PATTERN, "at most 200"),
    ],
)
def test_bad_patterns_tell_where(text, offset, message):
    with pytest.raises(PatternError, match=message) as caught:
        compile_pattern(text)
    assert caught.value.offset == offset


def test_a_pattern_that_may_change_its_meaning_is_taken_quietly():
    assert compile_pattern("[[a]")


ORDINARY = (
    *("^eu-", "(eu|us).*prod", "a.*b.*c.*d", r"^10\.0\.\d{1,3}\.\d{1,3}:", "(?i)Prod", "(?:[0-9a-f]{2}:){5}"),
    *("[0-9]+$", "(?<!x)y+", "(?=a)b?", "(ab)+|c", "colou?r", ":53$|:853$", "a*+b", "(?>ab)+"),
)


@pytest.mark.parametrize("text", ORDINARY)
def test_what_people_write_is_taken_as_it_is(text):
    assert compile_pattern(text).pattern == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(a+)+$", "inside of a repeat"),
        ("((a*)b)*", "inside of a repeat"),
        ("(a|a)*$", "inside of a repeat"),
        ("(a?){9}", "inside of a repeat"),
        ("(?:(?=(a+))a)*", "inside of a repeat"),
        (r"(.+)x\1", "referred back"),
        (r"(a)?(?(1)b)", "referred back"),
        (".*.*.*.*x", "too many parts"),
        ("a?" * 10, "too many parts"),
        ("(ab|a)" * 10, "too many parts"),
        ("a?a?a?a?.*.*x", "too many parts"),
    ],
)
def test_what_may_take_for_ever_is_refused(text, message):
    with pytest.raises(PatternError, match=message):
        compile_pattern(text)


PARTS = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", r"\w", "ab"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["*", "+", "?", "*?", "+?", "{2}", "{1,5}", "*+"])).map(
            lambda part: f"(?:{part[0]}){part[1]}"
        ),
        st.lists(inner, min_size=2, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        inner.map(lambda part: f"(?={part})"),
    ),
    max_leaves=12,
)


@given(PARTS)
def test_whatever_is_taken_ends_soon(text):
    try:
        pattern = compile_pattern(f"{text}!")
    except PatternError:
        return
    begin = time.thread_time()
    pattern.search("a" * 40)
    assert time.thread_time() - begin < 0.25


def test_one_of_several_patterns_in_many_texts():
    patterns = [re.compile("^d"), re.compile("5$")]
    texts = ["degraded", "up", "t5", "down"] * 20
    assert search_all(patterns, texts) == [True, False, True, True] * 20
    assert search_all(patterns, []) == []


def test_of_a_long_text_the_beginning_is_looked_at():
    assert search_all([re.compile("b")], ["a" * MAX_TEXT + "b", "a" * (MAX_TEXT - 1) + "b"]) == [False, True]


def test_a_slow_pattern_is_given_up_in_time():
    texts = ["a" * 60] * 100_000
    begin = time.thread_time()
    with pytest.raises(SlowPattern):
        search_all([compile_pattern(".*?.*?.*?x")], texts)
    assert time.thread_time() - begin < 4 * (BASE + EACH * len(texts)) + 0.5
