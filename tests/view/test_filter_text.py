import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rtun_core.errors import UsageError
from rtun_core.view.filter_text import (
    MAX_DEPTH,
    MAX_LENGTH,
    And,
    Compare,
    Expr,
    FilterError,
    Named,
    Not,
    Or,
    Word,
    parse_filter,
    print_filter,
)
from tests.view.filter_trees import texts, trees


def cmp(field: str, op: str, *values: str) -> Compare:
    return Compare(field, op, values)


def parsed(text: str) -> Expr:
    expr = parse_filter(text)
    assert expr is not None
    return expr


GUIDE = {
    "idle>30s": cmp("idle", ">", "30s"),
    "src=10.0.0.0/8 dn>1M": And((cmp("src", "=", "10.0.0.0/8"), cmp("dn", ">", "1M"))),
    "tunnel=t4 !state=idle": And((cmp("tunnel", "=", "t4"), Not(cmp("state", "=", "idle")))),
    "agent~^eu- exp<10m": And((cmp("agent", "~", "^eu-"), cmp("exp", "<", "10m"))),
    "@marked": Named("marked"),
    "drop>0 or state=moving": Or((cmp("drop", ">", "0"), cmp("state", "=", "moving"))),
    "tunnel=t4|t5": cmp("tunnel", "=", "t4", "t5"),
    "src:10.0. idle<2m": And((cmp("src", ":", "10.0."), cmp("idle", "<", "2m"))),
}


@pytest.mark.parametrize(("text", "tree"), GUIDE.items())
def test_examples_of_the_guide(text, tree):
    assert parse_filter(text) == tree
    assert print_filter(tree).replace(" | ", " or ") == text


@pytest.mark.parametrize("text", ["", "  ", "\t\n"])
def test_blank_text_is_no_filter(text):
    assert parse_filter(text) is None


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a b c", And((Word("a"), Word("b"), Word("c")))),
        ("a and b AND c", And((Word("a"), Word("b"), Word("c")))),
        ("a b | c", Or((And((Word("a"), Word("b"))), Word("c")))),
        ("a|b", Or((Word("a"), Word("b")))),
        ("a (b | c)", And((Word("a"), Or((Word("b"), Word("c")))))),
        ("(a b) c", And((And((Word("a"), Word("b"))), Word("c")))),
        ("-a !b not c", And((Not(Word("a")), Not(Word("b")), Not(Word("c"))))),
        ("!(a | b)", Not(Or((Word("a"), Word("b"))))),
        ("!!a", Not(Not(Word("a")))),
        ("order android nothing", And((Word("order"), Word("android"), Word("nothing")))),
        ('"or"', Word("or")),
        ("(a)", Word("a")),
    ],
)
def test_terms_are_joined_by_precedence(text, tree):
    assert parse_filter(text) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("tunnel=t4 | t5", Or((cmp("tunnel", "=", "t4"), Word("t5")))),
        ("tunnel=t4| t5", Or((cmp("tunnel", "=", "t4"), Word("t5")))),
        ("tunnel=t4 |t5", Or((cmp("tunnel", "=", "t4"), Word("t5")))),
        ("state=idle|drop>0", Or((cmp("state", "=", "idle"), cmp("drop", ">", "0")))),
        ("a=1|@marked", Or((cmp("a", "=", "1"), Named("marked")))),
        ("a=1|!b", Or((cmp("a", "=", "1"), Not(Word("b"))))),
        ("a=1|(b c)", Or((cmp("a", "=", "1"), And((Word("b"), Word("c")))))),
        ('a="x|y"|z', cmp("a", "=", "x|y", "z")),
        ("tunnel=t4|-", cmp("tunnel", "=", "t4", "-")),
        ("signal=quic://a|https://b", cmp("signal", "=", "quic://a", "https://b")),
    ],
)
def test_a_bar_makes_a_list_or_an_or(text, tree):
    assert parse_filter(text) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("src=[::1]:53", cmp("src", "=", "[::1]:53")),
        ("src=fd00::/8", cmp("src", "=", "fd00::/8")),
        ("src=::1", cmp("src", "=", "::1")),
        ("src::", cmp("src", ":", ":")),
        ("10.0.4.17:53", Word("10.0.4.17:53")),
        ("[::1]:53", Word("[::1]:53")),
        ("::1", Word("::1")),
        ("beta ::1", And((Word("beta"), Word("::1")))),
        ("fd00::/8", Word("fd00::/8")),
        ("a.example:8888", Word("a.example:8888")),
        ("quic://a", cmp("quic", ":", "//a")),
    ],
)
def test_addresses_hold_colons(text, tree):
    assert parse_filter(text) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("agent~^(eu|us)-", cmp("agent", "~", "^(eu|us)-")),
        ("(agent~^eu)", cmp("agent", "~", "^eu")),
        ("agent~^eu|^us", cmp("agent", "~", "^eu", "^us")),
        (r"agent~a\|b", cmp("agent", "~", r"a\|b")),
        (r"agent~\(x", cmp("agent", "~", r"\(x")),
        (r"agent~a\ b", And((cmp("agent", "~", "a\\"), Word("b")))),
        (r'agent~"a \d\"\\"', cmp("agent", "~", 'a \\d"\\')),
        ("agent~x\\", cmp("agent", "~", "x\\")),
    ],
)
def test_patterns_keep_their_parentheses(text, tree):
    assert parse_filter(text) == tree


