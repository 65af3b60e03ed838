"""A program of the user's, with a local port between it and the provider."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from headwater.client.recording import Recorder
from headwater.sidecar.relay.origin import Origin
from headwater.sidecar.relay.server import Relay

BASE_URL: Final = "ANTHROPIC_BASE_URL"
_GRACE_SECONDS: Final = 5.0
BY_SIGNAL: Final = 128
"""A shell's exit code of what a signal ended is this and the signal's number."""


@contextlib.asynccontextmanager
async def recording(recorder: Recorder, upstream: str) -> AsyncIterator[str]:
    """A local port that passes all to `upstream`, a base URL, while the block runs; its own URL.

    Raises:
        OriginError: the upstream cannot be used.
    """
    relay = Relay(recorder, Origin(upstream))
    port = await relay.listen("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await relay.close(_GRACE_SECONDS)


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended: its exit code as a shell gives it, and what it printed, if asked."""

    code: int
    printed: bytes


async def run(
    command: Sequence[str],
    url: str,
    *,
    directory: Path | None = None,
    variables: Mapping[str, str] | None = None,
    captured: bool = False,
) -> Done:
    """Run a program that finds the provider at `url`; SIGTERM and SIGINT end it first, then us.

    Raises:
        click.ClickException: it cannot be started.
    """
    # A proxy would not find this port.
    direct = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1")))
    environment = {**os.environ, "NO_PROXY": direct, "no_proxy": direct, BASE_URL: url}
    process: asyncio.subprocess.Process | None = None

    def end() -> None:
        if process is not None:
            process.terminate()

    loop = asyncio.get_running_loop()
    # A terminal sends its interrupt to the program as well, and what it does then is its own.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, end)
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=directory,
            env=environment | dict(variables or {}),
            stdout=asyncio.subprocess.PIPE if captured else None,
        )
        printed, _ = await process.communicate()
    except OSError as error:
        raise click.ClickException(f"{command[0]}: {error.strerror or error}.") from error
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)
    code = process.returncode or 0
    return Done(code if code >= 0 else BY_SIGNAL - code, printed or b"")
