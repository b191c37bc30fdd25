"""What a test did is counted, unless it tidies up."""

from __future__ import annotations

import signal
from pathlib import Path

from tests import deeds
from tests.acceptance.processes import Process


async def test_what_is_done_to_something_alive_is_told(tmp_path: Path) -> None:
    """A signal counts when it meets a process that runs; a second one, to what has ended, does not."""
    deeds.forget()
    process = Process("sleeper", tmp_path, ["-c", "import time; time.sleep(60)"], {})
    process.signal(signal.SIGSTOP)
    process.signal(signal.SIGCONT)
    await process.kill()
    await process.kill()
    assert deeds.told() == "happened: 1x SIGKILL to a process, 1x SIGSTOP to a process"


async def test_tidying_up_is_none(tmp_path: Path) -> None:
    """What is ended at the end of a test was no fault."""
    deeds.forget()
    process = Process("sleeper", tmp_path, ["-c", "import time; time.sleep(60)"], {})
    with deeds.quietly():
        await process.kill()
    assert deeds.told() == ""
