"""The file with the user's keys, read again when it is written."""

from __future__ import annotations

from pathlib import Path

from rtun_tui.file_stamp import stamp
from rtun_tui.keymap import Keymap, load_keymap


class KeymapFile:
    """`path` need not exist: then the default keys are in force."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = stamp(path)

    def load(self) -> Keymap:
        """The keys as the file is now. Raises UsageError with file, line and key."""
        return load_keymap(self.path)

    def changed(self) -> bool:
        """Whether the file was written, made or removed since the last call. For a slow timer."""
        before, self._stamp = self._stamp, stamp(self.path)
        return before != self._stamp
