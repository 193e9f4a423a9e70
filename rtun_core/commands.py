"""Commands: what a person or a script can ask of a running rtun, one typed struct each.

Console keys, the `:` prompt, `rtun ctl`, the control socket and tests all use the same structs. The
text grammar is read off the structs: required fields are positional, fields with a default are
`--options`, tuples take the rest of the words. Example: `agent use beta --instance 7f3c`.
"""

from __future__ import annotations

import shlex
import string
from typing import Annotated, Any, ClassVar, get_type_hints

import msgspec

from rtun_core.errors import UsageError
from rtun_core.model import FlowId, RuleId, TunnelId

ALL = "@all"
LONGEST_FLOW_ID = 8  # characters
MOST_TOLD = 5  # flows that the log names of those that a command is about


class Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="command"):
    """Base of all commands. `words` is how it is spelt, `help` what it does.

    `bare` names the option that may also be given as the last word, without its name.
    """

    words: ClassVar[tuple[str, ...]] = ()
    help: ClassVar[str] = ""
    bare: ClassVar[str] = ""


class SwitchAgent(Command, frozen=True, kw_only=True, tag="agent.use"):
    """Carry new flows over this agent; the old one is let go when the new one has tunnels."""

    words: ClassVar[tuple[str, ...]] = ("agent", "use")
    help: ClassVar[str] = "switch to an agent; the old one serves until the new one has tunnels"
    name: str
    instance: str | None = None
    force: bool = False  # switch although some rule gets no tunnel from the new agent


class PinAgent(Command, frozen=True, kw_only=True, tag="agent.pin"):
    """Never leave the agent in use on our own while it works."""

    words: ClassVar[tuple[str, ...]] = ("agent", "pin")
    help: ClassVar[str] = "stay with the agent in use: no automatic switch"


class UnpinAgent(Command, frozen=True, kw_only=True, tag="agent.unpin"):
    """Allow automatic switches again."""

    words: ClassVar[tuple[str, ...]] = ("agent", "unpin")
    help: ClassVar[str] = "allow automatic switches again"


class ProbeAgent(Command, frozen=True, kw_only=True, tag="agent.probe"):
    """Measure the way to an agent without using it."""

    words: ClassVar[tuple[str, ...]] = ("agent", "probe")
    help: ClassVar[str] = "measure the way to an agent without using it"
    name: str
    instance: str | None = None


class OpenTunnel(Command, frozen=True, kw_only=True, tag="tunnel.open"):
    """Open one more tunnel for a rule, within the limits."""

    words: ClassVar[tuple[str, ...]] = ("tunnel", "open")
    help: ClassVar[str] = "open one more tunnel for a rule (default: every rule)"
    rule: RuleId | None = None


class DrainTunnel(Command, frozen=True, kw_only=True, tag="tunnel.drain"):
    """Give a tunnel no new flows, move its flows where another can take them, then close it."""

    words: ClassVar[tuple[str, ...]] = ("tunnel", "drain")
    help: ClassVar[str] = "move the flows of a tunnel elsewhere, then close it"
    tunnel: TunnelId


class CloseTunnel(Command, frozen=True, kw_only=True, tag="tunnel.close"):
    """Close a tunnel at once; its flows move."""

    words: ClassVar[tuple[str, ...]] = ("tunnel", "close")
    help: ClassVar[str] = "close a tunnel at once; its flows move to another"
    tunnel: TunnelId


class RecycleTunnel(Command, frozen=True, kw_only=True, tag="tunnel.recycle"):
    """Replace a tunnel as if its lifetime had ended."""

    words: ClassVar[tuple[str, ...]] = ("tunnel", "recycle")
    help: ClassVar[str] = "replace a tunnel now, as at the end of its lifetime"
    tunnel: TunnelId


class PreferTunnel(Command, frozen=True, kw_only=True, tag="tunnel.prefer"):
    """Send new flows to this tunnel while it is healthy; `none` takes it back."""

    words: ClassVar[tuple[str, ...]] = ("tunnel", "prefer")
    help: ClassVar[str] = "prefer a tunnel for new flows while it is healthy ('none': no preference)"
    tunnel: TunnelId


