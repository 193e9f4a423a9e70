"""The command `rtun`: finds the command, runs it, and is the one place where errors are rendered."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from rtun_core import __version__
from rtun_core.cli.garbage import starting
from rtun_core.errors import RtunError

INTERRUPTED = 130

_COMMANDS = {
    "relay": "rtun_core.cli.relay:relay",
    "ws": "rtun_core.cli.ws:ws",
    "agent": "rtun_core.cli.agent:agent",
    "demo": "rtun_core.cli.demo:demo",
    "attach": "rtun_core.cli.attach:attach",
    "replay": "rtun_core.cli.replay:replay",
    "status": "rtun_core.cli.status:status",
    "events": "rtun_core.cli.events:events",
    "ctl": "rtun_core.cli.ctl:ctl",
    "config": "rtun_tui.config_command:config",
    "doctor": "rtun_core.cli.doctor:doctor",
    "paths": "rtun_core.cli.paths:paths",
}


class LazyGroup(click.Group):
    """A group that imports a command only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """None for an unknown name."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(
    cls=LazyGroup,
    no_args_is_help=False,
    context_settings={
        "auto_envvar_prefix": "RTUN",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
    epilog="Every option is also read from the environment: RTUN_RELAY_MAX_FLOWS is `rtun relay "
    "--max-flows`. RTUN_SECRET is the secret of every command, RTUN_TOKEN the token of `rtun ws`, "
    "RTUN_CONTROL_TOKEN that of --control-tcp.",
)
@click.version_option(__version__, "--version", message="rtun version %(version)s")
def rtun() -> None:
    """Carry UDP between machines that cannot reach each other directly."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; errors become one sentence on stderr."""
    starting()
    return rendered(lambda: rtun.main(args=argv, prog_name="rtun", standalone_mode=False))


def rendered(run: Callable[[], Any]) -> int:
    """Run a command line and return its exit status; what it raises becomes one sentence on stderr."""
    try:
        result = run()
    except RtunError as error:
        return _fail(str(error), error.exit_status)
    except click.ClickException as error:
        return _fail(_sentence(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def _sentence(error: click.ClickException) -> str:
    text = error.format_message().rstrip(".")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{text}; see '{error.ctx.command_path} --help'"
    return text


def _fail(sentence: str, status: int) -> int:
    from rtun_core.view.cells import visible

    # Names of peers may be in it; what lists choices has several lines.
    print("Error: " + "\n".join(map(visible, sentence.split("\n"))), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
