"""What a person would see of something that is printed."""

from collections.abc import Callable

import pytest
from rich.console import RenderableType

from headwater.cli._output import show

Printed = Callable[..., str]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Printed:
    """The text of a renderable, at a width; `wide` as with `-o wide`."""

    def text(renderable: RenderableType, columns: int = 80, *, wide: bool = False) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        show(renderable, wide=wide)
        return capsys.readouterr().out

    return text
