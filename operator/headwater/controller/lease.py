"""One leader: of all controllers on a cluster, only the holder of a Lease works.

The algorithm is client-go's (`k8s.io/client-go/tools/leaderelection`), with times that let a
successor write within 20 s of a leader's sudden end. No two machines' clocks
are compared: a lease has expired once it has stood unchanged for its duration by one's own
monotonic clock. A leader counts from before it asked for its last renewal, and the others from
after they saw it, so that it has stopped before another one begins.
"""

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from headwater.cluster import (
    ApiError,
    Cluster,
    ConflictError,
    NotFoundError,
    Object,
    RefusedError,
)
from headwater.cluster.kinds import LEASE
from headwater.contract.errors import HeadwaterError

_log = logging.getLogger(__name__)

LEASE_NAME: Final = "headwater-controller"
_POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class LeadershipLostError(HeadwaterError):
    """Another controller may be working by now, so this one must not write any more."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds.

    A leader that has not renewed for `renew_deadline` stops. Another one takes over when
    `duration` is over; the time between the two is for stopping.
    """

    duration: int = 10
    renew_deadline: float = 7
    retry_period: float = 1.5


@dataclass(frozen=True, slots=True)
class Seen:
    """The `spec` of a Lease, and when it was first seen so, in monotonic seconds."""

    spec: Mapping[str, Any]
    at: float


def is_free(seen: Seen | None, identity: str, now: float) -> bool:
    """Whether this process may take the lease `now`, in the same seconds.

    It may where there never was one, where the holder gave it back or let it expire, and where
    it is its own: the answer to an earlier request was lost.
    """
    if seen is None or seen.spec.get("holderIdentity") in (None, "", identity):
        return True
    return now >= seen.at + (seen.spec.get("leaseDurationSeconds") or 0)


def home() -> str:
    """The namespace of this pod; `default` outside of one."""
    try:
        return _POD_NAMESPACE.read_text().strip()
    except OSError:
        return "default"


