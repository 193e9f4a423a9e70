"""`rtun config`: prints what the settings may hold, and checks those that are there."""

from __future__ import annotations

import click


@click.command(short_help="Print or check the settings of the console.")
@click.option("--print-template", is_flag=True, help="A config.toml with every key explained.")
@click.option("--print-keys", is_flag=True, help="A keymap.toml with every key as it is by default.")
@click.option("--print-theme-items", is_flag=True, help="A theme with every item, to start one's own.")
@click.option("--print-themes", is_flag=True, help="The themes there are.")
@click.option("--check", is_flag=True, help="Check settings, keys and own themes; one line for each fault.")
@click.pass_context
def config(ctx: click.Context, /, **chosen: bool) -> int:
    """Print or check the settings of the console. Exactly one option must be given.

    What is printed is a valid file: `rtun config --print-keys > keymap.toml` is a start.
    """
    wanted = [name for name, given in chosen.items() if given]
    if len(wanted) != 1:
        raise click.UsageError("give exactly one option", ctx)
    from rtun_tui import config_text

    if wanted == ["check"]:
        problems = list(config_text.problems())
        click.echo("\n".join(problems or ["no faults found"]))
        return 1 if problems else 0
    texts = {
        "print_template": config_text.print_template,
        "print_keys": config_text.print_keys,
        "print_theme_items": config_text.print_theme_items,
        "print_themes": config_text.print_themes,
    }
    click.echo(texts[wanted[0]](), nl=False)
    return 0
