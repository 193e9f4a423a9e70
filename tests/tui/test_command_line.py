"""Lines as words: quotes, bounds, what is the engine's, and flows that are chosen by `@name`."""

import pytest

from rtun_core.commands import COMMANDS, CloseFlow, MoveFlow, PinAgent
from rtun_core.errors import UsageError
from rtun_tui.command_line import LONGEST_LINE, is_for_engine, read_engine_command, read_line, takes_time


def test_lines_are_bounded_and_quoted():
    assert read_line("export csv 'a b'") == ["export", "csv", "a b"]
    with pytest.raises(UsageError, match="cannot read the line"):
        read_line("theme 'night")
    with pytest.raises(UsageError, match=f"up to {LONGEST_LINE}"):
        read_line("x" * (LONGEST_LINE + 1))


@pytest.mark.parametrize("text", ["src~10\\.0", "dst:it's", 'src:"10.0.0.1"', "idle>2m   !a"])
def test_a_filter_keeps_its_quotes_and_backslashes(text):
    assert read_line(f" filter {text} ") == ["filter", text]


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: " ".join(kind.words))
def test_commands_of_the_engine_are_known_by_their_words(kind):
    assert is_for_engine([*kind.words, "x"]) == (kind.words != ("quit",))


def test_views_own_words_are_not_the_engines():
    assert not is_for_engine(["filter"])
    assert not is_for_engine([])


@pytest.mark.parametrize(
    ("line", "expected"), [("agent use beta", True), ("sort dn", False), ("", False), ("'", False)]
)
def test_only_the_engine_is_waited_for(line, expected):
    assert takes_time(line) is expected


SELECTORS = {
    "@focus": lambda: ["00000001"],
    "@marked": lambda: ["00000001", "00000002"],
    "@shown": lambda: ["dn>1M"],
    "@none": list,
}


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["flow", "close", "@focus"], CloseFlow(flows=("00000001",))),
        (["flow", "close", "@marked", "@focus"], CloseFlow(flows=("00000001", "00000002"))),
        (["flow", "close", "@shown"], CloseFlow(flows=("dn>1M",))),
        (["flow", "close", "@all"], CloseFlow(flows=("@all",))),
        (["flow", "move", "@focus", "a", "--to", "t2"], MoveFlow(flows=("00000001", "a"), to="t2")),
        (["flow", "move", "src=10.0.0.0/8"], MoveFlow(flows=("src=10.0.0.0/8",))),
        (["agent", "pin"], PinAgent()),
    ],
)
def test_selectors_become_flows(words, command):
    assert read_engine_command(words, SELECTORS) == command


def test_a_selector_without_flows_is_no_command():
    with pytest.raises(UsageError, match="@none selects no flow here"):
        read_engine_command(["flow", "close", "@none"], SELECTORS)
    with pytest.raises(UsageError, match="FLOWS is missing"):
        read_engine_command(["flow", "close"], SELECTORS)
