"""`python -m scheduler`: one replica, set up by the environment alone (the same as `schedd run` without flags)."""

from __future__ import annotations

import os
import sys

from scheduler.config import Settings
from scheduler.core.errors import ScheddError
from scheduler.daemon import run


def main() -> int:
    try:
        return run(Settings.load({}, os.environ))
    except ScheddError as problem:
        sys.stderr.write(f"schedd: {problem.message}\n")
        return problem.exit_code


if __name__ == "__main__":
    sys.exit(main())