class SetLimits(Command, frozen=True, kw_only=True, tag="tunnel.limits"):
    """Change how many tunnels a rule keeps."""

    words: ClassVar[tuple[str, ...]] = ("tunnel", "limits")
    help: ClassVar[str] = "change how many tunnels are kept (for one rule or all)"
    min: Annotated[int, msgspec.Meta(ge=0, le=64)] | None = None
    max: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    rule: RuleId | None = None


class MoveFlow(Command, frozen=True, kw_only=True, tag="flow.move"):
    """Move flows to a tunnel of the same rule; the target keeps seeing the same source port."""

    words: ClassVar[tuple[str, ...]] = ("flow", "move")
    help: ClassVar[str] = "move flows (ids, filters or @all) to a tunnel of the same rule"
    flows: tuple[FlowId, ...]
    to: TunnelId | None = None


class CloseFlow(Command, frozen=True, kw_only=True, tag="flow.close"):
    """Forget flows; the next datagram of the same source opens a new one."""

    words: ClassVar[tuple[str, ...]] = ("flow", "close")
    help: ClassVar[str] = "close flows (ids, filters or @all)"
    flows: tuple[FlowId, ...]


class PauseRule(Command, frozen=True, kw_only=True, tag="rule.pause"):
    """Stop taking datagrams for a rule; its socket and tunnels stay."""

    words: ClassVar[tuple[str, ...]] = ("rule", "pause")
    help: ClassVar[str] = "stop carrying datagrams of a rule; what arrives is dropped and counted"
    rule: RuleId


class ResumeRule(Command, frozen=True, kw_only=True, tag="rule.resume"):
    """Carry datagrams of a paused rule again."""

    words: ClassVar[tuple[str, ...]] = ("rule", "resume")
    help: ClassVar[str] = "carry datagrams of a paused rule again"
    rule: RuleId


class StartRecording(Command, frozen=True, kw_only=True, tag="record.start"):
    """Record pictures and events into a file, which is made or appended to; without a path into a new one."""

    words: ClassVar[tuple[str, ...]] = ("record", "start")
    help: ClassVar[str] = "record what happens for rtun replay (default: into a new file)"
    bare: ClassVar[str] = "path"
    path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)] | None = None


class StopRecording(Command, frozen=True, kw_only=True, tag="record.stop"):
    """Close the recording."""

    words: ClassVar[tuple[str, ...]] = ("record", "stop")
    help: ClassVar[str] = "end the recording"


