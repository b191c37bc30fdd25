"""Where `schedd` and `schedctl` begin: Ctrl-C while the commands are still being loaded is no traceback either."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def schedctl() -> None:
    try:
        from cli.schedctl import main

        main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def schedd() -> None:
    try:
        from cli.schedd import main

        main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
