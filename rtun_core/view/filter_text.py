"""The filter language: its tree, the parser and the printer.

    expr   = and { ("|" | "or") and }             term  = cmp | word | "quoted" | "@" name
    and    = not { ["and"] not }                  cmp   = field op value { "|" value }
    not    = ["!" | "-" | "not"] ( term | "(" expr ")" )
    op     = ":" "=" "!=" "~" ">" ">=" "<" "<="

What the grammar leaves open is decided here:

* A name followed by an operator is a comparison. The first operator splits, so the value may hold
  colons: `src=[::1]:53`. A bare IPv6 address (`fd00::1`) is a word although a name and ":" begin it.
* "|" straight after a value and straight before another one makes a list (`tunnel=t4|t5`). With
  a space on either side, or before a comparison, "(", "!" or "@", it is the operator "or".
* A bare value or word ends at a space, "|", a parenthesis or a quote. After "~" balanced
  parentheses belong to the value: `agent~^(eu|us)-`.
* Between quotes `\\"` and `\\\\` stand for a quote and a backslash; any other backslash is itself.

Trees compare without the columns they carry: those only tell where an error is.
"""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import UnionType
from typing import Final, Literal, TypeAlias, cast

from rtun_core.errors import UsageError

MAX_LENGTH: Final = 2_000  # characters: a filter comes from a keyboard, a file or a control socket
MAX_DEPTH: Final = 50  # parentheses and negations inside each other

Op = Literal[":", "=", "!=", "~", ">", ">=", "<", "<="]


class FilterError(UsageError):
    """A filter that cannot be read or applied; `column` is the 0-based place in its text."""

    def __init__(self, message: str, *, column: int) -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True, slots=True)
