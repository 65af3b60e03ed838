"""`headwater simulator`: run the Anthropic-compatible server until it is told to stop."""

import asyncio
import signal

import click

from headwater.simulator.server import Settings, serving


async def _serve(settings: Settings, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings, host=host, port=port) as url:
        click.echo(f"listening on {url}")
        await stop.wait()


@click.command
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8585,
    type=click.IntRange(0, 65535),
    help="Port; 0 takes a free one.",
    show_default=True,
)
@click.option(
    "--time-scale",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="How many times faster the cache's clock runs: with 60, five minutes pass in five"
    " seconds; with 0, it is moved by /_simulator/advance alone. Latencies stay real.",
)
@click.option(
    "--latency-base-ms",
    default=20.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Real milliseconds before any answer begins.",
)
@click.option(
    "--latency-ms-per-1k-uncached",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Real milliseconds more for every 1,000 prompt tokens not read from the cache.",
)
@click.option(
    "--answer-tokens",
    default=12,
    show_default=True,
    type=click.IntRange(min=1),
    help="Length of an answer, where max_tokens allows it.",
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

    Prints its address as the first line. Any key is accepted, and each is a workspace of
    its own. Point ANTHROPIC_BASE_URL at it.
    """
    settings = Settings(
        time_scale=time_scale,
        latency_base_ms=latency_base_ms,
        latency_ms_per_1k=latency_ms_per_1k_uncached,
        answer_tokens=answer_tokens,
    )
    try:
        asyncio.run(_serve(settings, host, port))
    except OSError as error:
        raise click.ClickException(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port,"
            " or 0 for a free one."
        ) from error
