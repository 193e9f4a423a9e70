"""A line after `:` as words: whose command it is, and what of it the engine gets. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence

import msgspec

from rtun_core.commands import COMMANDS, CloseFlow, Command, MoveFlow, Quit, parse_command
from rtun_core.errors import UsageError
from rtun_core.model import FlowId

LONGEST_LINE = 2000  # characters
WITH_FILTER = ("filter", "goto next", "goto previous")  # one filter follows, as it is


def is_for_engine(words: Sequence[str]) -> bool:
    """Whether a line begins like a command of the engine; quitting is the console's to ask about."""
    return any(tuple(words[: len(kind.words)]) == kind.words for kind in COMMANDS if kind is not Quit)


def takes_time(line: str) -> bool:
    """Whether a line is for the engine, which answers when it is done; others are done at once."""
    try:
        return is_for_engine(read_line(line))
    except UsageError:
        return False


def read_line(line: str) -> list[str]:
    """The words of a line. Quotes belong to a filter's own grammar: it is one word. Raises UsageError."""
    if len(line) > LONGEST_LINE:
        raise UsageError(f"the line has {len(line)} characters; accepted: up to {LONGEST_LINE}")
    for beginning in WITH_FILTER:
        if f"{line.strip()} ".startswith(f"{beginning} "):
            return [*beginning.split(), line.strip().removeprefix(beginning).strip()]
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"cannot read the line: {error}") from None


def read_engine_command(words: list[str], selectors: Mapping[str, Callable[[], Sequence[str]]]) -> Command:
    """An engine's command, with `@focus`, `@marked` and `@shown` replaced by flow ids. Raises UsageError."""
    command = parse_command(words)
    if not isinstance(command, MoveFlow | CloseFlow):
        return command
    flows: dict[FlowId, None] = {}
    for each in command.flows:
        chosen = selectors[each]() if each in selectors else (each,)
        flows |= dict.fromkeys(map(FlowId, chosen))
    if not flows:
        raise UsageError(f"{' '.join(command.flows)} selects no flow here")
    return msgspec.structs.replace(command, flows=tuple(flows))
