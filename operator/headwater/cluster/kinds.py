"""The kinds of object that Headwater reads or writes, and where the API serves them."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind and its place in the API; `group` is empty for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`group/version`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of one object, or of the collection (in one namespace or in all)."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if namespace and self.namespaced:
            root += f"/namespaces/{namespace}"
        return f"{root}/{self.plural}" + (f"/{name}" if name else "")


PROMPT_PREFIX: Final = Kind("headwater.dev", "v1alpha1", "promptprefixes", "PromptPrefix")
CACHE_WARMER: Final = Kind("headwater.dev", "v1alpha1", "cachewarmers", "CacheWarmer")
CONFIG_MAP: Final = Kind("", "v1", "configmaps", "ConfigMap")
NAMESPACE: Final = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
POD: Final = Kind("", "v1", "pods", "Pod")
CRON_JOB: Final = Kind("batch", "v1", "cronjobs", "CronJob")
JOB: Final = Kind("batch", "v1", "jobs", "Job")
EVENT: Final = Kind("events.k8s.io", "v1", "events", "Event")
LEASE: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease")
SECRET: Final = Kind("", "v1", "secrets", "Secret")
MUTATING_CONFIGURATION: Final = Kind(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
)
VALIDATING_CONFIGURATION: Final = Kind(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
