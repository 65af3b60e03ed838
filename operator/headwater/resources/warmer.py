"""CacheWarmer: keeps a prefix's lanes warm, where idle times would let them go cold."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import AwareDatetime, Field

from headwater.resources.schema import (
    SET,
    Column,
    Conditions,
    Count,
    Digest,
    Label,
    Message,
    Model,
    ModelId,
    Names,
    ObjectName,
    Resource,
    list_map,
    rule,
    rules,
)


def _cron_field(value: str) -> str:
    item = rf"(\\*|{value}(-{value})?)(/[0-9]+)?"
    return f"{item}(,{item})*"


_CRON: Final = " +".join(
    _cron_field(value)
    for value in (
        "[0-5]?[0-9]",
        "([01]?[0-9]|2[0-3])",
        "(0?[1-9]|[12][0-9]|3[01])",
        "(0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)",
        "([0-6]|sun|mon|tue|wed|thu|fri|sat)",
    )
)


class PrefixReference(Model):
    """A PromptPrefix of the same namespace."""

    name: ObjectName
    """Its name."""


class SecretKey(Model):
    """One key of a Secret in the warmer's namespace."""

    name: ObjectName
    """The Secret's name."""
    key: ObjectName
    """The key that holds the API key."""


class Credential(Model):
    """An API key whose caches are kept warm: caches never cross credentials' workspaces."""

    name: Label
    """What the status and the jobs call it."""
    secret_ref: SecretKey
    """Where the API key lies. Only the job's pod reads it, the operator never does."""


class CacheWarmerSpec(Model):
    """What is kept warm, and when."""

    prefix_ref: PrefixReference
    """The prefix to keep warm."""
    credentials: Annotated[
        tuple[Credential, ...],
        Field(min_length=1, max_length=16, json_schema_extra=list_map("name")),
    ]
    """The API keys; one lane for each of them and each model."""
    models: Annotated[tuple[ModelId, ...], Field(max_length=16, json_schema_extra=SET)] = ()
    """The models to keep warm; where empty, those of the prefix."""
    schedule: Annotated[
        str,
        Field(
            max_length=128,
            json_schema_extra=rules(
                rule(
                    f"self == 'Auto' || self.matches('^(?i){_CRON}$')",
                    "is neither Auto nor five cron fields (minute, hour, day of the month, month,"
                    " day of the week), like '*/4 * * * *'",
                )
            ),
        ),
    ] = "Auto"
    """`Auto` warms often enough for the prefix's TTL; or five cron fields, in UTC."""
    warm: Literal["Stable", "StableAndCandidate"] = "StableAndCandidate"
    """Whether a candidate is kept warm, too."""
    suspend: bool = False
    """Stop warming."""


class LastUsage(Model):
    """Tokens of the last warming request, by how they were billed; the kinds are disjoint."""

    cache_read: Count = 0
    """Read from the cache."""
    cache_write5m: Annotated[Count, Field(alias="cacheWrite5m")] = 0
    """Written for five minutes."""
    cache_write1h: Annotated[Count, Field(alias="cacheWrite1h")] = 0
    """Written for an hour."""
    uncached: Count = 0
    """Neither read nor written."""


class Lane(Model):
    """One provider cache: a credential, a model, a digest."""

    credential: Annotated[str, Field(max_length=128)]
    """The credential's name."""
    model: ModelId
    """The model."""
    digest: Digest
    """The contract."""
    state: Literal["Warm", "Cold", "Failed"]
    """`Warm`: the last request read or wrote the contract, and its TTL has not passed. `Failed`:
    it could not be sent, or the provider does not cache the contract."""
    last_warm_at: AwareDatetime | None = None
    """When it was last warmed."""
    message: Message | None = None
    """What went wrong, and what to do."""
    fingerprint: Annotated[str, Field(max_length=12)] | None = None
    """A name for the API key that tells nothing about it: what sidecars know the lane by."""
    last_usage: LastUsage | None = None
    """What the last warming request was billed for."""


class CacheWarmerStatus(Model):
    """What Headwater found and did."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this status is about."""
    schedule: Annotated[str, Field(max_length=128)] | None = None
    """The cron fields in force, in UTC."""
    lanes: Annotated[
        tuple[Lane, ...],
        Field(max_length=512, json_schema_extra=list_map("credential", "model", "digest")),
    ] = ()
    """The lanes that are kept warm."""
    conditions: Conditions = ()
    """Ready, Reconciling and Stalled, as kstatus reads them."""


class CacheWarmer(
    Resource,
    json_schema_extra=rules(
        rule(
            "size(self.metadata.name) <= 63",
            "the name becomes a label: it takes at most 63 characters",
        ),
    ),
):
    """Keeps the lanes of a prefix warm: at most one cheap request per lane and TTL."""

    names: ClassVar[Names] = Names(
        kind="CacheWarmer",
        plural="cachewarmers",
        short="cw",
        columns=(
            Column("Prefix", ".spec.prefixRef.name"),
            Column("Schedule", ".status.schedule"),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
            Column("Age", ".metadata.creationTimestamp", type="date"),
        ),
    )

    spec: CacheWarmerSpec
    """What is kept warm, and when."""
    status: Annotated[CacheWarmerStatus, Field(default_factory=CacheWarmerStatus)]
    """What Headwater found and did."""
