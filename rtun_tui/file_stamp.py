"""Whether a file was written since it was read."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[str, int, int]  # name, modification time in ns, size


def stamp(file: Path) -> Stamp:
    """How the file is now; a file that is not there has a stamp too."""
    try:
        status = file.stat()
    except OSError:
        return file.name, 0, 0
    return file.name, status.st_mtime_ns, status.st_size
