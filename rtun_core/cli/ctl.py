"""`rtun ctl`: one command to a running rtun."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rtun_core.cli.control_options import control_token_option, read_control_token
from rtun_core.commands import COMMANDS, Command, parse_command, usage

if TYPE_CHECKING:
    from rtun_core.commands import CommandResult


class CommandList(click.Command):
    """Adds every command of the registry to the help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Called by click at the end of the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(usage(kind), kind.help) for kind in COMMANDS], col_max=44)


@click.command(
    cls=CommandList,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Tell a running rtun to do something.",
)
@click.option("--on", metavar="PATH|PID|HOST:PORT", help="Which rtun. [default: the only one that runs]")
@control_token_option
@click.option("--json", is_flag=True, help="Print the result as JSON.")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
def ctl(on: str | None, control_token_file: str | None, json: bool, words: tuple[str, ...]) -> None:
    """Tell a running rtun, started with --control, to do something.

    Exit status: 0 done, 1 refused or no rtun, 2 not a command.
    """
    command = parse_command(list(words))
    import asyncio

    from rtun_core.view.cells import visible

    result = asyncio.run(_send(on, read_control_token(control_token_file), command))
    if json:
        import msgspec

        click.echo(msgspec.json.encode(result))
    else:
        click.echo(visible(result.text))


async def _send(on: str | None, token: bytes | None, command: Command) -> CommandResult:
    from rtun_core.engine.control_client import ControlClient
    from rtun_core.engine.control_place import find_place

    async with ControlClient(find_place(on, token)) as client:
        await client.check()
        return await client.command(command)
