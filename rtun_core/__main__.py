"""`python -m rtun_core` is `rtun`."""

import sys

from rtun_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
