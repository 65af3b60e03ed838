"""The one way to the Kubernetes API: a small protocol, and its implementation.

Nobody else imports the client library, so exchanging it is a change to one file. Objects are
plain dicts in the API's own JSON. Nothing here knows what a prefix is.
"""

from headwater.cluster import _on_demand
from headwater.cluster.api import (
    ApiError,
    Cluster,
    ConflictError,
    NotFoundError,
    Object,
    RefusedError,
    UnavailableError,
)
from headwater.cluster.kinds import (
    CACHE_WARMER,
    CONFIG_MAP,
    CRON_JOB,
    EVENT,
    JOB,
    NAMESPACE,
    POD,
    PROMPT_PREFIX,
    Kind,
)

_on_demand.install()  # before any module of this package, or kopf, imports the library

__all__ = [
    "CACHE_WARMER",
    "CONFIG_MAP",
    "CRON_JOB",
    "EVENT",
    "JOB",
    "NAMESPACE",
    "POD",
    "PROMPT_PREFIX",
    "ApiError",
    "Cluster",
    "ConflictError",
    "Kind",
    "NotFoundError",
    "Object",
    "RefusedError",
    "UnavailableError",
]
