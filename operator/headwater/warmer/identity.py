"""Access to the provider without a key: a token of the pod's service account.

The kubelet puts the token into a file and renews it; the provider's SDK exchanges it for one of
the provider's, which lives in memory alone.

Source: the anthropic package for Python, 2.11.0 (workload identity federation).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headwater.contract.errors import HeadwaterError

BETA: Final = "oauth-2025-04-20"
"""Value of `anthropic-beta` without which the provider takes no such token."""


class IdentityError(HeadwaterError):
    """There is no token of the service account, or nobody takes it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A workload as the provider knows it; the last two where its rule allows several."""

    token_file: Path
    federation_rule_id: str
    organization_id: str
    service_account_id: str | None = None
    workspace_id: str | None = None

    def check(self) -> None:
        """Look for the token.

        Raises:
            IdentityError: there is none.
        """
        try:
            if self.token_file.stat().st_size:
                return
            problem = "it is empty"
        except OSError as error:
            problem = str(error.strerror)
        raise IdentityError(
            f"the service account's token {self.token_file} cannot be read ({problem}): mount a"
            " projected token there."
        )

    def token(self, base_url: str) -> str:
        """A token of the provider's, fresh; it lives for longer than a run.

        Raises:
            IdentityError: the provider, or its rule, does not take the account's token.
        """
        # Only here: jobs with a key have no use for the SDK, and it is large.
        from anthropic import AnthropicError  # noqa: PLC0415
        from anthropic.lib.credentials import (  # noqa: PLC0415
            IdentityTokenFile,
            WorkloadIdentityCredentials,
        )

        try:
            with WorkloadIdentityCredentials(
                identity_token_provider=IdentityTokenFile(self.token_file),
                federation_rule_id=self.federation_rule_id,
                organization_id=self.organization_id,
                service_account_id=self.service_account_id,
                workspace_id=self.workspace_id,
            ) as exchange:
                exchange.bind_base_url(base_url)
                return exchange().token
        except (AnthropicError, OSError) as error:
            raise IdentityError(
                f"the provider did not take the service account's token ({error}): check the"
                " federation rule, the audience and the account."
            ) from error