@pytest.mark.parametrize("text", ["idle > 30s", "idle >30s", "idle> 30s", "idle\t>\n30s"])
def test_spaces_around_an_operator(text):
    assert parse_filter(text) == cmp("idle", ">", "30s")


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("idle>", 5, "value must follow"),
        ("idle> dn>3", 6, "value must follow"),
        ("idle==3", 5, "value must follow"),
        ("idle>(3)", 5, "value must follow"),
        ("tunnel=t4||t5", 10, "is missing"),
        ("a |", 3, "is missing"),
        ("| a", 0, "is missing"),
        ("or a", 0, "is missing"),
        ("a and", 5, "is missing"),
        ("a and or b", 6, "is missing"),
        ("a !", 3, "is missing"),
        ("()", 1, "is missing"),
        ("a) b", 1, "closes nothing"),
        ("a (b", 2, "never closed"),
        ("agent~^(eu us)", 6, "never closed"),
        ('a "b', 2, "quote is never closed"),
        ('src:"b\\"', 4, "quote is never closed"),
        ("@", 1, 'must follow "@"'),
        ("a @é", 3, 'must follow "@"'),
        ("a :b", 2, "name of a column before it"),
        ("10<idle", 2, "name of a column before it"),
        (">3", 0, "name of a column before it"),
        ("(" * 60 + "a", MAX_DEPTH, "levels of parentheses"),
        ("!" * 60 + "a", MAX_DEPTH + 1, "levels of parentheses"),
        ("a" * (MAX_LENGTH + 1), MAX_LENGTH, "at most 2,000"),
    ],
)
def test_mistakes_have_a_column(text, column, message):
    with pytest.raises(FilterError, match=message) as caught:
        parse_filter(text)
    assert caught.value.column == column
    assert isinstance(caught.value, UsageError)


def test_a_tree_knows_where_it_was_read():
    both = parsed('a tunnel=t4|"t5" @marked')
    assert isinstance(both, And)
    _, compare, named = both.terms
    assert isinstance(compare, Compare)
    assert isinstance(named, Named)
    assert (compare.column, compare.places, named.column) == (2, (9, 13), 17)
    assert [compare.place(index) for index in range(3)] == [9, 13, 2]


@settings(max_examples=500, deadline=None)
@given(trees)
@example(Compare("fd00", ":", (":1", "x")))
@example(And((Word("beta"), Word("::1"))))
@example(Compare("a", "~", ("x\\", "y")))
@example(Or((Compare("a", "=", ("1",)), Word("=b"))))
def test_a_printed_tree_is_read_back(tree):
    assert parse_filter(print_filter(tree)) == tree


@settings(max_examples=500, deadline=None)
@given(st.one_of(texts, st.lists(texts, max_size=4).map(" ".join), st.text()))
def test_any_text_parses_or_tells_where_it_fails(text):
    column, tree = 0, None
    try:
        tree = parse_filter(text)
    except FilterError as error:
        column = error.column
    assert 0 <= column <= len(text)
    assert tree is None or parse_filter(print_filter(tree)) == tree
