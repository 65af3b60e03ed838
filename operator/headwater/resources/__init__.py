"""The custom resources: pydantic models, and the CRDs that are generated from them.

The models are the one source: `crds/` and the API reference are written by
`headwater.resources.generate`, and whoever reads a resource from the cluster reads it through
them. A field stands here only once something honours it. Nothing in here talks to a cluster.
"""

from headwater.resources.prefix import PromptPrefix
from headwater.resources.resolve import BadReferenceError, MissingReferenceError, resolve
from headwater.resources.warmer import CacheWarmer

__all__ = ["BadReferenceError", "CacheWarmer", "MissingReferenceError", "PromptPrefix", "resolve"]
