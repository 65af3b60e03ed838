"""CacheWarmer: keeps a prefix's lanes warm, where idle times would let them go cold."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from pydantic import AwareDatetime, Field

from headwater.resources.schema import (
    SET,
    Column,
    Conditions,
    Count,
    Digest,
    Duration,
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


class WorkloadIdentity(Model):
    """Who the job's pod is to the provider: a token of its service account, and no key."""

    federation_rule_id: Annotated[str, Field(min_length=1, max_length=128)]
    """The provider's rule that accepts the token."""
    organization_id: Annotated[str, Field(min_length=1, max_length=128)]
    """The provider's organization."""
    service_account_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """The provider's service account, where the rule allows several."""
    workspace_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """The provider's workspace, where the rule allows several."""
    audience: Annotated[str, Field(min_length=1, max_length=253)] = "https://api.anthropic.com"
    """Whom the token is for: what the rule demands."""


class Credential(
    Model,
    json_schema_extra=rules(
        rule(
            "has(self.secretRef) != has(self.workloadIdentity)",
            "takes one of secretRef and workloadIdentity",
        )
    ),
):
    """An access whose caches are kept warm: caches never cross workspaces."""

    name: Label
    """What the status and the jobs call it."""
    secret_ref: SecretKey | None = None
    """Where the API key lies. Only the job's pod reads it, the operator never does."""
    workload_identity: WorkloadIdentity | None = None
    """Access without a key, by a token that the kubelet renews."""


class RequestSettings(Model):
    """What else keys the provider's cache: the same as the real requests send, or it is missed."""

    thinking: Literal["adaptive", "disabled"] | None = None
    """`thinking.type`. A warming request has no room for `enabled`, which needs a budget."""
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    """`output_config.effort`."""
    speed: Literal["standard", "fast"] | None = None
    """`speed`."""
    betas: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=128)], ...],
        Field(max_length=16, json_schema_extra=SET),
    ] = ()
    """The `anthropic-beta` headers."""


class Verify(Model):
    """A second request after each write, which has to read what was written."""

    delay: Annotated[Duration, Field(validate_default=True)] = "5s"  # type: ignore[assignment]  # as users write it
    """Before each attempt: what was written a moment ago is known to be missed at times."""
    attempts: Annotated[int, Field(ge=0, le=5)] = 2
    """How often it is tried until it reads; 0 to leave it out."""


def _dollars() -> Any:
    message = "is no amount above 0 in US dollars, written like '1.50'"
    pattern = "^[0-9]{1,6}(\\\\.[0-9]{1,6})?$"
    extra = rules(rule(f"self.matches('{pattern}') && double(self) > 0.0", message))
    return Field(max_length=16, json_schema_extra=extra)


class Budget(Model):
    """What warming may cost."""

    max_usd_per_day: Annotated[str, _dollars()]
    """US dollars a day (UTC). No request is sent that could exceed it."""


Day = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
DAYS: Final[tuple[Day, ...]] = get_args(Day)
"""As `weekday()` counts them."""


def _hour(first: int, last: int) -> Any:
    hours = "|".join(f"{hour:02}" for hour in range(first, last + 1))
    message = f"is no full hour from {first:02}:00 to {last:02}:00"
    extra = rules(rule(f"self.matches('^({hours}):00$')", message))
    return Field(max_length=5, json_schema_extra=extra)


