"""The documentation says what is true: command lines parse, options, links, events and metrics exist."""

import os
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import click
import pytest

from rtun_core.cli.console import ConsoleEnd, EndKind
from rtun_core.cli.main import main, rtun
from rtun_core.commands import COMMANDS, CommandResult, usage
from rtun_core.engine.control_place import UnixPlace
from rtun_core.engine.metrics import FlowMoves, SnapshotCollector
from rtun_core.errors import UsageError
from rtun_core.events import event_types
from rtun_core.model import Snapshot
from rtun_core.net.tls import self_signed
from rtun_core.view.columns import COLUMNS, TABLES
from rtun_core.view.filter import compile_filter
from rtun_core.view.filter_text import parse_filter
from rtun_tui.key_actions import GROUPS, KEY_ACTIONS, PANES
from rtun_tui.key_actions import TABLES as TABLE_PANES
from rtun_tui.keymap import display_key
from rtun_tui.theme_library import ThemeLibrary
from rtun_tui.view_commands import VIEW_COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]*")
OTHERS = {"--quick", "--only", "--unix-socket"}  # options of other programs that the README uses


def blocks(*languages):
    return [text for language, text in FENCE.findall(README) if language in languages]


def command_lines():
    """Every command line of rtun in code blocks, unit files, and tables of examples, as words."""
    shell = "\n".join(blocks("sh")).replace("\\\n", " ")
    lines = shell.splitlines()
    lines += [line.partition("=")[2] for text in blocks("ini") for line in text.splitlines()]
    prose = FENCE.sub("", README).replace("\\|", "|")
    lines += [text for text in INLINE.findall(prose) if "..." not in text]
    for line in lines:
        start = re.match(r"\s*(?:/\S*/)?rtun (?=\S)", line)
        if start and not line.strip().startswith("rtun COMMAND"):
            yield list(own_words(line[start.end() :]))


def own_words(line):
    """The words up to a pipe, redirection or comment."""
    words = shlex.shlex(line, posix=True, punctuation_chars="|<>&")
    words.whitespace_split = True
    for word in words:
        if word[0] in "|<>&":
            return
        yield word


# In prose the name alone stands for the command.
NAMES = {("agent", "pub"), ("agent", "listen"), ("ws",), ("ws", "connect")}
NAMES |= {(name,) for name in ("relay", "status", "events", "ctl", "replay", "config")}
LINES = sorted(set(map(tuple, command_lines())))


class NoConsole:
    """Is closed as soon as it is shown."""

    def check(self):
        pass

    def show(self, _source, _options):
        return ConsoleEnd(EndKind.QUIT)


