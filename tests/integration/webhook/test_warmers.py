"""Warmers that may be declared, and those that could never keep a lane warm."""

from collections.abc import Iterator
from typing import Any

import pytest

from headwater.cluster import CACHE_WARMER, PROMPT_PREFIX
from headwater.contract.content import content, digest_of
from tests.cluster.waiting import wait_until
from tests.integration.controller.harness import ApiError
from tests.integration.controller.team import Team, manifest, new_team
from tests.integration.webhook.harness import PATIENCE, Replica, Site

pytestmark = pytest.mark.xdist_group("webhook")


def declare(site: Site, team: Team, **spec: Any) -> None:
    """Apply it, but for the last step."""
    credential = {"name": "prod", "secretRef": {"name": "anthropic", "key": "api-key"}}
    site.api.request(
        "POST",
        CACHE_WARMER.path(team.namespace),
        {
            "apiVersion": CACHE_WARMER.api_version,
            "kind": CACHE_WARMER.kind,
            "metadata": {"name": "warm", "namespace": team.namespace},
            "spec": {"prefixRef": {"name": "house"}, "credentials": [credential], **spec},
        },
        dryRun="All",
    )


@pytest.fixture
def team(site: Site, replica: Replica) -> Iterator[Team]:
    """A team with a prefix whose TTL is five minutes."""
    with new_team(site.api) as team:

        def asked() -> bool:
            try:
                declare(site, team, schedule="0 0 30 2 *")
            except ApiError:
                return True
            return False

        wait_until(asked, PATIENCE, "the webhook is asked")
        site.api.apply(PROMPT_PREFIX, manifest(team.namespace))
        yield team


def test_a_schedule_that_leaves_lanes_cold_is_refused(site: Site, team: Team) -> None:
    """With its longest gap and the TTL, also where it is only uneven, and the way out."""
    for schedule, gap in (("*/50 * * * *", "50m"), ("*/4 7-19 * * 1-5", "2d 11h 4m")):
        with pytest.raises(ApiError) as refused:
            declare(site, team, schedule=schedule)
        for word in (f"up to {gap} between two runs", "a cache of 5m is cold", "Use Auto"):
            assert word in refused.value.message
    declare(site, team, schedule="1-59/4 * * * *")
    declare(site, team)


def test_what_fits_the_hour_does_not_fit_five_minutes(site: Site, team: Team) -> None:
    """It is the prefix's TTL that counts."""
    with pytest.raises(ApiError, match="a cache of 5m"):
        declare(site, team, schedule="*/30 * * * *")
    body = manifest(team.namespace, ttl="1h")
    body["spec"]["digest"] = digest_of(content(tools=(), **body["spec"]["content"], ttl="1h"))
    site.api.apply(PROMPT_PREFIX, body)
    declare(site, team, schedule="*/30 * * * *")


def test_a_time_zone_that_does_not_exist_is_refused(site: Site, team: Team) -> None:
    """With the place where names are from; one that exists is taken."""
    hours = {"from": "07:00", "to": "20:00"}
    with pytest.raises(ApiError, match="there is no time zone 'Europe/Atlantis'"):
        declare(site, team, activeHours={**hours, "timeZone": "Europe/Atlantis"})
    declare(site, team, activeHours={**hours, "timeZone": "Europe/Berlin"})


def test_a_date_that_never_comes_is_refused(site: Site, team: Team) -> None:
    """The schema takes it for five cron fields."""
    with pytest.raises(ApiError, match="never comes"):
        declare(site, team, schedule="0 0 30 2 *")


def test_a_prefix_that_is_not_there_yet_is_no_refusal(site: Site, team: Team) -> None:
    """It may be applied a moment later."""
    declare(site, team, prefixRef={"name": "later"}, schedule="*/50 * * * *")
