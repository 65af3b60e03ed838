"""The one console script: roles that a container runs, and commands that a person types.

A command's module is imported when that command runs and not before, because a role must
not pay for the libraries of another: the sidecar stands in every consumer pod, and kopf,
kubernetes and pydantic together would double its memory.
"""

import importlib
import sys
from typing import Final

try:
    import click
except ImportError:  # the bare install is the assembly library, which needs no command line
    sys.exit("headwater: the command line is an extra: pip install 'headwater[cli]'")

_PEOPLE: Final = {
    "abort": "Go back to the stable version of a prefix.",
    "advise": "Say how to cache: who shares, 5m or 1h, warm or not, pad or not, and why.",
    "approve": "Approve the declared version of a prefix by its digest.",
    "cost": "Show what a prefix costs a day without a cache, with one, and with a warmer.",
    "audit": "Say which recorded requests should have shared a prefix and did not, and why.",
    "bisect": "Find the commit after which the prefix that a program sends is another.",
    "capture": "Print the PromptPrefix that recorded requests come to.",
    "consumers": "Show the pods that use a prefix, and what is off the contract.",
    "diff": "Show how two contracts differ, and what that costs in the cache.",
    "digest": "Print the digest of a PromptPrefix manifest, or write it into the file.",
    "explain": "Show what of a request is cached, at which price, and what would lose it.",
    "get": "Show prefixes: what is stable, what is canaried, what that waits for.",
    "history": "Show what happened to a prefix, the newest first.",
    "lint": "Look for what would make a contract miss the cache, before it is published.",
    "pause": "Make a prefix stand still.",
    "record": "Run a program, and write down what it asks the provider.",
    "resume": "Let a prefix that stands still go on.",
    "retry": "Try a version again that went back.",
    "simulate-rollout": "Show what a rollout's plan would do with some traffic.",
    "why": "Say why a prefix stands where it does, and what would move it.",
}
_ROLES: Final = {
    "cleanup": "Take the operator's finalizer off every prefix, after it was removed.",
    "controller": "Run the operator: publish contracts, roll them out, schedule warmers.",
    "sidecar": "Run the localhost proxy that sends the contract's bytes or nothing.",
    "simulator": "Run an Anthropic-compatible server that models prompt caching faithfully.",
    "webhook": "Run the webhooks: check prefixes, and put the sidecar into pods.",
    "warm": "Warm the cache lanes of a contract once (what a CacheWarmer's Job runs).",
}
_STEERING: Final = ("approve", "pause", "resume", "retry")
"""Commands that are one module together."""


class _Commands(click.Group):
    """A group whose commands live in `headwater.cli.<name>` as `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_PEOPLE | _ROLES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _PEOPLE | _ROLES:
            return None
        steers = cmd_name in _STEERING
        name = "steer" if steers else cmd_name.replace("-", "_")
        try:
            module = importlib.import_module(f"headwater.cli.{name}")
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("headwater"):
                raise
            msg = (
                f"headwater {cmd_name} needs the Python package {error.name}, which is not"
                f" installed: pip install 'headwater[operator]' (or the extra of this role)."
            )
            raise click.ClickException(msg) from error
        command: click.Command = getattr(module, cmd_name if steers else "command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The one-line helps stand here, so that `headwater --help` imports no role.
        del ctx
        for heading, commands in (("What people type", _PEOPLE), ("What containers run", _ROLES)):
            with formatter.section(heading):
                formatter.write_dl(sorted(commands.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headwater")
def main() -> None:
    """Headwater makes a shared prompt prefix a contract."""