class ActiveHours(
    Model,
    json_schema_extra=rules(
        rule("self.from != self.to", "from and to are the same: leave activeHours out"),
        rule(
            "self.from < self.to || !has(self.days) || size(self.days) == 0",
            "a night that begins on one day and ends on the next has no days: leave days out, or"
            " let it end at 24:00",
        ),
    ),
):
    """When lanes are worth being warm; outside of it they go cold."""

    time_zone: Annotated[str, Field(min_length=1, max_length=64)] = "Etc/UTC"
    """A name of the IANA database, like Europe/Berlin; its summer time is followed."""
    from_: Annotated[str, _hour(0, 23), Field(alias="from")]
    """The full hour at which the first run is, like 07:00."""
    to: Annotated[str, _hour(1, 24)]
    """The full hour before which the last run is, like 20:00; before `from`, that of the next
    day."""
    days: Annotated[tuple[Day, ...], Field(max_length=7, json_schema_extra=SET)] = ()
    """The days of the week; where empty, all."""

    @property
    def first(self) -> int:
        """The first hour."""
        return int(self.from_[:2])

    @property
    def end(self) -> int:
        """The first hour that is none of them."""
        return int(self.to[:2])

    @property
    def pauses(self) -> Decimal:
        """How often it begins after a day that is left out, for each day that is not."""
        named = [each in self.days for each in DAYS]
        begins = sum(
            today and not before for today, before in zip(named, named[-1:] + named, strict=False)
        )
        return Decimal(begins) / max(1, len(self.days))

    def holds(self, moment: dt.datetime) -> bool:
        """Whether a moment, in this time zone, is one of them."""
        if self.days and DAYS[moment.weekday()] not in self.days:
            return False
        hours = range(self.first, self.end + (24 if self.end <= self.first else 0))
        return moment.hour in hours or moment.hour + 24 in hours


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
    """`Auto` warms as rarely as the prefix's TTL and the jobs' start-up allow. Or five cron fields
    that keep a lane of that TTL warm."""
    active_hours: ActiveHours | None = None
    """The hours and days on which it warms; where absent, always."""
    warm: Literal["Stable", "StableAndCandidate"] = "StableAndCandidate"
    """Whether a candidate is kept warm, too."""
    skip_when_traffic: bool = True
    """Leave out a lane that real requests keep warm until the run after."""
    budget: Budget | None = None
    """Where absent, warming costs what it costs."""
    when_uneconomical: Literal["Warn", "Suspend"] = "Warn"
    """What to do at a traffic at which a warmer costs more than it saves."""
    request: Annotated[RequestSettings, Field(default_factory=RequestSettings)]
    """How the real requests are sent."""
    verify: Annotated[Verify, Field(default_factory=Verify)]
    """Whether what was written can be read."""
    service_account_name: ObjectName | None = None
    """The account of the jobs' pods. It needs no rights, and none of its tokens for the API server
    is mounted; a workload identity is bound to it."""
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
    state: Literal["Warm", "Cold", "Failed", "Skipped"]
    """`Warm`: the last request read or wrote the contract, and its TTL has not passed. `Cold`: it
    passed, or the provider does not cache the contract. `Failed`: no request succeeded. `Skipped`:
    left out, as the message says why."""
    last_warm_at: AwareDatetime | None = None
    """When it was last warmed."""
    message: Message | None = None
    """What went wrong, and what to do."""
    fingerprint: Annotated[str, Field(max_length=12)] | None = None
    """A name for the API key that tells nothing about it: what sidecars know the lane by."""
    last_usage: LastUsage | None = None
    """What the last warming request was billed for."""
    retry_at: AwareDatetime | None = None
    """Before this the provider wants no request."""


class Spent(Model):
    """What warming cost on one day."""

    day: dt.date
    """The day, in UTC."""
    usd: Annotated[str, Field(max_length=32)]
    """US dollars, from the provider's usage figures and the published prices."""


class CacheWarmerStatus(Model):
    """What Headwater found and did."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this status is about."""
    schedule: Annotated[str, Field(max_length=128)] | None = None
    """The cron fields in force, with their time zone where that is not UTC."""
    next_warm_at: AwareDatetime | None = None
    """When the next run is due; absent where none is, as its lanes are left out or it stands
    still."""
    start_up: Duration | None = None
    """How long the slowest of the latest jobs took from its schedule's minute to its request."""
    lanes: Annotated[
        tuple[Lane, ...],
        Field(max_length=512, json_schema_extra=list_map("credential", "model", "digest")),
    ] = ()
    """The lanes that are kept warm."""
    spent: Spent | None = None
    """What the last day with a run has cost until now."""
    reported_at: AwareDatetime | None = None
    """When the last run began of which this tells."""
    conditions: Conditions = ()
    """Ready, Reconciling and Stalled as kstatus reads them; Cacheable, Economical, WithinBudget."""


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
            Column("Next", ".status.nextWarmAt"),
            Column("Spent", ".status.spent.usd"),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
            Column("Age", ".metadata.creationTimestamp", type="date"),
        ),
    )

    spec: CacheWarmerSpec
    """What is kept warm, and when."""
    status: Annotated[CacheWarmerStatus, Field(default_factory=CacheWarmerStatus)]
    """What Headwater found and did."""
