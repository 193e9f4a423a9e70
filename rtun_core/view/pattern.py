"""Regular expressions of filters: only those that end soon.

Python's engine tries every way in which a text can be split among the repeats of an expression, and nothing
can stop it: it holds the interpreter, and with it the engine's loop, until it is done. So what could take for
ever is refused before it runs, by its form:

- a repeat holds nothing that varies: `(a+)+` and `(a|ab)*` have ways without number;
- repeats, choices and optional parts multiply: together they may weigh no more than MAX_WEIGHT;
- no group is referred back to.

What is left takes up to 2 ms for an address and 0.1 s for a text of MAX_TEXT characters, which is all that is
looked at, and that only where expression and text were made for it. Many texts have a budget of time.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Sequence

# What `re` itself is built on; there is no other way to the form of an expression.
from re import _constants as form  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

from rtun_core.errors import UsageError

MAX_PATTERN: Final = 200  # characters of a regular expression
MAX_WEIGHT: Final = 9  # of all that varies in one
REPEAT: Final = 3  # weight of one: a text of n characters has n ways
CHOICE: Final = 1
MAX_TEXT: Final = 128  # characters of a text
BASE: Final = 0.01  # seconds that many texts may take, and ...
EACH: Final = 1e-6  # ... for each of them in addition; an ordinary expression takes a quarter of that

_CHUNK: Final = 32  # texts between two looks at the clock

_REPEATS: Final = frozenset({form.MAX_REPEAT, form.MIN_REPEAT, form.POSSESSIVE_REPEAT})
_LOOKS: Final = frozenset({form.ASSERT, form.ASSERT_NOT})
_NESTED: Final = "regular expression: a repeat or a choice inside of a repeat may take for ever"
_REFERENCES: Final = frozenset({form.GROUPREF, form.GROUPREF_EXISTS})


class PatternError(UsageError):
    """A regular expression that cannot be used; `offset` is the place in it."""

    def __init__(self, message: str, *, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


class SlowPattern(UsageError):
    """A regular expression that took too long for the rows there are."""


def compile_pattern(text: str) -> re.Pattern[str]:
    """A regular expression that ends soon, whatever it is asked about. Raises PatternError."""
    if len(text) > MAX_PATTERN:
        raise PatternError(f"a regular expression has at most {MAX_PATTERN} characters", offset=MAX_PATTERN)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sets that may change their meaning in a later Python
            _Weight().check(parser.parse(text), inside=False)
            return re.compile(text)
    except re.error as error:
        raise PatternError(f"regular expression: {error.msg}", offset=error.pos or 0) from error
    except (OverflowError, RecursionError) as error:
        raise PatternError(f"regular expression: {error}") from error


def search_all(patterns: Sequence[re.Pattern[str]], texts: Sequence[str]) -> list[bool]:
    """Whether one of the patterns is found in each text. Raises SlowPattern when that takes too long."""
    searches = [pattern.search for pattern in patterns]
    found: list[bool] = []
    until = time.thread_time() + BASE + EACH * len(texts) * len(searches)
    for begin in range(0, len(texts), _CHUNK):
        if time.thread_time() > until:
            raise SlowPattern("the regular expression takes too long for so many rows")
        chunk = [text[:MAX_TEXT] for text in texts[begin : begin + _CHUNK]]
        found += [any(search(text) for search in searches) for text in chunk]
    return found


class _Weight:
    """Adds up what multiplies the ways through one expression."""

    def __init__(self) -> None:
        self._sum = 0

    def check(self, tree: Any, *, inside: bool) -> None:
        """Look at every part; `inside` a repeat nothing may vary. Raises PatternError."""
        for kind, argument in tree:
            if kind in _REPEATS:
                self._repeat(*argument, inside=inside)
            elif kind is form.BRANCH:
                self._add(CHOICE, inside=inside)
                for branch in argument[1]:
                    self.check(branch, inside=inside)
            elif kind is form.SUBPATTERN or kind in _LOOKS:
                self.check(argument[-1], inside=inside)
            elif kind is form.ATOMIC_GROUP:
                self.check(argument, inside=inside)
            elif kind in _REFERENCES:
                raise PatternError("regular expression: a group that is referred back to may take for ever")

    def _repeat(self, least: int, most: int, body: Any, *, inside: bool) -> None:
        if least != most:
            self._add(CHOICE if most == 1 else REPEAT, inside=inside)
        self.check(body, inside=inside or most > 1)

    def _add(self, weight: int, *, inside: bool) -> None:
        if inside:
            raise PatternError(_NESTED)
        self._sum += weight
        if self._sum > MAX_WEIGHT:
            raise PatternError("regular expression: too many parts are repeated or optional")
