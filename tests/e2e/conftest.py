"""Whole runs of what a user starts, in two lanes: `make e2e` runs them.

A story mostly waits, for a kubelet or for a lease that ends; so two are told at the same time, each
lane by a worker of pytest-xdist (`-n 2 --dist loadgroup`). Without it, one lane follows the other.
"""

import os
from typing import Final

import pytest

LANES: Final = (
    ("test_machine.py", "test_story.py", "test_image.py"),
    (
        "test_demo.py",
        "test_exactness.py",
        "test_soak.py",
        "test_mistakes.py",
        "test_readme.py",
        "test_outages.py",
    ),
)
"""Files in the order in which they run. The first has its machine to itself as long as no other
lane has a node or builds an image, and neither is what the second lane begins with."""
_PLACES: Final = {
    file: (lane, place) for lane, files in enumerate(LANES) for place, file in enumerate(files)
}


def pytest_configure(config: pytest.Config) -> None:
    """Know the marker by which these runs are chosen or left out."""
    config.addinivalue_line("markers", "e2e: a whole run of what a user starts, a minute or so")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Put a story into its lane; one that has none is an error of its own."""
    if item.get_closest_marker("e2e"):
        lane, _ = _PLACES[item.path.name]
        if os.environ.get("HEADWATER_CLUSTER"):
            lane = 0  # two installations do not go into one cluster
        item.add_marker(pytest.mark.xdist_group(f"lane-{lane}"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the order within the lanes; what is no story comes first, as it was."""
    items.sort(
        key=lambda item: _PLACES[item.path.name] if item.get_closest_marker("e2e") else (-1, -1)
    )
