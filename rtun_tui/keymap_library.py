"""The key maps there are: the keys that come with rtun, the user's own, and others of the user by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from rtun_core.engine.paths import keymap_file, keymaps_dir
from rtun_core.errors import UsageError
from rtun_tui.file_stamp import Stamp, stamp
from rtun_tui.keymap import Keymap, load_keymap
from rtun_tui.strict_toml import nearest, toml_files

DEFAULT, OWN = "default", "own"  # no file; keymap.toml, which need not exist

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


class KeymapLibrary:
    """Finds key maps by name: `default`, `own`, and NAME for the file `NAME.toml` in the directory keymaps.

    Each is the default keys, changed by its file. `used` is the one whose file is watched.
    """

    def __init__(self, used: str = OWN, *, own: Path | None = None, named: Path | None = None) -> None:
        self.own = own or keymap_file()
        self.named = named or keymaps_dir()
        self.used = used
        self._stamp = self._look()

    def names(self) -> tuple[str, ...]:
        """Every key map, the default keys first."""
        return (DEFAULT, OWN, *self._files())

    def find(self, name: str) -> Keymap:
        """The keys of that name. Raises UsageError: unknown, or with file, line and key what is wrong."""
        if name == DEFAULT:
            return Keymap()
        if name == OWN:
            return load_keymap(self.own)
        file = self._files().get(name)
        if file is None:
            raise UsageError(f"keymap {name} is unknown; {nearest(name, self.names())}")
        return load_keymap(file)

    def use(self, name: str) -> Keymap:
        """The keys of that name, to be watched from now on. Raises UsageError, and nothing changes."""
        keymap = self.find(name)
        self.used = name
        self._stamp = self._look()
        return keymap

    def changed(self) -> bool:
        """Whether the file in use was written, made or removed since the last call. For a slow timer."""
        before, self._stamp = self._stamp, self._look()
        return before != self._stamp

    def problems(self) -> list[str]:
        """One line for each file that cannot be used."""
        problems = [
            f"{file}: a key map's name is 1 to 40 of a-z, 0-9 and '-', and neither {DEFAULT} nor {OWN}"
            for name, file in toml_files(self.named).items()
            if not _is_name(name)
        ]
        for file in (self.own, *self._files().values()):
            try:
                load_keymap(file)
            except UsageError as error:
                problems.append(str(error))
        return problems

    def _files(self) -> Mapping[str, Path]:
        return {name: file for name, file in toml_files(self.named).items() if _is_name(name)}

    def _look(self) -> Stamp | None:
        if self.used == DEFAULT:
            return None
        return stamp(self.own if self.used == OWN else self.named / f"{self.used}.toml")


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and text not in (DEFAULT, OWN)
