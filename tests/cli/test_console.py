import click
import pytest
from click.testing import CliRunner

from rtun_core.cli.console import (
    ConsoleEnd,
    ConsoleOptions,
    EndKind,
    build_console,
    console_options,
    find_console,
    viewer_status,
)
from rtun_core.errors import RtunError


def options(*words):
    """What a command with the options of the console gets."""
    kept = []

    @click.command()
    @console_options
    def command(console):
        kept.append(console)

    result = CliRunner().invoke(command, words)
    return kept[0] if kept else result.output


def test_without_options_there_is_no_console():
    assert options() == ConsoleOptions()
    assert not options().show


def test_every_option():
    assert options("--tui", "--read-only", "--theme", "night", "--on-hangup", "exit") == ConsoleOptions(
        show=True, read_only=True, theme="night", on_hangup="exit"
    )


def test_a_wrong_choice_is_told_what_is_accepted():
    assert "'exit', 'headless'" in options("--on-hangup", "stay")


def test_what_commands_that_only_look_build():
    built = build_console(tui=True, read_only=False, theme=None, on_hangup=None)
    assert built == ConsoleOptions(show=True)
    assert built.ends_engine


def test_the_console_is_found_by_name():
    console = find_console()
    assert callable(console.check)
    assert callable(console.show)


def test_without_its_libraries_the_reason_names_what_is_missing(monkeypatch):
    monkeypatch.setattr("rtun_core.cli.console._CONSOLE", "no_such_console.launch")
    with pytest.raises(RtunError, match=r"the console needs no_such_console, which is not installed"):
        find_console()


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (ConsoleEnd(EndKind.QUIT), 0),
        (ConsoleEnd(EndKind.DETACHED), 0),
        (ConsoleEnd(EndKind.LOST), 0),
        (ConsoleEnd(EndKind.ENGINE_ENDED), 0),
        (ConsoleEnd(EndKind.SIGNAL, signum=15), 143),
    ],
)
def test_status_of_a_command_that_only_looked(end, status):
    assert viewer_status(end) == status


def test_a_failure_is_told_in_its_last_line():
    with pytest.raises(RtunError, match=r"^the console failed: ValueError: boom$"):
        viewer_status(ConsoleEnd(EndKind.FAILED, detail="Traceback\n  ...\nValueError: boom\n"))
