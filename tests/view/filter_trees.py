"""Strategies: filter trees of every shape, and texts that look like filters."""

from hypothesis import strategies as st

from rtun_core.view.filter_text import And, Compare, Expr, Named, Not, Or, Word

OPS = (":", "=", "!=", "~", ">", ">=", "<", "<=")
FIELDS = ("src", "dn", "up_total", "fd00", "a", "or", "not", "x-")

_pieces = st.sampled_from(
    [
        *OPS,
        *'|()"!-@\\ \t\n',
        "and",
        "or",
        "not",
        "::1",
        "10.0.0.0/8",
        "a",
        "é",
        "3h12m",
        "x=1",
        "fd00::1",
        "|b",
    ]
)
texts = st.one_of(st.lists(_pieces, max_size=6).map("".join), st.text(max_size=12))
values = st.one_of(texts, st.sampled_from(["30s", "10.0.0.0/8", "::1", "^eu-", r"\d+\|", "1M"]))
leaves = st.one_of(
    st.builds(Word, texts),
    st.builds(Named, st.from_regex(r"[A-Za-z0-9_.-]{1,6}", fullmatch=True)),
    st.builds(
        Compare,
        st.one_of(st.sampled_from(FIELDS), st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,5}", fullmatch=True)),
        st.sampled_from(OPS),
        st.lists(values, min_size=1, max_size=3).map(tuple),
    ),
)


def _grow(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    terms = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(terms.map(And), terms.map(Or), inner.map(Not))


trees = st.recursive(leaves, _grow, max_leaves=8)
