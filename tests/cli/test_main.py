import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from rtun_core import __version__
from rtun_core.cli import main as main_module
from rtun_core.cli.main import main, rtun
from rtun_core.errors import BindError, CommandRefused

GOLDEN = Path(__file__).with_name("golden")
WIDTH = 100

# Other programs' options that are only there to be refused, and click's own.
NO_TWIN = {"help", "version"}


def every_command(group=rtun, path=("rtun",), parent=None):
    settings = group.context_settings | {"terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(group, info_name=path[-1], parent=parent, **settings)
    yield path, group, context
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            yield from every_command(group.get_command(context, name), (*path, name), context)


ALL = [pytest.param(*entry, id=" ".join(entry[0])) for entry in every_command()]


@pytest.mark.parametrize(("path", "command", "context"), ALL)
def test_help_is_as_it_was(path, command, context):
    file = GOLDEN / f"{'-'.join(path)}.txt"
    text = command.get_help(context) + "\n"
    if os.environ.get("RTUN_UPDATE_GOLDEN") == "1":
        file.write_text(text)
    assert text == file.read_text()
    assert max(map(len, text.splitlines())) <= WIDTH


def test_no_golden_file_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {"-".join(entry[0]) for entry in every_command()}


@pytest.mark.parametrize(("path", "command", "context"), ALL)
def test_every_option_has_a_help_and_an_environment_twin(path, command, context):
    for param in command.params:
        if not isinstance(param, click.Option) or param.name in NO_TWIN:
            continue
        assert param.hidden or param.help
        assert f"--{param.name.replace('_', '-')}" in param.opts


def test_version(run):
    assert run("--version") == (0, f"rtun version {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Missing command; see 'rtun --help'"),
        (("agent",), "Missing command; see 'rtun agent --help'"),
        (("fly",), "No such command 'fly'; see 'rtun --help'"),
        (("relay",), "Missing argument 'URL'; see 'rtun relay --help'"),
        (("relay", "http://h"), "Missing option '-L' / '--local'; see 'rtun relay --help'"),
    ],
)
def test_misuse_is_one_sentence(refuse, words, sentence):
    assert refuse(*words) == sentence


def test_unknown_option(refuse):
    assert refuse("relay", "--fly").startswith("No such option")


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (BindError("cannot listen"), 3, "Error: cannot listen\n"),
        (CommandRefused("agent a\x1b[2J\x07 is lost"), 1, "Error: agent a[2J is lost\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.FileError("x", "no such file"), 1, "Error: Could not open file 'x': no such file\n"),
    ],
)
def test_errors_are_rendered_in_one_place(monkeypatch, capsys, error, status, text):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(main_module.rtun, "invoke", fail)
    assert main(["paths"]) == status
    assert capsys.readouterr().err.lstrip("\n") == text


def test_a_bug_is_not_hidden(monkeypatch):
    def fail(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(main_module.rtun, "invoke", fail)
    with pytest.raises(ZeroDivisionError):
        main(["paths"])


def test_help_does_not_load_the_heavy_parts():
    code = (
        "import sys; from rtun_core.cli.main import main; main(['--help']);"
        "heavy = {'numpy', 'aiohttp', 'aioquic', 'asyncio', 'ssl', 'prometheus_client', 'textual'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "rtun_core.cli.main", "--version"], capture_output=True, text=True
    )
    assert done.stdout == f"rtun version {__version__}\n"


def test_paths(run):
    status, out, err = run("paths")
    assert (status, err) == (0, "")
    names = [line.split("  ")[0] for line in out.splitlines()]
    assert names == [
        "control sockets",
        "config",
        "settings",
        "keys",
        "key maps",
        "themes",
        "logs",
        "recordings",
    ]
    assert os.environ["XDG_RUNTIME_DIR"] in out
