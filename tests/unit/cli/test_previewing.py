"""What a preview without an id can say."""

from __future__ import annotations

from typing import Any

import pytest

from cli.previewing import _is_hashed


@pytest.mark.parametrize(
    ("fields", "is_hashed"),
    [
        ({"cron": "H H * * *"}, True),
        ({"cron": ["0 9 * * *", "0 H(0-5) * * *"]}, True),
        ({"cron": "5,H/15 * * * *"}, True),
        ({"every": "1h", "jitter": "10m"}, True),
        ({"cron": "0 9 * MAR THU"}, False),
        ({"cron": "@HOURLY"}, False),
        ({"every": "1h"}, False),
        ({}, False),
    ],
)
def test_times_that_the_id_decides(fields: dict[str, Any], is_hashed: bool) -> None:
    """Where H or jitter is drawn from the id, a preview without one shows the times of nobody, and says so."""
    assert _is_hashed(fields) is is_hashed
