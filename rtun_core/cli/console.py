"""The console as commands see it: its options, how it ended, and the door to it.

The console is another floor, above this one, and brings libraries that a headless run does without. It is
therefore found by name, only when it is asked for.
"""

from __future__ import annotations

import enum
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, cast

import click

from rtun_core.cli.options import packed
from rtun_core.errors import RtunError

if TYPE_CHECKING:
    from rtun_core.engine.source import Source

OnHangup = Literal["exit", "headless"]

_CONSOLE = "rtun_tui.launch"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleOptions:
    """The checked values of `console_options`. `on_hangup` None: headless if there is a control socket."""

    show: bool = False
    read_only: bool = False
    theme: str | None = None
    on_hangup: OnHangup | None = None
    ends_engine: bool = True  # whether quitting ends what is looked at
    reopen: Callable[[], object] | None = None  # what SIGHUP means as long as the terminal is there
    shown: Callable[[], object] | None = None  # to be called when the first frame is on the terminal


class EndKind(enum.Enum):
    """Why a console is no longer shown."""

    QUIT = "quit"
    DETACHED = "detached"  # closed by its user; what runs behind it is to go on
    LOST = "lost"  # its terminal is gone
    SIGNAL = "signal"
    ENGINE_ENDED = "engine ended"
    FAILED = "failed"  # an error of the console itself


@dataclass(frozen=True, slots=True)
class ConsoleEnd:
    """How a console ended; `detail` is the traceback of a failure."""

    kind: EndKind
    signum: int = 0
    detail: str = ""


class Console(Protocol):
    """The module behind the door."""

    def check(self) -> None:
        """Raise UsageError when there is no terminal that the console can be shown on."""

    def show(self, source: Source, options: ConsoleOptions) -> ConsoleEnd:
        """Show the console until it ends. Belongs to the main thread; never raises what a user can cause."""


def find_console() -> Console:
    """The console. Raises RtunError when its libraries are not installed."""
    try:
        return cast(Console, importlib.import_module(_CONSOLE))
    except ModuleNotFoundError as error:
        raise RtunError(f"the console needs {error.name}, which is not installed") from None


def viewer_status(end: ConsoleEnd) -> int:
    """The exit status of a command that only looked. Raises RtunError when the console failed."""
    if end.kind is EndKind.FAILED:
        raise RtunError(f"the console failed: {end.detail.rstrip().rpartition(chr(10))[2]}")
    return 128 + end.signum if end.kind is EndKind.SIGNAL else 0


def build_console(
    *, tui: bool, read_only: bool, theme: str | None, on_hangup: OnHangup | None
) -> ConsoleOptions:
    """Turn option values into ConsoleOptions."""
    return ConsoleOptions(
        show=tui,
        read_only=read_only,
        theme=theme,
        on_hangup=on_hangup,
    )


read_only_option = click.option("--read-only", is_flag=True, help="Console: look, but change nothing.")
theme_option = click.option("--theme", metavar="NAME", help="Console: the theme. [default: as configured]")

console_options = packed(
    "console",
    (
        click.option(
            "--tui", is_flag=True, help="Show the console; nothing else is written to the terminal."
        ),
        read_only_option,
        theme_option,
        click.option(
            "--on-hangup",
            type=click.Choice(["exit", "headless"]),
            help="Console: what to do when its terminal goes away. "
            "[default: headless with --control, else exit]",
        ),
    ),
    build_console,
)