class Quit(Command, frozen=True, kw_only=True, tag="quit"):
    """Drain and stop the whole process."""

    words: ClassVar[tuple[str, ...]] = ("quit",)
    help: ClassVar[str] = "drain and stop the whole process"


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a command did: one line for people, data for scripts."""

    text: str
    data: dict[str, Any] = {}


COMMANDS: tuple[type[Command], ...] = (
    SwitchAgent,
    PinAgent,
    UnpinAgent,
    ProbeAgent,
    OpenTunnel,
    DrainTunnel,
    CloseTunnel,
    RecycleTunnel,
    PreferTunnel,
    SetLimits,
    MoveFlow,
    CloseFlow,
    PauseRule,
    ResumeRule,
    StartRecording,
    StopRecording,
    Quit,
)


def usage(kind: type[Command]) -> str:
    """The spelling of a command, e.g. `agent use NAME [--instance INSTANCE] [--force]`."""
    parts = list(kind.words)
    for field in msgspec.structs.fields(kind):
        upper = field.name.upper()
        if field.required:
            parts.append(f"{upper}..." if _is_tuple(kind, field.name) else upper)
        elif field.name == kind.bare:
            parts.append(f"[{upper}]")
        else:
            parts.append(f"[--{field.name}]" if field.default is False else f"[--{field.name} {upper}]")
    return " ".join(parts)


def parse_command(text: str | list[str]) -> Command:
    """Read a command line. Raises UsageError that names the command and what it accepts."""
    words = _split(text) if isinstance(text, str) else list(text)
    kind = _find(words)
    fields = _read_fields(kind, words[len(kind.words) :])
    try:
        return msgspec.convert(fields, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"{' '.join(kind.words)}: {error}; accepted: {usage(kind)}") from None


def spell(command: Command) -> str:
    """The command line that gives `command`; `parse_command` reads it back."""
    words: list[str] = list(command.words)
    options: list[str] = []
    for field in msgspec.structs.fields(command):
        value = getattr(command, field.name)
        if field.required:
            words += value if isinstance(value, tuple) else [str(value)]
        elif value is True:
            options.append(f"--{field.name}")
        elif value is not None and value is not False:
            options += [f"--{field.name}", str(value)]
    return shlex.join(words + options)


def is_flow_id(selector: str) -> bool:
    """Whether a selector names one flow; else it is a filter, or `@all`."""
    return 0 < len(selector) <= LONGEST_FLOW_ID and set(selector) <= set(string.hexdigits)


def told(command: Command) -> str:
    """The command line for people and logs: of many flows the first ones and how many there are."""
    if isinstance(command, MoveFlow | CloseFlow) and len(command.flows) > MOST_TOLD:
        first = msgspec.structs.replace(command, flows=command.flows[:MOST_TOLD])
        return f"{spell(first)} ... ({len(command.flows):,} flows)"
    return spell(command)


def decode_command(data: bytes) -> Command:
    """Read the JSON form. Raises UsageError."""
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise UsageError(f"not a command: {error}") from None


def encode_command(command: Command) -> bytes:
    """The JSON form, tagged by `command`."""
    return msgspec.json.encode(command)


_UNION: Any = (
    SwitchAgent
    | PinAgent
    | UnpinAgent
    | ProbeAgent
    | OpenTunnel
    | DrainTunnel
    | CloseTunnel
    | RecycleTunnel
    | PreferTunnel
    | SetLimits
    | MoveFlow
    | CloseFlow
    | PauseRule
    | ResumeRule
    | StartRecording
    | StopRecording
    | Quit
)
_DECODER: msgspec.json.Decoder[Command] = msgspec.json.Decoder(_UNION)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"cannot read the command {text!r}: {error}") from None


def _find(words: list[str]) -> type[Command]:
    for kind in COMMANDS:
        if tuple(words[: len(kind.words)]) == kind.words:
            return kind
    known = ", ".join(" ".join(kind.words) for kind in COMMANDS)
    raise UsageError(f"unknown command {' '.join(words[:2])!r}; accepted: {known}")


def _is_tuple(kind: type[Command], name: str) -> bool:
    return getattr(get_type_hints(kind)[name], "__origin__", None) is tuple


def _read_fields(kind: type[Command], words: list[str]) -> dict[str, Any]:
    """Sort words into fields by name; options may stand anywhere."""
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    required = [name for name, field in known.items() if field.required]
    fields: dict[str, Any] = {}
    plain: list[str] = []
    rest = iter(words)
    for word in rest:
        name = word.removeprefix("--").partition("=")[0]
        if not word.startswith("--"):
            plain.append(word)
        elif name not in known or name in required:
            raise _misuse(kind, f"unknown option {word!r}")
        elif known[name].default is False:
            fields[name] = True
        else:
            fields[name] = word.partition("=")[2] if "=" in word else next(rest, None)
            if fields[name] is None:
                raise _misuse(kind, f"{word} needs a value")
    _place(kind, required, plain, fields)
    return fields


def _place(kind: type[Command], required: list[str], plain: list[str], fields: dict[str, Any]) -> None:
    if len(plain) < len(required):
        raise _misuse(kind, f"{required[len(plain)].upper()} is missing")
    for index, name in enumerate(required):
        fields[name] = plain[index:] if _is_tuple(kind, name) else plain[index]
    if kind.bare and kind.bare not in fields and len(plain) == len(required) + 1:
        fields[kind.bare] = plain.pop()
    if len(plain) > len(required) and not (required and _is_tuple(kind, required[-1])):
        raise _misuse(kind, f"{plain[len(required)]!r} is one word too many")


def _misuse(kind: type[Command], problem: str) -> UsageError:
    return UsageError(f"{' '.join(kind.words)}: {problem}; accepted: {usage(kind)}")
