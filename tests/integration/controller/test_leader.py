"""One leader on the real API server, whoever starts, dies, stops or is cut off."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headwater.cluster import CONFIG_MAP
from headwater.cluster.kinds import LEASE
from headwater.controller.lease import LEASE_NAME, Timing
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller.contender import LOST, timing
from tests.integration.controller.harness import ROOT, Api

pytestmark = pytest.mark.slow

PATIENCE = 20.0
SLACK = 2.0
"""Seconds that starting and asking may add."""


@dataclass
class Contender:
    """A process of `contender.py`."""

    name: str
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def writes(self) -> list[float]:
        """When it wrote, in monotonic seconds."""
        log = self.directory / self.name
        # The last line of a process that was killed may be half a line.
        return [float(line) for line in log.read_text().split("\n")[:-1]] if log.exists() else []

    @property
    def leads(self) -> bool:
        return bool(self.writes)

    @property
    def said(self) -> str:
        return (self.directory / f"{self.name}.log").read_text()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(scaled(PATIENCE))


@dataclass
class Race:
    """All contenders of a test."""

    control_plane: ControlPlane
    directory: Path
    api: Api
    slowness: float = field(default_factory=lambda: scaled(1.0))
    contenders: list[Contender] = field(default_factory=list)

    @property
    def timing(self) -> Timing:
        return timing(self.slowness)

    @property
    def retry(self) -> float:
        """The longest pause between two attempts, and what a busy machine adds."""
        return 2 * self.timing.retry_period + SLACK * self.slowness

    def start(self, name: str, *words: str, **environment: str) -> Contender:
        with (self.directory / f"{name}.log").open("wb") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.integration.controller.contender"),
                    *(name, str(self.directory / name), str(self.slowness), *words),
                ],
                cwd=ROOT,
                env={**os.environ, **self.control_plane.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        contender = Contender(name, self.directory, process)
        self.contenders.append(contender)
        return contender

    def holder(self) -> str | None:
        return str(self.api.get(LEASE, "default", LEASE_NAME)["spec"]["holderIdentity"])

    def time_to_expire(self, holds: Callable[[], bool]) -> None:
        """Something stays true for longer than a lease lasts."""
        seconds = self.timing.duration + 2 * self.timing.retry_period
        end = time.monotonic() + seconds
        wait_until(lambda: not holds() or time.monotonic() > end, 2 * seconds, "a lease's time")
        assert holds()

    def assert_one_at_a_time(self) -> None:
        terms = sorted(
            (writes[0], writes[-1], contender.name)
            for contender in self.contenders
            if (writes := contender.writes)
        )
        for (_, ended, earlier), (began, _, later) in itertools.pairwise(terms):
            assert ended < began, f"{earlier} still wrote when {later} began"


@pytest.fixture
def race(lent_control_plane: ControlPlane, tmp_path: Path) -> Iterator[Race]:
    with Api(lent_control_plane) as api, contextlib.ExitStack() as stack:
        found = Race(lent_control_plane, tmp_path, api)

        @stack.callback
        def end() -> None:
            for contender in found.contenders:
                contender.process.kill()
                contender.process.wait()
            found.assert_one_at_a_time()

        yield found


def await_leader(*contenders: Contender) -> Contender:
    leading = wait_until(
        lambda: [contender for contender in contenders if contender.leads], PATIENCE, "one leads"
    )
    return leading[0]


def other_than(leader: Contender, *contenders: Contender) -> Contender:
    (other,) = (contender for contender in contenders if contender is not leader)
    return other


def test_of_two_that_start_at_once_one_leads(race: Race) -> None:
    """The other one waits and lives; when the leader is stopped it follows within two retries."""
    both = race.start("a"), race.start("b")
    leader = await_leader(*both)
    waiting = other_than(leader, *both)
    wait_until(lambda: f"waits, because {leader.name} leads" in waiting.said, PATIENCE, "it waits")
    race.time_to_expire(lambda: not waiting.leads and waiting.process.poll() is None)
    assert race.holder() == leader.name

    stopped = time.monotonic()
    assert leader.end(signal.SIGTERM) == 0
    await_leader(waiting)
    assert waiting.writes[0] - stopped < race.retry < race.timing.duration
    lease = race.api.get(LEASE, "default", LEASE_NAME)["spec"]
    assert (lease["holderIdentity"], lease["leaseTransitions"]) == (waiting.name, 1)


def test_the_lease_of_a_killed_leader_expires(race: Race) -> None:
    """Nobody gave it back, so the successor waits for as long as it lasts, and not much longer."""
    killed = await_leader(race.start("killed"))
    successor = race.start("successor")
    wait_until(lambda: "waits" in successor.said, PATIENCE, "it waits")
    killed.end(signal.SIGKILL)
    await_leader(successor)
    waited = successor.writes[0] - killed.writes[-1]
    assert race.timing.renew_deadline < waited < race.timing.duration + race.retry


def test_a_leader_that_was_frozen_writes_nothing_when_it_wakes(race: Race) -> None:
    """Not even what it had decided on before: the clock is asked when the bytes go out."""
    frozen = race.start("frozen", "FROZEN")
    stat = Path(f"/proc/{frozen.process.pid}/stat")
    wait_until(lambda: ") T " in stat.read_text(), PATIENCE, "it stands still")
    successor = await_leader(race.start("successor"))
    frozen.process.send_signal(signal.SIGCONT)
    assert frozen.process.wait(scaled(PATIENCE)) == LOST
    written = race.api.get(CONFIG_MAP, "default", frozen.name)
    assert written["data"] == {"written": "in time"}
    assert successor.process.poll() is None


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "refusing"])
def test_a_leader_ends_when_the_api_server_is_away_for_too_long(race: Race, silent: bool) -> None:  # noqa: FBT001 - a table
    """In time, with a message and an exit code; who waited takes over once it is back."""
    plane = race.control_plane
    leader = await_leader(race.start("leader"))
    waiting = race.start("waiting")
    wait_until(lambda: "waits" in waiting.said, PATIENCE, "it waits")
    away = time.monotonic()
    plane.pause() if silent else plane.stop_api_server()
    assert leader.process.wait(scaled(PATIENCE)) == LOST
    assert f"could not be renewed for {race.timing.renew_deadline:g} s" in leader.said
    assert "Traceback" not in leader.said
    assert leader.writes[-1] - away < race.timing.renew_deadline + scaled(1.0)
    assert not waiting.leads
    plane.resume() if silent else plane.start_api_server()
    await_leader(waiting)


def test_an_outage_shorter_than_the_deadline_costs_nothing(race: Race) -> None:
    """The same process leads on."""
    leader = await_leader(race.start("leader"))
    race.control_plane.pause()
    renewal_missed = time.monotonic() + race.timing.renew_deadline / 3
    wait_until(lambda: time.monotonic() > renewal_missed, PATIENCE, "a while")
    race.control_plane.resume()
    race.time_to_expire(lambda: leader.process.poll() is None)
    assert race.holder() == leader.name


def test_a_lease_deleted_by_hand_is_made_again(race: Race) -> None:
    """By the one who leads; whoever waits does not take the chance."""
    leader = await_leader(race.start("leader"))
    waiting = race.start("waiting")
    wait_until(lambda: "waits" in waiting.said, PATIENCE, "it waits")
    race.api.delete(LEASE, "default", LEASE_NAME)
    wait_until(lambda: race.holder() == leader.name, PATIENCE, "it is there again")
    race.time_to_expire(lambda: leader.process.poll() is None and not waiting.leads)


def test_who_may_not_have_the_lease_says_so(race: Race) -> None:
    """And ends: a controller that waited for ever would look alive."""
    kubeconfig: dict[str, Any] = json.loads(race.control_plane.kubeconfig.read_text())
    # The default account may do nothing: to make another one would leave it behind.
    token = race.control_plane.kubectl("create", "token", "default").stdout
    kubeconfig["users"][0]["user"] = {"token": token}
    path = race.directory / "kubeconfig"
    path.write_text(json.dumps(kubeconfig))
    refused = race.start("refused", KUBECONFIG=str(path))
    assert refused.process.wait(scaled(PATIENCE)) not in (0, LOST)
    assert f"the Lease default/{LEASE_NAME} cannot be had" in refused.said
    assert "system:serviceaccount:default:default" in refused.said
