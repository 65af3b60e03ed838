"""Workload identity: a service account's token for one of the provider's own.

Source: the anthropic package for Python, 2.11.0 (lib/credentials).
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from headwater.simulator.errors import ApiError, invalid

BEARER_BETA: Final = "oauth-2025-04-20"
"""Goes with every request that such a token authenticates."""
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_PREFIX: Final = "simulator-token-"
_LIFETIME_SECONDS: Final = 3600
_JWT_DOTS: Final = 2


def exchanged(body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a jwt-bearer grant; whom the same rule lets in gets the same token."""
    if body.get("grant_type") != _GRANT:
        raise invalid(f"grant_type: Input should be '{_GRANT}'")
    who = [body.get(name) for name in ("federation_rule_id", "organization_id")]
    if not all(isinstance(each, str) and each for each in who):
        raise invalid("federation_rule_id and organization_id: Field required")
    if str(body.get("assertion", "")).count(".") != _JWT_DOTS:
        raise ApiError(401, "assertion: it is no JSON Web Token")
    who += [body.get(name) for name in ("service_account_id", "workspace_id")]
    name = hashlib.sha256(msgspec.json.encode(who)).hexdigest()[:32]
    return {
        "access_token": f"{_PREFIX}{name}",
        "token_type": "Bearer",
        "expires_in": _LIFETIME_SECONDS,
    }


def check_bearer(token: str, betas: str) -> None:
    """Refuse a token of ours without the beta that it needs."""
    if token.startswith(_PREFIX) and BEARER_BETA not in betas:
        raise ApiError(401, "OAuth authentication is currently not supported.")
