"""The labels that Headwater's own objects share, and by which its objects and pods are watched."""

from typing import Final

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
ROLE_LABEL: Final = "headwater.dev/role"
"""What an object is to Headwater: one selector for all that the operator watches."""
SYSTEM_NAMESPACES: Final = frozenset({"kube-system", "kube-public", "kube-node-lease"})
"""The cluster's own: no pod there gets a sidecar, and no bundle is put there."""
