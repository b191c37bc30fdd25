"""Fault runs stand on the same site as the acceptance runs."""

from __future__ import annotations

from tests.acceptance.conftest import dice, pytest_runtest_makereport, server, site

__all__ = ["dice", "pytest_runtest_makereport", "server", "site"]
