"""TOML files written by people: read whole, checked strictly, every complaint with file, line and key."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rtun_core.errors import UsageError

MAX_BYTES = 256 * 1024
MAX_FILES = 200  # of one directory

T = TypeVar("T")

_PART = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_KEY = rf"{_PART}(?:\s*\.\s*{_PART})*"
_TABLE_LINE = re.compile(rf"\s*\[\[?\s*({_KEY})\s*\]")
_KEY_LINE = re.compile(rf"\s*({_KEY})\s*=")
_FENCE = re.compile(r'"""|' + "'''")
_SYNTAX_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")

_TYPE_WORDS: Mapping[type, str] = {
    bool: "true or false",
    str: "a text",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}


def line_of(text: str, *path: str) -> int:
    """Line, from 1, where the key `path` stands in TOML; that of the nearest table around it, else 1."""
    best, length = 1, 0
    for number, found in _key_lines(text):
        shared = _shared(found, path)
        if path and shared == len(path):
            return number
        if shared > length and shared == len(found):
            best, length = number, shared
    return best


def _key_lines(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    table: tuple[str, ...] = ()
    fence = ""  # the quotes that end the text over several lines we are in
    for number, line in enumerate(text.splitlines(), 1):
        if not fence:
            if match := _TABLE_LINE.match(line):
                table = _key_parts(match[1])
                yield number, table
            elif match := _KEY_LINE.match(line):
                yield number, table + _key_parts(match[1])
        for quotes in _FENCE.findall(line):
            fence = "" if fence == quotes else fence or quotes


def _key_parts(key: str) -> tuple[str, ...]:
    return tuple(
        part if part[0] not in "\"'" else str(tomllib.loads(f"key = {part}")["key"])
        for part in re.findall(_PART, key)
    )


def _shared(first: Sequence[str], second: Sequence[str]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


@dataclass(frozen=True)
class Document:
    """A parsed file that remembers its name and text, so that complaints can point at a line."""

    name: str
    text: str
    data: Mapping[str, Any]

    def error(self, path: Sequence[str], message: str) -> UsageError:
        """The complaint about a key: `FILE:LINE: KEY: MESSAGE`."""
        place = f"{self.name}:{line_of(self.text, *path)}"
        return UsageError(f"{place}: {dotted(path)}: {message}" if path else f"{place}: {message}")

    def table(self, *path: str) -> Mapping[str, Any]:
        """The table at `path`, empty where there is none. Raises UsageError if it is something else."""
        value: Any = self.data
        for depth, key in enumerate(path):
            value = value.get(key, {})
            if not isinstance(value, dict):
                raise self.error(path[: depth + 1], f"must be a table, not {type_word(value)}")
        return dict(value)

    def only(self, known: Collection[str], *path: str) -> None:
        """Refuse keys of the table at `path` that are not `known`."""
        for key in self.table(*path):
            if key not in known:
                raise self.error((*path, key), f"unknown key; {nearest(key, known)}")

    def get(self, kind: type[T], default: T, *path: str) -> T:
        """The value at `path` if it is of `kind` (a whole number is a float too), `default` if missing."""
        value = self.table(*path[:-1]).get(path[-1], default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise self.error(path, f"must be {_TYPE_WORDS[kind]}, not {type_word(value)}")
        return value

    def texts(self, *path: str) -> tuple[str, ...]:
        """The value at `path` as texts: a list of them, or a single one; nothing where it is missing."""
        value = self.table(*path[:-1]).get(path[-1], [])
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise self.error(path, "must be a text or a list of texts")
        return tuple(texts)


def read_document(file: Path) -> Document:
    """Read and parse a file. Raises UsageError: not readable, too big, not UTF-8, not TOML."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{file}: is larger than {MAX_BYTES // 1024} KiB")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{file}:{line}: is not UTF-8 text") from None
    return parse_document(str(file), text)


def toml_files(directory: Path) -> dict[str, Path]:
    """The files `NAME.toml` of a directory by name, at most MAX_FILES; none where it cannot be read."""
    try:
        files = sorted(file for file in directory.iterdir() if file.suffix == ".toml")
    except OSError:
        return {}
    return {file.stem: file for file in files[:MAX_FILES]}


def parse_document(name: str, text: str) -> Document:
    """Parse TOML. Raises UsageError with the line of a mistake in its syntax."""
    try:
        return Document(name, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _SYNTAX_PLACE.search(message)
        line = place[1] if place and place[1] else str(max(1, len(text.splitlines())))
        said = _SYNTAX_PLACE.sub("", message)
        raise UsageError(f"{name}:{line}: not valid TOML: {said}") from None


def dotted(path: Sequence[str]) -> str:
    """A key as it is written in TOML, quoted where it must be."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in path)


def type_word(value: object) -> str:
    """What a value read from TOML is, in words."""
    return _TYPE_WORDS.get(type(value), "a date or time")


def nearest(word: str, known: Collection[str]) -> str:
    """A hint what was meant: the closest known word, or all of them."""
    close = difflib.get_close_matches(word, known, 1)
    return f"did you mean {close[0]}?" if close else "known are " + ", ".join(known)
