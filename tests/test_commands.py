import re
import shlex
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.commands import (
    COMMANDS,
    CloseFlow,
    Command,
    CommandResult,
    DrainTunnel,
    MoveFlow,
    OpenTunnel,
    PinAgent,
    Quit,
    SetLimits,
    StartRecording,
    SwitchAgent,
    decode_command,
    encode_command,
    is_flow_id,
    parse_command,
    spell,
    told,
    usage,
)
from rtun_core.errors import UsageError

WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda text: not text.startswith("--")
)
COUNT = st.integers(1, 64)

# One strategy per field name: the same name means the same thing in every command.
FIELDS = {
    "name": WORD,
    "instance": st.none() | WORD,
    "force": st.booleans(),
    "rule": WORD,
    "tunnel": WORD,
    "min": st.none() | COUNT,
    "max": st.none() | COUNT,
    "flows": st.lists(WORD, min_size=1).map(tuple),
    "to": st.none() | WORD,
    "path": st.none() | WORD,
}


@st.composite
def commands(draw):
    kind = draw(st.sampled_from(COMMANDS))
    return kind(**{name: draw(FIELDS[name]) for name in kind.__struct_fields__})


@given(commands())
def test_parse_reads_what_spell_writes(command):
    assert parse_command(spell(command)) == command
    assert parse_command(shlex.split(spell(command))) == command


@given(commands())
def test_json_round_trip(command):
    assert decode_command(encode_command(command)) == command


@given(st.text())
def test_any_text_parses_or_is_misused(text):
    with suppress(UsageError):
        assert isinstance(parse_command(text), Command)


@given(st.binary())
def test_any_bytes_decode_or_are_misused(data):
    with suppress(UsageError):
        assert isinstance(decode_command(data), Command)


def test_every_command_is_registered_once():
    assert set(COMMANDS) == set(Command.__subclasses__())
    assert len({kind.words for kind in COMMANDS}) == len(COMMANDS)
    assert all(kind.help and kind.__doc__ for kind in COMMANDS)


def test_the_tag_is_the_words():
    for kind in COMMANDS:
        assert kind.__struct_config__.tag == ".".join(kind.words)


def test_usages():
    assert [usage(kind) for kind in COMMANDS] == [
        "agent use NAME [--instance INSTANCE] [--force]",
        "agent pin",
        "agent unpin",
        "agent probe NAME [--instance INSTANCE]",
        "tunnel open [--rule RULE]",
        "tunnel drain TUNNEL",
        "tunnel close TUNNEL",
        "tunnel recycle TUNNEL",
        "tunnel prefer TUNNEL",
        "tunnel limits [--min MIN] [--max MAX] [--rule RULE]",
        "flow move FLOWS... [--to TO]",
        "flow close FLOWS...",
        "rule pause RULE",
        "rule resume RULE",
        "record start [PATH]",
        "record stop",
        "quit",
    ]


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("agent use beta", SwitchAgent(name="beta")),
        ("agent use --force beta --instance=7f3c", SwitchAgent(name="beta", instance="7f3c", force=True)),
        ("agent pin", PinAgent()),
        ("tunnel open", OpenTunnel()),
        ("tunnel limits --min 2 --max 4", SetLimits(min=2, max=4)),
        ("flow move 1 2 --to t5 3", MoveFlow(flows=("1", "2", "3"), to="t5")),
        ("flow move @all", MoveFlow(flows=("@all",))),
        ("tunnel drain 't 5'", DrainTunnel(tunnel="t 5")),
        ("quit", Quit()),
    ],
)
def test_spellings(text, command):
    assert parse_command(text) == command


def test_of_many_flows_the_log_names_a_few():
    flows = tuple(f"{number:08x}" for number in range(17_708))
    assert told(CloseFlow(flows=flows)).endswith("00000003 00000004 ... (17,708 flows)")
    assert told(MoveFlow(flows=flows[:5], to="t1")) == spell(MoveFlow(flows=flows[:5], to="t1"))
    assert told(PinAgent()) == "agent pin"


@pytest.mark.parametrize(
    ("text", "named"),
    [("00a1f3c2", True), ("F", True), ("", False), ("@all", False), ("dn>1", False), ("123456789", False)],
)
def test_flow_ids_are_told_from_filters(text, named):
    assert is_flow_id(text) is named


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "unknown command ''; accepted: agent use, "),
        ("agent", "unknown command 'agent'"),
        ("agent fly high", "unknown command 'agent fly'"),
        ("agent use", "agent use: NAME is missing; accepted: agent use NAME"),
        ("agent use a b", "agent use: 'b' is one word too many"),
        ("agent pin x", "agent pin: 'x' is one word too many"),
        ("agent use a --speed 5", "agent use: unknown option '--speed'"),
        ("agent use --name a", "agent use: unknown option '--name'"),
        ("agent use a --instance", "agent use: --instance needs a value"),
        ("flow move", "flow move: FLOWS is missing"),
        ("tunnel limits --max 0", "tunnel limits: Expected `int` >= 1"),
        ("tunnel limits --min many", "tunnel limits: Expected `int"),
        ("tunnel limits --max 65", "tunnel limits: Expected `int` <= 64"),
        ("agent use 'a", 'cannot read the command "agent use \'a": No closing quotation'),
    ],
)
def test_misuse_is_one_sentence_with_what_is_accepted(text, problem):
    with pytest.raises(UsageError, match="^" + re.escape(problem)) as caught:
        parse_command(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"command":"fly"}', b'{"command":"agent.use"}', b"\xff"])
def test_json_that_is_no_command(data):
    with pytest.raises(UsageError, match=r"^not a command: "):
        decode_command(data)


def test_result_has_a_json_form():
    assert msgspec.json.encode(CommandResult(text="done")) == b'{"text":"done","data":{}}'


@pytest.mark.parametrize("given", ["a.rec", "--path a.rec", "--path=a.rec"])
def test_a_recording_is_named_with_or_without_the_word_for_it(given):
    line = f"record start {given}"
    assert parse_command(line) == StartRecording(path="a.rec")
    assert parse_command(spell(parse_command(line))) == parse_command(line)


@pytest.mark.parametrize("line", ["record start a.rec b.rec", "record start a.rec --path b.rec"])
def test_a_recording_has_one_name(line):
    with pytest.raises(UsageError, match=r"is one word too many; accepted: record start \[PATH\]"):
        parse_command(line)
