"""Pictures of a real run: the demo on a terminal of its own, and what `rtun status` prints during it."""

from __future__ import annotations

import errno
import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from screenshots.console import plain

DEMO = ("demo", "--seconds", "8", "--clients", "10", "--control", "--no-tui")
STATUS = ("status",)
DEMO_WIDTH = 108  # columns, as long as the longest line of the log
STATUS_WIDTH = 82
SWITCHED = b"agent switched"  # the line of the log after which the status is worth a picture


def draw_demo(runtime: str) -> tuple[str, str]:
    """SVG of the demo and of a status during it; `runtime` is where its control socket lives.

    Raises CalledProcessError when either fails.
    """
    demo, status = record(runtime)
    return draw("demo", DEMO, demo, DEMO_WIDTH), draw("status", STATUS, status, STATUS_WIDTH)


def record(runtime: str) -> tuple[str, str]:
    """What the demo and a status during it write."""
    master, terminal = pty.openpty()
    env = environment(runtime)
    demo = subprocess.Popen(rtun(*DEMO), stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env=env)
    os.close(terminal)
    shown, status = b"", ""
    try:
        for piece in pieces(master):
            shown += piece
            if not status and SWITCHED in shown:
                status = subprocess.check_output(rtun(*STATUS), text=True, env=env)
    except BaseException:
        demo.terminate()
        raise
    finally:
        exit_status = demo.wait()
        os.close(master)
    if exit_status:
        raise subprocess.CalledProcessError(exit_status, demo.args, shown)
    return shown.decode().replace("\r\n", "\n"), status


def pieces(master: int) -> Iterator[bytes]:
    """What is written to a terminal, until the last writer has closed it."""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError as error:
            if error.errno == errno.EIO:  # how Linux tells the end
                return
            raise
        if not piece:
            return
        yield piece


def draw(name: str, command: tuple[str, ...], output: str, width: int) -> str:
    """A command line and its output as SVG; the same text gives the same picture."""
    sink = io.StringIO()
    console = Console(record=True, width=width, file=sink, force_terminal=True, color_system="truecolor")
    console.print(Text.assemble(("$ ", "bold green"), (" ".join(("rtun", *command)), "bold")))
    console.print(Text.from_ansi(output.rstrip()), overflow="ellipsis", no_wrap=True)
    return plain(console.export_svg(title="rtun"), name)


def rtun(*args: str) -> list[str]:
    """The command line of this very checkout."""
    return [sys.executable, "-m", "rtun_core", *args]


def environment(runtime: str) -> dict[str, str]:
    """Ours without what changes the look or the settings of rtun."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RTUN_")}
    kept.pop("NO_COLOR", None)
    return kept | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "XDG_RUNTIME_DIR": runtime}
