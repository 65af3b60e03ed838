"""How `headwater controller` is pointed at a Prometheus: what is refused before it starts."""

import pytest
from click.testing import CliRunner

from headwater.cli.controller import command


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--prometheus-url", "prometheus:9090"], "is no address of a Prometheus"),
        (["--prometheus-token-file", "token"], "give --prometheus-url, too"),
        (["--prometheus-ca-file", "ca.crt"], "give --prometheus-url, too"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], why: str) -> None:
    """A usage error that says what to do."""
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert why in " ".join(result.output.replace("│", " ").split())
