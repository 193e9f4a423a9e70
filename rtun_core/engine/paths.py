"""Where things live on this machine."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from rtun_core.errors import RtunError

APP = "rtun"


def runtime_dir() -> Path:
    """The directory of the control sockets. Raises RtunError when another user holds its place."""
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR the library falls back to a place of its own and says so each time.
        warnings.simplefilter("ignore")
        try:
            return Path(platformdirs.user_runtime_dir(APP))
        except PermissionError as error:
            raise RtunError(f"there is no safe directory for control sockets: {error}") from None


def config_dir() -> Path:
    """The directory of the user's settings."""
    return Path(platformdirs.user_config_dir(APP))


def log_dir() -> Path:
    """The directory that is meant for log files."""
    return Path(platformdirs.user_log_dir(APP))


def settings_file(environ: Mapping[str, str]) -> Path:
    """The file with the user's settings: RTUN_CONFIG if it is set, else `config.toml` in the usual place."""
    named = environ.get("RTUN_CONFIG")
    return Path(named) if named else config_dir() / "config.toml"


def keymap_file() -> Path:
    """The file with the user's keys."""
    return config_dir() / "keymap.toml"


def keymaps_dir() -> Path:
    """The directory of the user's other keys, by name; it need not exist."""
    return config_dir() / "keymaps"


def themes_dir() -> Path:
    """The directory of the user's themes; it need not exist."""
    return config_dir() / "themes"


def recordings_dir() -> Path:
    """The directory of recordings that were given no place of their own."""
    return log_dir() / "recordings"


def control_socket(pid: int | None = None) -> Path:
    """The control socket of a process, by default of this one."""
    return runtime_dir() / f"{os.getpid() if pid is None else pid}.sock"