class And:
    """Every one of at least two terms."""

    terms: "tuple[Expr, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of at least two terms."""

    terms: "tuple[Expr, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """What the term does not hold."""

    term: "Expr"


@dataclass(frozen=True, slots=True)
class Compare:
    """A column against one or more values. `column` and `places` are where field and values begin."""

    field: str
    op: Op
    values: tuple[str, ...]
    column: int = dataclasses.field(default=0, compare=False, repr=False)
    places: tuple[int, ...] = dataclasses.field(default=(), compare=False, repr=False)

    def place(self, index: int) -> int:
        """Where the value of this index begins in the text, for errors."""
        return self.places[index] if index < len(self.places) else self.column


@dataclass(frozen=True, slots=True)
class Word:
    """Text looked for in every text column, case ignored."""

    text: str


@dataclass(frozen=True, slots=True)
class Named:
    """A set or filter known by name: `@marked`."""

    name: str
    column: int = dataclasses.field(default=0, compare=False, repr=False)


Expr: TypeAlias = And | Or | Not | Compare | Word | Named

_SPACE = re.compile(r"\s*")
_BARE = re.compile(r'[^\s|()"]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r'\\(["\\])')
_KEYWORD = re.compile(r'(and|or|not)(?=[\s()|"]|\Z)', re.IGNORECASE)
_FIELD = r"[A-Za-z_][A-Za-z0-9_-]*"
_FIELD_AND_OP = re.compile(rf"({_FIELD})(?:(:)|\s*(!=|>=|<=|[=~<>]))")
_COMPARISON = re.compile(rf"{_FIELD}(?:!=|[=~<>])")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_IPV6 = re.compile(r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:/[0-9]{1,3})?")
_SIGNS = "=<>~"  # operators that stand in no bare word and begin no bare value


def parse_filter(text: str) -> Expr | None:
    """Read a filter; None for blank text. Raises FilterError with the column of the mistake."""
    if len(text) > MAX_LENGTH:
        raise FilterError(f"a filter has at most {MAX_LENGTH:,} characters", column=MAX_LENGTH)
    if not text.strip():
        return None
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over one text; `at` is the next character to read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def whole(self) -> Expr:
        expr = self.either()
        if self.at < len(self.text):
            raise FilterError('")" closes nothing', column=self.at)
        return expr

    def either(self) -> Expr:
        terms = [self.both()]
        while self.peek() == "|" or self.keyword() == "or":
            self.at += len(self.keyword() or "|")
            terms.append(self.both())
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def both(self) -> Expr:
        terms = [self.inverse()]
        while self.peek() not in ("", ")", "|") and self.keyword() != "or":
            if self.keyword() == "and":
                self.at += len("and")
            terms.append(self.inverse())
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def inverse(self) -> Expr:
        first = self.peek()
        if first == "(":
            return self.nested(self.group)
        if first in ("!", "-") or self.keyword() == "not":
            self.at += len(self.keyword() or first)
            return Not(self.nested(self.inverse))
        return self.term()

    def nested(self, rule: Callable[[], Expr]) -> Expr:
        if self.depth == MAX_DEPTH:
            raise FilterError(f"more than {MAX_DEPTH} levels of parentheses and negations", column=self.at)
        self.depth += 1
        expr = rule()
        self.depth -= 1
        return expr

    def group(self) -> Expr:
        start = self.at
        self.at += 1
        expr = self.either()
        if self.peek() != ")":
            raise FilterError('"(" is never closed', column=start)
        self.at += 1
        return expr

    def term(self) -> Expr:
        start, first = self.at, self.peek()
        if first in ("", ")", "|") or self.keyword():
            raise FilterError("a word or a comparison is missing here", column=start)
        if first == '"':
            return Word(self.quoted())
        if first == "@":
            return self.named()
        bare = self.bare()
        if _IPV6.fullmatch(bare):
            return Word(bare)
        if found := _FIELD_AND_OP.match(self.text, start):
            self.at = found.end()
            return self.comparison(found[1], cast("Op", found[2] or found[3]), start)
        return self.word(bare, start)

    def word(self, bare: str, start: int) -> Word:
        sign = next((place for place, char in enumerate(bare) if char in _SIGNS), None)
        if bare[0] == ":":
            sign = 0
        if sign is not None:
            raise FilterError(
                f'"{bare[sign]}" needs the name of a column before it; text with it stands in quotes',
                column=start + sign,
            )
        return Word(bare)

    def named(self) -> Named:
        start = self.at
        self.at += 1
        name = self.bare()
        if not _NAME.fullmatch(name):
            raise FilterError('a name of letters, digits, ".", "_" and "-" must follow "@"', column=start + 1)
        return Named(name, start)

    def comparison(self, name: str, op: Op, column: int) -> Compare:
        self.peek()
        values: list[str] = []
        places: list[int] = []
        while not values or self.list_goes_on():
            self.at += bool(values)
            places.append(self.at + self.text.startswith('"', self.at))
            values.append(self.value(op))
        return Compare(name, op, tuple(values), column, tuple(places))

    def list_goes_on(self) -> bool:
        following = self.text[self.at + 1 : self.at + 2]
        if not self.text.startswith("|", self.at) or not following or following.isspace():
            return False
        return following not in "|()!@" and not _COMPARISON.match(self.text, self.at + 1)

    def value(self, op: Op) -> str:
        first = self.text[self.at : self.at + 1]
        if first == '"':
            return self.quoted()
        start = self.at
        if first in _SIGNS or _COMPARISON.match(self.text, start):
            raise FilterError(
                f'a value must follow "{op}"; one with operators stands in quotes', column=start
            )
        value = self.pattern() if op == "~" else self.bare()
        if not value:
            raise FilterError(f'a value must follow "{op}"', column=start)
        return value

    def pattern(self) -> str:
        start, depth, text = self.at, 0, self.text
        while self.at < len(text) and not text[self.at].isspace() and text[self.at] != '"':
            char = text[self.at]
            if char == "\\" and not text[self.at + 1 : self.at + 2].isspace():
                self.at += 1
            elif depth == 0 and char in "|)":
                break
            depth += (char == "(") - (char == ")")
            self.at += 1
        self.at = min(self.at, len(text))
        if depth:
            raise FilterError('"(" is never closed; an expression with spaces stands in quotes', column=start)
        return text[start : self.at]

    def quoted(self) -> str:
        found = _QUOTED.match(self.text, self.at)
        if found is None:
            raise FilterError("the quote is never closed", column=self.at)
        self.at = found.end()
        return _ESCAPE.sub(r"\1", found[1])

    def bare(self) -> str:
        found = _BARE.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]

    def peek(self) -> str:
        found = _SPACE.match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        return self.text[self.at : self.at + 1]

    def keyword(self) -> str:
        found = _KEYWORD.match(self.text, self.at)
        return found[0].lower() if found else ""


def print_filter(expr: Expr) -> str:
    """The text of a tree, such that `parse_filter` gives the same tree back."""
    match expr:
        case Or(terms):
            return " | ".join(_inside(term, Or) for term in terms)
        case And(terms):
            return " ".join(_inside(term, And | Or) for term in terms)
        case Not(term):
            return "!" + _inside(term, And | Or)
        case Compare():
            return _print_comparison(expr)
        case Word(text):
            return text if _is_bare_word(text) else _quote(text)
        case Named(name):
            return f"@{name}"


def _inside(term: Expr, wrapped: UnionType | type) -> str:
    return f"({print_filter(term)})" if isinstance(term, wrapped) else print_filter(term)


def _print_comparison(expr: Compare) -> str:
    start = expr.field + expr.op
    values = [value if _is_bare_value(value, expr.op) else _quote(value) for value in expr.values]
    if _IPV6.fullmatch(start + values[0]):
        values[0] = _quote(values[0])
    return start + "|".join(values)


def _is_bare_value(value: str, op: Op) -> bool:
    if not _BARE.fullmatch(value) or value[0] in "!@" + _SIGNS or _COMPARISON.match(value):
        return False
    return op != "~" or not value.endswith("\\")


def _is_bare_word(text: str) -> bool:
    if not _BARE.fullmatch(text) or text[0] in "!-@" or _KEYWORD.fullmatch(text):
        return False
    if _IPV6.fullmatch(text):
        return True
    return text[0] != ":" and not _FIELD_AND_OP.match(text) and not any(sign in text for sign in _SIGNS)


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
