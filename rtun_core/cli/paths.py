"""`rtun paths`: where sockets, settings, keys, themes, logs and recordings live."""

from __future__ import annotations

import click


@click.command(short_help="Print where sockets, settings, keys, themes, logs and recordings live.")
def paths() -> None:
    """Print where sockets, settings, keys, themes, logs and recordings live on this machine."""
    import os

    from rtun_core.engine import paths as places

    for name, place in (
        ("control sockets", places.runtime_dir()),
        ("config", places.config_dir()),
        ("settings", places.settings_file(os.environ)),
        ("keys", places.keymap_file()),
        ("key maps", places.keymaps_dir()),
        ("themes", places.themes_dir()),
        ("logs", places.log_dir()),
        ("recordings", places.recordings_dir()),
    ):
        click.echo(f"{name:<17}{place}")
