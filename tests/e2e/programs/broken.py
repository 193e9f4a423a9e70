"""rtun whose tables fail to draw from SIGUSR1 on.

python broken.py ARGS...
"""

from __future__ import annotations

import signal
import sys

from rtun_core.cli.main import main
from rtun_tui.widgets.live_table import LiveTable


def fail(*_: object) -> None:
    raise RuntimeError("the table\nis broken")


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda *_: setattr(LiveTable, "draw_line", fail))
    sys.exit(main(sys.argv[1:]))