@pytest.fixture
def nothing_starts(monkeypatch, tmp_path):
    """Command lines are read as ever, but run nothing; the files that they name exist."""

    async def nothing(*_args, **_kwargs):
        return CommandResult(text="done")

    for module in ("relay", "agent", "demo", "ws"):
        monkeypatch.setattr(f"rtun_core.cli.{module}.run_engine", lambda *_: 0)

    async def all_well(*_args, **_kwargs):
        return 0

    monkeypatch.setattr("rtun_core.cli.doctor._examine", all_well)
    monkeypatch.setattr("rtun_core.cli.ctl._send", nothing)
    monkeypatch.setattr("rtun_core.cli.status._show", nothing)
    monkeypatch.setattr("rtun_core.cli.events._print", nothing)
    monkeypatch.setattr("rtun_core.cli.attach._check", nothing)
    monkeypatch.setattr(
        "rtun_core.engine.control_place.find_place", lambda *_: UnixPlace(tmp_path / "x.sock")
    )
    monkeypatch.setattr("rtun_core.engine.replay_source.ReplaySource.open", lambda _: None)
    for module in ("attach", "replay"):
        monkeypatch.setattr(f"rtun_core.cli.{module}.find_console", NoConsole)
    for name in [name for name in os.environ if name.startswith("RTUN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    cert, key = self_signed(["localhost"])
    (tmp_path / "cert.pem").write_bytes(cert)
    (tmp_path / "key.pem").write_bytes(key)
    for name in ("secret", "token", "control-token"):
        (tmp_path / name).write_text("sixteen-letters-\n")


def test_there_are_command_lines():
    assert len(LINES) > 30
    named = {words[0] for words in LINES}
    assert named >= {"relay", "agent", "demo", "status", "events", "ctl", "paths"}
    assert named >= {"attach", "replay", "config", "ws"}


@pytest.mark.parametrize("words", LINES, ids=" ".join)
@pytest.mark.usefixtures("nothing_starts")
def test_every_command_line_of_the_readme_parses(words, capsys):
    if words in NAMES:
        words = (*words, "--help")
    status = main([word.removeprefix("/etc/rtun/") for word in words])
    assert (status, capsys.readouterr().err) == (0, "")


def key_table():
    """Every key of the console, a row for each group."""
    rows = []
    for group in GROUPS:
        actions = [_key_words(action) for action in KEY_ACTIONS if action.group == group]
        rows.append(f"| {group} | {' · '.join(actions)} |")
    return "\n".join(("| group | keys |", "| --- | --- |", *rows))


def _key_words(action):
    keys = " ".join(dict.fromkeys(f"`{display_key(key)}`" for key in action.keys))
    where = "" if action.panes in (PANES, TABLE_PANES) else f" ({', '.join(action.panes)})"
    return f"{keys} {action.help}{where}"


def command_table():
    """Every command that changes only the view."""
    rows = [f"| `{each.usage.replace('|', chr(92) + '|')}` | {each.help} |" for each in VIEW_COMMANDS]
    return "\n".join(("| command | effect |", "| --- | --- |", *rows))


def column_table():
    """Every column, by the name that filters and settings use."""
    rows = [f"| {table} | {' '.join(f'`{column.id}`' for column in COLUMNS[table])} |" for table in TABLES]
    return "\n".join(("| table | columns |", "| --- | --- |", *rows))


@pytest.mark.parametrize("table", [key_table, command_table, column_table], ids=lambda table: table.__name__)
def test_tables_of_the_console_are_those_of_the_program(table):
    if os.environ.get("RTUN_UPDATE_GOLDEN") == "1":
        replace_table(ROOT / "README.md", table())
    assert table() in (ROOT / "README.md").read_text(), "write it anew with RTUN_UPDATE_GOLDEN=1"


def replace_table(page, table):
    """Put a table in the place of the one with the same first line."""
    first = re.escape(table.partition("\n")[0])
    page.write_text(
        re.sub(rf"^{first}\n(?:\|.*\n)*", lambda _: table + "\n", page.read_text(), flags=re.MULTILINE)
    )


def test_every_filter_of_the_readme_can_be_read_by_a_table():
    section = README.partition("\n### Filters\n")[2].partition("\n### ")[0]
    cells = re.findall(r"^\| (`.*`) \|", section.replace("\\|", "\0"), re.MULTILINE)
    filters = [text.replace("\0", "|") for cell in cells for text in INLINE.findall(cell)]
    assert len(filters) > 15
    for text in filters:
        assert any(map(partial(passes, text), TABLES)), text


def passes(text, table):
    """Whether the filter is one of that table's."""
    with suppress(UsageError):
        compile_filter(parse_filter(text), table, marks=())
        return True
    return False


def test_every_theme_is_in_the_readme(tmp_path):
    missing = [name for name in ThemeLibrary(user=tmp_path).names() if f"`{name}`" not in README]
    assert not missing


def test_every_command_of_ctl_is_in_the_readme():
    missing = [kind.words for kind in COMMANDS if f"`{' '.join(kind.words)}`" not in README]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    text = (ROOT / page).read_text()
    for target in LINK.findall(FENCE.sub("", text)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        assert (ROOT / path).exists(), target
        assert not anchor or anchor in anchors(text if not path else (ROOT / path).read_text()), target


def anchors(text):
    """The anchors of headings, as they are made where the repository is shown."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_paths_in_contributing_exist():
    """Modules and files, given in full, from the core, or by their name alone."""
    text = FENCE.sub("", (ROOT / "CONTRIBUTING.md").read_text())
    names = [
        name for name in INLINE.findall(text) if re.fullmatch(r"[\w./]+\.(py|toml|proto|md|json|pyi)", name)
    ]
    assert len(names) > 40
    for name in names:
        assert any(ROOT.glob(f"*/{name}")) or any(ROOT.glob(f"**/{name}")), name


def test_every_option_of_the_readme_is_in_the_help_of_a_command():
    known = {option for command in every_command(rtun) for option in visible_options(command)}
    known |= {option for kind in COMMANDS for option in OPTION.findall(usage(kind))}
    assert set(OPTION.findall(README)) - known - OTHERS == set()


def every_command(group):
    yield group
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            yield from every_command(group.get_command(context, name))


def visible_options(command):
    context = click.Context(command, help_option_names=["--help"])
    for param in command.get_params(context):
        if isinstance(param, click.Option) and not param.hidden:
            yield from (*param.opts, *param.secondary_opts)


def test_every_event_is_in_the_readme():
    words = set(INLINE.findall(README))
    assert set(event_types()) - words == set()


def test_every_metric_is_in_the_readme_and_no_other():
    empty = Snapshot(seq=0, ts=0.0, uptime_s=0.0, pid=1, version="1", services=())
    families = list(SnapshotCollector(lambda: empty, FlowMoves()).collect())
    names = {f"{one.name}_total" if one.type == "counter" else one.name for one in families}
    section = README.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(rtun_\w+)`", section)) == names | {"rtun_loop_lag_seconds"}


HEADLESS = """
import sys
import rtun_core.cli.main, rtun_core.cli.relay, rtun_core.cli.agent, rtun_core.cli.demo_stage
import rtun_core.relay.service, rtun_core.agent.service, rtun_core.signaling.server
import rtun_core.engine.control, rtun_core.engine.metrics
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"textual", "rich", "rtun_tui"}))
"""


def test_headless_imports_no_console():
    done = subprocess.run(
        [sys.executable, "-c", HEADLESS], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == []
