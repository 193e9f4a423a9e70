"""rtun in a program that logs, prints and warns: on SIGUSR1, from another thread, all at once.

python noisy.py ARGS...
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import warnings

from rtun_core.cli.main import main

again = threading.Event()


def noise() -> None:
    again.wait()
    logging.getLogger("service").info("stray info")
    logging.getLogger("service").warning("stray warning")
    logging.getLogger("apart").error("stray apart")
    late = logging.getLogger("late")
    late.propagate = False
    late.addHandler(logging.StreamHandler())
    late.error("stray late")
    print("stray print")  # noqa: T201 - what it is there for
    sys.stderr.write("stray half")
    sys.stderr.write(" and half\n")
    warnings.warn("stray warn", stacklevel=1)
    raise RuntimeError("stray thread")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    apart = logging.getLogger("apart")
    apart.propagate = False
    apart.addHandler(logging.StreamHandler(sys.stderr))
    threading.Thread(target=noise, name="noise", daemon=True).start()
    signal.signal(signal.SIGUSR1, lambda *_: again.set())
    sys.exit(main(sys.argv[1:]))
