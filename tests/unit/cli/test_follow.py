"""The files of a bundle that is followed through the API server."""

from pathlib import Path

import pytest

from headwater.cli._follow import swap


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_what_is_there_is_replaced_whole(tmp_path: Path) -> None:
    """A reader sees the files before or those after, through one link."""
    swap(tmp_path, {"route.json": b"1", "a.json": b"a"})
    swap(tmp_path, {"route.json": b"2"})
    data = tmp_path / "..data"
    assert names(data) == {"route.json"}
    assert (data / "route.json").read_bytes() == b"2"
    assert len(names(tmp_path)) == 2, "the link, and what it leads to"


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """It is tried again every half minute: a full disk must not be filled by that."""
    swap(tmp_path, {"route.json": b"1"})
    before = names(tmp_path)
    for _ in range(3):
        with pytest.raises(OSError, match="File name too long"):
            swap(tmp_path, {"route.json": b"2", "x" * 300: b""})
    assert names(tmp_path) == before
    assert (tmp_path / "..data" / "route.json").read_bytes() == b"1"
