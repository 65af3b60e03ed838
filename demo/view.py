"""What the audience sees: the story in lines, and below it, on a terminal, the state as it is now.

Without a terminal the state is told in lines, too, whenever something about it changes.
"""

import asyncio
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from demo.observe import NAME, NAMESPACE, Counts, Observer, Seen
from demo.traffic import MODELS, Traffic

_EVENTS_SHOWN: Final = 4
_PLAIN_WIDTH: Final = 110
_EVERY_SECONDS: Final = 0.2


class View:
    """Prints the story, and the state beside it while `watching`."""

    def __init__(self) -> None:
        """Write to standard output."""
        console = Console(highlight=False)
        # A pipe has no width of its own.
        self.console = (
            console if console.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)
        )
        self._status_told = ""
        self._events_told = 0

    def title(self, sentence: str) -> None:
        """Open the demo."""
        self.console.print(f"[bold]{escape(sentence)}[/]", soft_wrap=True)

    def act(self, number: int, of: int, sentence: str) -> None:
        """Open an act."""
        self.console.print()
        self.console.print(f"[bold]{number} of {of}  {escape(sentence)}[/]")

    def say(self, sentence: str) -> None:
        """Tell something."""
        self._lines(sentence, indent=2, style="")

    def command(self, line: str) -> None:
        """Show what a user would type, and what is run."""
        # Not wrapped by us: it has to survive being copied.
        self.console.print(f"  [cyan]$ {escape(line)}[/]", soft_wrap=True)

    def output(self, text: str) -> None:
        """Show what a command printed."""
        self._lines(text, indent=4, style="dim")

    def _lines(self, text: str, *, indent: int, style: str) -> None:
        # Not rich's own wrapping, which fills lines up with blanks and breaks digests in two.
        wrapper = textwrap.TextWrapper(
            self.console.width - indent,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        )
        lines = [part for line in text.splitlines() for part in wrapper.wrap(line) or [""]]
        if lines:
            indented = textwrap.indent("\n".join(lines), " " * indent)
            self.console.print(Text(indented, style=style), soft_wrap=True)

    @contextmanager
    def watching(self, observer: Observer, traffic: Traffic) -> Iterator[None]:
        """Show the state until the end of the `with`."""
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            live = Live(
                get_renderable=lambda: _panel(observer.seen, traffic),
                console=self.console,
                auto_refresh=False,  # its thread would paint in the middle of our lines
                transient=True,
            )
            with live, _again_and_again(live.refresh):
                yield
        else:
            with _again_and_again(lambda: self._tell(observer.seen)):
                yield
            self._tell(observer.seen)

    def _tell(self, seen: Seen) -> None:
        for event in seen.events[self._events_told :]:
            self.say(f"event   {event.reason}: {event.note}")
        self._events_told = max(self._events_told, len(seen.events))
        tried = f", {seen.candidate} at {seen.weight}%" if seen.candidate else ""
        status = f"status  {seen.phase}: {seen.stable} stable{tried}"
        if seen.stable and status != self._status_told:
            self._status_told = status
            self.say(status)

    def table(self, rows: Iterable[tuple[str, str, bool]]) -> None:
        """The closing table: what was to be shown, what was seen, whether it held."""
        table = Table(title="What was shown", title_justify="left", title_style="bold", expand=True)
        table.add_column("")
        table.add_column("Claim", ratio=2)
        table.add_column("Seen", ratio=3)
        for claim, seen, held in rows:
            table.add_row("[green]✓[/]" if held else "[red]✗[/]", escape(claim), escape(seen))
        self.console.print()
        self.console.print(table)


@contextmanager
def _again_and_again(show: Callable[[], None]) -> Iterator[None]:
    async def run() -> None:
        while True:
            show()
            await asyncio.sleep(_EVERY_SECONDS)

    task = asyncio.ensure_future(run())
    try:
        yield
    finally:
        task.cancel()


def _panel(seen: Seen, traffic: Traffic) -> RenderableType:
    parts: list[RenderableType] = [
        Text(str(seen.status.get("message", "…")), overflow="ellipsis", no_wrap=True),
        _versions(seen),
        _money(seen, traffic),
    ]
    for event in seen.events[-_EVENTS_SHOWN:]:
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{event.time[11:19]} ", style="dim")
        line.append(f"{event.reason:<20} ", style="yellow" if event.warning else "green")
        line.append(event.note)
        parts.append(line)
    title = f"{NAME} in {NAMESPACE}: {seen.phase or 'not published yet'}"
    return Panel(Group(*parts), title=title, title_align="left", border_style="blue")


def _versions(seen: Seen) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("version", "is", "new conversations", *MODELS, "answers", "failed"):
        table.add_column(name, justify="left" if name in ("version", "is") else "right")
    named = {version for version, _ in seen.counts} | {seen.stable, seen.candidate}
    for version in sorted(named - {""}):
        whole = seen.version(version)
        rates = (seen.counts.get((version, model), Counts()).rate for model in MODELS)
        share = {seen.stable: 100 - seen.weight, seen.candidate: seen.weight}.get(version)
        table.add_row(
            version,
            _role(seen, version),
            "-" if share is None else f"{share}%",
            *(Text(rate, style=_style(rate)) for rate in rates),
            f"{whole.requests - whole.failed:,}",
            f"{whole.failed:,}",
        )
    return table


def _role(seen: Seen, version: str) -> str:
    if version == seen.stable:
        return "stable"
    if version == seen.candidate:
        return "candidate"
    return "rolled back" if seen.status.get("rolledBack", {}).get("version") == version else "past"


def _style(rate: str) -> str:
    if rate == "-":
        return "dim"
    return "green" if rate.startswith(("100%", "9")) else "red"


def _money(seen: Seen, traffic: Traffic) -> Text:
    whole = seen.cost + seen.savings
    share = f" ({seen.savings / whole:.0%} of ${whole:,.2f})" if whole > 0 else ""
    return Text(
        f"{traffic.conversations:,} conversations of three teams, {seen.read_tokens:,} tokens read"
        f" from the cache, ${seen.savings:,.2f} saved{share}",
        overflow="ellipsis",
        no_wrap=True,
    )