class Elector:
    """Takes the lease for one process, keeps it, and gives it back."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        identity: str,
        clock: Callable[[], datetime],
        *,
        timing: Timing = Timing(),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Ask for nothing yet.

        Args:
            cluster: a connection of its own, because a renewal must not queue behind other work.
            namespace: where the Lease is.
            identity: no other process has the same, not even an earlier one of this pod.
            clock: for the times in the Lease, which only people read.
            timing: see there.
            jitter: 0 to 1; keeps those who wait from asking all at once.
        """
        self._cluster = cluster
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._timing = timing
        self._jitter = jitter
        self._seen: Seen | None = None
        self._lease: Object | None = None
        self._renewed_at = -math.inf

    def assert_leads(self) -> None:
        """To be called before each write: a process may have been frozen since it decided on it.

        Raises:
            LeadershipLostError: the lease was not renewed for so long that another controller
                may be working, or soon will.
        """
        if _now() >= self._renewed_at + self._timing.renew_deadline:
            raise LeadershipLostError("nothing is written any more: another controller may lead.")

    async def lead(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait until this process is the leader, and do `work`, to its end or until cancelled.

        The lease is given back once `work` has stopped.

        Raises:
            LeadershipLostError: the lease could not be renewed in time.
            RefusedError: this process may not read or write the Lease.
            NotFoundError: the namespace does not exist.
        """
        while not await self._take():  # noqa: ASYNC110 - the event is at the API server
            await asyncio.sleep(self._pause())
        _log.info("leads as %s", self._identity)
        tasks = [asyncio.create_task(work()), asyncio.create_task(self._keep())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._renewed_at = -math.inf
            await self._give_back()

    def _pause(self) -> float:
        """Until the next attempt: when the lease expires, at the latest."""
        pause = self._timing.retry_period * (1 + self._jitter())
        if self._seen is None:
            return pause
        left = self._seen.at + (self._seen.spec.get("leaseDurationSeconds") or 0) - _now()
        return min(pause, left) if left > 0 else pause

    async def _take(self) -> bool:
        """Take the lease if it is free; whether that was done."""
        asked_at = _now()
        try:
            async with asyncio.timeout(self._timing.renew_deadline):
                lease = await self._read()
                self._see(lease)
                if not is_free(self._seen, self._identity, _now()):
                    return False
                self._lease = await self._write(lease, self._identity)
        except ConflictError:
            return False  # another one was quicker
        except (RefusedError, NotFoundError) as error:
            raise type(error)(
                error.status,
                f"the Lease {self._namespace}/{LEASE_NAME} cannot be had, and without it two"
                f" controllers could work at a time ({error}): create the namespace, allow get,"
                " create and update of leases there, or name another namespace.",
            ) from error
        except (ApiError, TimeoutError) as error:
            _log.warning("the lease could not be asked for: %s", str(error) or "no answer in time")
            return False
        self._renewed_at = asked_at
        return True

    async def _keep(self) -> None:
        """Renew until that has failed for too long."""
        period, patience = self._timing.retry_period, self._timing.renew_deadline
        while (left := self._renewed_at + patience - _now()) > 0:
            await asyncio.sleep(min(period, left))
            asked_at = _now()
            deadline = min(self._renewed_at + patience, asked_at + patience / 3)
            try:
                async with asyncio.timeout_at(deadline):
                    await self._put(self._identity)
            except (ApiError, TimeoutError) as error:
                _log.warning("the lease was not renewed: %s", str(error) or "no answer in time")
            else:
                self._renewed_at = asked_at
        raise LeadershipLostError(
            f"the lease could not be renewed for {patience:g} s, so another controller may lead:"
            " this one ends, and can be started again."
        )

    async def _put(self, holder: str) -> None:
        """Put `holder` into the lease, which is ours."""
        try:
            self._lease = await self._write(self._lease, holder)
        except (ConflictError, NotFoundError):
            # Somebody took, edited or deleted it, or it was written and only the answer was lost.
            found = await self._read()
            holds = _spec(found).get("holderIdentity") or "nobody"
            if found is not None and holds != self._identity:
                raise LeadershipLostError(
                    f"{holds} holds the lease now, so this controller ends."
                ) from None
            self._lease = await self._write(found, holder)

    async def _give_back(self) -> None:
        """Let a successor begin at once. If it fails the lease expires, as after a crash."""
        with contextlib.suppress(ApiError, LeadershipLostError, TimeoutError):
            async with asyncio.timeout(self._timing.renew_deadline / 2):
                await self._put("")

    async def _read(self) -> Object | None:
        """The Lease; None where there is none."""
        try:
            return await self._cluster.get(LEASE, self._namespace, LEASE_NAME)
        except NotFoundError:
            return None

    def _see(self, lease: Object | None) -> None:
        """Remember since when the lease is as it is; one that was deleted still has to expire."""
        spec, before = _spec(lease), self._seen.spec if self._seen else {}
        if lease is None or spec == before:
            return
        holder = spec.get("holderIdentity")
        if holder and holder != before.get("holderIdentity"):
            _log.info("waits, because %s leads", holder)
        self._seen = Seen(spec, _now())

    async def _write(self, lease: Object | None, holder: str) -> Object:
        """Put `holder` into the Lease; `ConflictError` where it is newer than `lease`."""
        now = self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = _spec(lease)
        spec = {
            **before,
            "holderIdentity": holder,
            "leaseDurationSeconds": self._timing.duration,
            "renewTime": now,
        }
        if holder and before.get("holderIdentity") != holder:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = before.get("leaseTransitions", -1) + 1
        if lease is None:
            metadata = {"namespace": self._namespace, "name": LEASE_NAME}
            return await self._cluster.create(LEASE, {"metadata": metadata, "spec": spec})
        return await self._cluster.replace(LEASE, {**lease, "spec": spec})


def _spec(lease: Object | None) -> dict[str, Any]:
    return (lease or {}).get("spec") or {}


def _now() -> float:
    return asyncio.get_running_loop().time()
