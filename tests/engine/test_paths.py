import os
import warnings

import pytest

from rtun_core.engine.paths import (
    config_dir,
    control_socket,
    keymap_file,
    keymaps_dir,
    log_dir,
    recordings_dir,
    runtime_dir,
    settings_file,
    themes_dir,
)
from rtun_core.errors import RtunError


def test_sockets_lie_in_the_runtime_directory():
    assert str(runtime_dir().parent) == os.environ["XDG_RUNTIME_DIR"]
    assert control_socket() == runtime_dir() / f"{os.getpid()}.sock"
    assert control_socket(17).name == "17.sock"


def test_without_a_runtime_directory_nothing_is_warned_about(monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert runtime_dir().name == "rtun"


def test_a_place_that_another_user_holds(monkeypatch):
    def refuse(name):
        raise PermissionError("it is a symlink")

    monkeypatch.setattr("platformdirs.user_runtime_dir", refuse)
    with pytest.raises(RtunError, match="no safe directory for control sockets: it is a symlink"):
        runtime_dir()


def test_each_place_is_ours():
    assert "rtun" in str(config_dir())
    assert "rtun" in str(log_dir())
    for place in (settings_file({}), keymap_file(), keymaps_dir(), themes_dir()):
        assert place.parent == config_dir()
    assert settings_file({"RTUN_CONFIG": ""}).name == "config.toml"
    assert str(settings_file({"RTUN_CONFIG": "/etc/rtun.toml"})) == "/etc/rtun.toml"
    assert recordings_dir().parent == log_dir()
