"""`headwater simulator`: an Anthropic-compatible server that models prompt caching."""

import asyncio
import signal
import time

import click

from headwater.simulator.server import Settings, serving


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8585, show_default=True, help="Port to listen on; 0 takes a free one."
)
@click.option(
    "--time-scale",
    type=click.FloatRange(min=0.001),
    default=1.0,
    show_default=True,
    help="How much faster the caches age: at 60, five minutes pass in five seconds.",
)
@click.option(
    "--latency-base-ms",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    help="Milliseconds until any answer begins; not scaled.",
)
@click.option(
    "--latency-ms-per-1k-uncached",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Milliseconds more for each 1,000 tokens that are not read from cache.",
)
@click.option(
    "--answer-tokens",
    type=click.IntRange(min=1),
    default=12,
    show_default=True,
    help="Tokens of each answer.",
)
def command(
    host: str,
    port: int,
    time_scale: float,
    latency_base_ms: float,
    latency_ms_per_1k_uncached: float,
    answer_tokens: int,
) -> None:
    """Run an Anthropic-compatible server that models prompt caching faithfully.

    Point a client at it with ANTHROPIC_BASE_URL; any API key will do.
    """
    settings = Settings(
        time_scale=time_scale,
        latency_base_ms=latency_base_ms,
        latency_ms_per_1k=latency_ms_per_1k_uncached,
        answer_tokens=answer_tokens,
    )
    try:
        asyncio.run(_run(settings, host, port))
    except OSError as error:
        msg = f"cannot listen on {host}:{port} ({error.strerror}): choose another --port."
        raise click.ClickException(msg) from error


async def _run(settings: Settings, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    async with serving(settings, clock=time.monotonic, host=host, port=port) as url:
        click.echo(f"listening on {url}")
        await stop.wait()
