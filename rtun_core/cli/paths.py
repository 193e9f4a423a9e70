"""`rtun paths`: where control sockets, settings and logs live."""

from __future__ import annotations

import click


@click.command(short_help="Print where control sockets, settings and logs live.")
def paths() -> None:
    """Print where control sockets, settings and logs live on this machine."""
    from rtun_core.engine.paths import config_dir, log_dir, runtime_dir

    click.echo(f"control sockets  {runtime_dir()}")
    click.echo(f"config           {config_dir()}")
    click.echo(f"logs             {log_dir()}")
