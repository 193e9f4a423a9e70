"""rtun as the child of a shell, which leads the session, and what shells do to their children.

    python shell.py background|hangup ARGS...

With `background` the child is started as a background job. With `hangup` the shell passes a hang-up on some
time after it has happened, as login shells do. Ends with the status of the child.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

LATER = 0.7  # seconds


def start(background: bool) -> subprocess.Popen[bytes]:
    group = 0 if background else None
    return subprocess.Popen([sys.executable, "-m", "rtun_core", *sys.argv[2:]], process_group=group)


if __name__ == "__main__":
    child = start(sys.argv[1] == "background")

    def pass_on(*_: object) -> None:
        time.sleep(LATER)
        child.send_signal(signal.SIGHUP)

    signal.signal(signal.SIGHUP, pass_on)
    status = child.wait()
    sys.exit(status if status >= 0 else 128 - status)
