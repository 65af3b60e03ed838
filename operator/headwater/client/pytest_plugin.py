"""A pytest plugin: each builder of requests that the configuration names becomes a test.

In pyproject.toml, `headwater_builders = ["app.prompts:build_request"]` under
`[tool.pytest.ini_options]`.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from headwater import UnstableError, assert_stable

_OPTION = "headwater_builders"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the names of builders."""
    parser.addini(_OPTION, "builders of requests, as package.module:function", type="linelist")


class _Builder(pytest.Item):
    """One builder that has to build the same request everywhere."""

    def runtest(self) -> None:
        assert_stable(self.name)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> str:
        if isinstance(excinfo.value, UnstableError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo, *args))

    def reportinfo(self) -> tuple[str, int | None, str]:
        return self.config.inipath.name if self.config.inipath else "", None, f"stable: {self.name}"


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the builders to what is run."""
    items.extend(_items(session, config))


def _items(session: pytest.Session, config: pytest.Config) -> Iterator[pytest.Item]:
    for name in config.getini(_OPTION):
        yield _Builder.from_parent(session, name=name)
