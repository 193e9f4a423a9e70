"""The themes there are: those that come with rtun, and the user's own, which win over them by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rtun_core.engine.paths import themes_dir
from rtun_core.errors import UsageError
from rtun_tui.file_stamp import Stamp, stamp
from rtun_tui.palette import MONO
from rtun_tui.strict_toml import nearest, toml_files
from rtun_tui.theme_files import Theme, load_theme

DEFAULT_THEME = "rtun-dark"


@dataclass(frozen=True)
class Found:
    """A theme to use, and what to tell the user about the one that was asked for, empty if nothing."""

    theme: Theme
    warning: str = ""


class ThemeLibrary:
    """Finds themes by name. A theme's name is that of its file without `.toml`.

    Files are read when they are asked for, so an edited one is seen at the next `find`.
    """

    def __init__(self, built_in: Path | None = None, user: Path | None = None) -> None:
        self.built_in = built_in or built_in_themes()
        self.user = user or themes_dir()
        self._stamp = self._look()

    def names(self) -> tuple[str, ...]:
        """Every theme, the built-in ones first."""
        return tuple(self._files())

    def find(self, name: str) -> Found:
        """The theme of that name; the default one and a warning if it is unknown or its file is broken."""
        files = self._files()
        if name not in files:
            return self._default(f"theme {name} is unknown; {nearest(name, files)}")
        try:
            return Found(self._load(files[name]))
        except UsageError as error:
            return self._default(f"theme {name} cannot be used: {error}")

    def changed(self) -> bool:
        """Whether a user theme was written, added or removed since the last call. For a slow timer."""
        before, self._stamp = self._stamp, self._look()
        return before != self._stamp

    def problems(self) -> list[str]:
        """One line for each user theme that cannot be used."""
        problems = []
        for file in self._user_files().values():
            try:
                self._load(file)
            except UsageError as error:
                problems.append(str(error))
        return problems

    def _default(self, warning: str) -> Found:
        try:
            return Found(load_theme(self.built_in / f"{DEFAULT_THEME}.toml"), warning)
        except UsageError as error:
            plain = Theme(MONO.name, "no colours", MONO.dark, False, MONO.styles)
            return Found(plain, f"{warning}; {error}")

    def _load(self, file: Path) -> Theme:
        theme = load_theme(file)
        if theme.name != file.stem:
            raise UsageError(
                f"{file}: the theme calls itself {theme.name}; its file must be {theme.name}.toml"
            )
        return theme

    def _files(self) -> Mapping[str, Path]:
        return toml_files(self.built_in) | self._user_files()

    def _user_files(self) -> dict[str, Path]:
        return toml_files(self.user)

    def _look(self) -> tuple[Stamp, ...]:
        return tuple(stamp(file) for file in self._user_files().values())


def built_in_themes() -> Path:
    """The directory of our own themes: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "themes"
    return installed if installed.is_dir() else package.parent / "themes"
