"""Whole runs of what a user starts: `make e2e` runs them, a minute each."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Know the marker by which these runs are chosen or left out."""
    config.addinivalue_line("markers", "e2e: a whole run of what a user starts, a minute or so")
