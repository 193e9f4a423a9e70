"""What a line typed after `:` could become. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import msgspec

from rtun_core.commands import COMMANDS, Command, usage
from rtun_core.model import Snapshot
from rtun_tui.desk import Desk
from rtun_tui.view_commands import VIEW_COMMANDS, Effects, first_words

SELECTORS = ("@focus", "@marked", "@shown", "@all")


def completions(text: str, desk: Desk, effects: Effects, snapshot: Snapshot | None) -> list[str]:
    """Whole lines that begin with `text`, the likeliest first."""
    beginnings = [line for line in sorted(first_words()) if line.startswith(text)]
    if beginnings:
        return beginnings
    head, _, last = text.rpartition(" ")
    words = head.split()
    return [f"{head} {word}" for word in _following(words, desk, effects, snapshot) if word.startswith(last)]


def _following(words: list[str], desk: Desk, effects: Effects, snapshot: Snapshot | None) -> Sequence[str]:
    for command in VIEW_COMMANDS:
        if tuple(words[: len(command.words)]) == command.words:
            return command.complete(desk, effects) if command.complete is not None else ()
    for kind in COMMANDS:
        if tuple(words[: len(kind.words)]) == kind.words:
            options = [
                word for word in usage(kind).replace("[", " ").replace("]", " ").split() if word[:2] == "--"
            ]
            # A name that cannot be shown as it is cannot be typed either.
            names = [name for name in _things(kind, words, snapshot) if name.isprintable()]
            return [*map(shlex.quote, names), *options]
    return ()


def _things(kind: type[Command], words: list[str], snapshot: Snapshot | None) -> Sequence[str]:
    """Names of what a command could be about."""
    if snapshot is None:
        return ()
    family = kind.words[0]
    tunnels = [tunnel.id for tunnel in snapshot.tunnels]
    if words[-1] == "--to":
        return tunnels
    if words[-1] == "--rule":
        return [rule.id for rule in snapshot.rules]
    if not any(field.required for field in msgspec.structs.fields(kind)):
        return ()
    if family == "rule":
        return [rule.id for rule in snapshot.rules]
    if words[-1] == "--instance":
        return [agent.instance for agent in snapshot.agents if agent.instance]
    if family == "agent":
        return [agent.name for agent in snapshot.agents]
    return tunnels if family == "tunnel" else SELECTORS
