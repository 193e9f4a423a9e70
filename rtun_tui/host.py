"""What keys and commands need of the console that they act on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from textual.screen import Screen

from rtun_core.cli.console import EndKind
from rtun_core.engine.source import Source
from rtun_tui.desk import Desk
from rtun_tui.governor import Governor
from rtun_tui.keymap import Keymap
from rtun_tui.keymap_library import KeymapLibrary
from rtun_tui.palette import Palette
from rtun_tui.screens.overview import Overview
from rtun_tui.settings import Settings
from rtun_tui.theme_library import ThemeLibrary
from rtun_tui.widgets.prompt import MESSAGE_TIME

if TYPE_CHECKING:
    from rtun_tui.execution import Execution
    from rtun_tui.replaying import Replaying

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the console is to behave, apart from settings. `still`: it looks only when it is told to."""

    read_only: bool = False
    colour: bool = True
    ascii: bool = False
    still: bool = False
    ends_engine: bool = True  # whether what is looked at ends with the console


class Host(Protocol):
    """The console, as what acts for it sees it."""

    source: Source
    settings: Settings
    keymap: Keymap
    keymaps: KeymapLibrary
    library: ThemeLibrary
    manner: Manner
    desk: Desk
    governor: Governor
    overview: Overview
    execution: Execution
    replaying: Replaying
    theme_name: str
    wall: Callable[[], float]

    @property
    def palette(self) -> Palette:
        """The colours that are used now."""

    @property
    def screen(self) -> Screen[Any]:
        """What is in front."""

    def look(self) -> None:
        """Take what is new and draw it."""

    def say(self, text: str, role: str = "hint", *, seconds: float = MESSAGE_TIME) -> None:
        """One line to the user."""

    def close(self, kind: EndKind, signum: int = 0) -> None:
        """End the console."""

    async def run_line(self, line: str) -> None:
        """Carry out a line of commands."""

    def use_theme(self, name: str) -> str:
        """Take the colours of a theme. What is the matter with it, or empty."""

    def use_keymap(self, name: str) -> None:
        """Take the keys of a map. Raises UsageError, and then the keys stay as they are."""

    def push_screen(
        self, screen: Screen[_Result], callback: Callable[[_Result | None], None] | None = None
    ) -> object:
        """Show a dialog."""

    def run_worker(self, work: Coroutine[Any, Any, None], *, group: str) -> object:
        """Do something that takes time."""

    def copy_to_clipboard(self, text: str) -> None:
        """Hand text to the terminal."""

    def export_screenshot(self, *, title: str | None = None) -> str:
        """The screen as SVG."""

    def refresh(self, *, repaint: bool, layout: bool) -> object:
        """Draw everything anew."""
