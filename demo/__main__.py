"""`python -m demo`: opens a cluster, starts what a user would start, plays, says what was shown.

Ends with 0 where everything that it claims was observed, with 1 and the reason where not.

    KEEP=1                     leave everything running afterwards, until Ctrl-C
    HEADWATER_CLUSTER=current  use the kubeconfig's cluster instead of a control plane of its own
    NO_COLOR=1                 no colours
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from anthropic import AnthropicError

from demo import commits
from demo.acts import ACTS
from demo.observe import NAME, NAMESPACE, Observer
from demo.play import Play, Shown
from demo.stage import BIN, DemoError, Mount, Stage
from demo.traffic import BUNDLE, MODELS, TEAMS, Consumer
from demo.view import View
from headwater.cluster.kubernetes import KubernetesCluster
from headwater.contract.errors import HeadwaterError
from tests.cluster.assets import AssetsError
from tests.cluster.control_plane import Cluster, ControlPlane, ControlPlaneError, open_cluster
from tests.cluster.volumes import NodeError
from tests.integration.deployed import ACCOUNTS, POLICIES, deployed

NAMESPACES: Final = (NAMESPACE, "support", "it-operations")
CRDS: Final = ("promptprefixes.headwater.dev", "cachewarmers.headwater.dev")
INTERRUPTED: Final = 130
QUESTION: Final = {"role": "user", "content": "My VPN drops every hour."}
_LOCAL: Final = "127.0.0.1,localhost"


def main() -> int:
    """Play once; the exit code."""
    _forget_the_shell()
    view = View()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    view.title("Headwater on a real control plane. Only the model provider is a simulator.")
    try:
        with open_cluster(os.environ) as cluster, _visited(cluster):
            os.environ.update(cluster.environment)
            view.say(f"Kubernetes is up at {cluster.host} ({time.monotonic() - started:.1f} s).")
            with Stage(cluster) as stage:
                return asyncio.run(_play(stage, view))
    except (KeyboardInterrupt, asyncio.CancelledError):
        view.say("Interrupted: nothing is left behind.")
        return INTERRUPTED
    # Cluster.kubectl fails as an assertion does, being made for tests.
    except (AssertionError, AssetsError, ControlPlaneError, DemoError, HeadwaterError) as error:
        view.say(str(error))
        return 1


def _forget_the_shell() -> None:
    """No key, no setting and no proxy of the user's shell has a part in this."""
    for name in [*os.environ]:
        if name.startswith(("ANTHROPIC_", "HEADWATER_")) and name != "HEADWATER_CLUSTER":
            del os.environ[name]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(
        part for part in (_LOCAL, os.environ.get("NO_PROXY", "")) if part
    )


@contextlib.contextmanager
def _visited(cluster: Cluster) -> Iterator[None]:
    """Leave somebody else's cluster as it was found; one of our own is thrown away anyway."""
    if isinstance(cluster, ControlPlane):
        yield
        return
    made = [each for each in deployed(*ACCOUNTS, *POLICIES) if "namespace" not in each["metadata"]]
    ours = [
        # What confines people first, and at last the namespaces, which take the rest along.
        *(f"{each['kind'].lower()}/{each['metadata']['name']}" for each in reversed(made)),
        *(f"crd/{name}" for name in CRDS),
        *(f"namespace/{name}" for name in NAMESPACES),
    ]
    taken = cluster.kubectl("get", "--ignore-not-found", "-o", "name", *ours).stdout.split()
    if taken:
        raise DemoError(
            f"the cluster of your kubeconfig has {', '.join(taken)} already, and the demo would"
            " remove them at its end: delete them if they are left from a demo, or unset"
            " HEADWATER_CLUSTER."
        )
    try:
        yield
    finally:
        cluster.kubectl("delete", "--ignore-not-found", "--wait=false", *ours)


async def _play(stage: Stage, view: View) -> int:
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    api = await KubernetesCluster.connect()
    play = Play(stage, view, Observer(api))
    background: list[asyncio.Task[None]] = []
    with contextlib.ExitStack() as mounted:
        try:
            await _set_the_stage(play, mounted)
            background += [
                asyncio.create_task(play.observer.run()),
                asyncio.create_task(play.traffic.run()),
            ]
            with view.watching(play.observer, play.traffic):
                rows = await _acts(play, background)
                view.table((row.claim, row.seen, row.held) for row in rows)
                held = all(row.held for row in rows)
                if held and os.environ.get("KEEP"):
                    await _keep(play)
            return 0 if held else 1
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await api.close()


async def _set_the_stage(play: Play, mounted: contextlib.ExitStack) -> None:
    """CRDs, simulator, one sidecar for each team, controller: all of them as a user starts them."""
    stage = play.stage
    play.start("simulator", "simulator", "--port", "0")
    play.simulator = await stage.announced("simulator", "listening")
    play.view.say("Three teams in two namespaces, each with a sidecar beside its application:")
    for team in TEAMS:
        directory = stage.directory / "pods" / team.name
        mount = Mount(stage, team.namespace, BUNDLE, directory)
        play.mounts[team.name] = mounted.enter_context(mount)
        play.start(
            team.name,
            *("sidecar", "--bundle", f"pods/{team.name}", "--upstream", play.simulator),
            *("--namespace", team.namespace, "--team", team.name, "--surface", team.surface),
            *("--port", "0", "--metrics-address", "127.0.0.1:0"),
        )
    await play.run("kubectl apply -f crds/")
    await play.run("kubectl wait --for=condition=Established --timeout=30s -f crds/")
    for team in TEAMS:
        consumer = Consumer(team, await stage.announced(team.name, "listening"))
        play.consumers[team.name] = consumer
        play.traffic.consumers.append(consumer)
        play.metrics[team.name] = await stage.announced(team.name, "metrics") + "/metrics"
    play.observer.targets += play.metrics.values()
    play.view.say("Its account, its roles and its policies; its pods are processes here:")
    play.view.command("kubectl apply -f deploy/")
    applied = await play.stage.shell("kubectl apply -f deploy/ -o name")
    kinds = Counter(name.partition(".")[0].partition("/")[0] for name in applied.split())
    play.view.output(", ".join(f"{number} {kind}" for kind, number in kinds.items()))
    targets = [part for url in play.metrics.values() for part in ("--scrape-target", url)]
    play.start(
        *("controller", "controller", "--scrape-interval", "1"),
        *("--lease-namespace", "headwater", "--provider-url", play.simulator, *targets),
        kubeconfig=await play.stage.kubeconfig_of("headwater-controller"),
    )


async def _acts(play: Play, background: list[asyncio.Task[None]]) -> list[Shown]:
    """Every act until one fails; a row for each claim."""
    rows: list[Shown] = []
    for number, act in enumerate(ACTS, 1):
        play.view.act(number, len(ACTS), act.sentence)
        try:
            rows += await act.play(play)
            for task in background:
                if task.done():
                    task.result()
        except (AnthropicError, AssertionError, DemoError, NodeError, TimeoutError) as error:
            play.view.say(f"This did not happen: {error}")
            rows.append(Shown(act.sentence, str(error).splitlines()[0], held=False))
            rows += [Shown(missed.sentence, "not reached", held=False) for missed in ACTS[number:]]
            return rows
    problems = play.traffic.problems
    rows.append(
        Shown(
            "no application saw an error",
            f"{play.traffic.conversations} conversations, {len(problems)} errors"
            + (f", the first: {problems[0]}" if problems else ""),
            held=not problems,
        )
    )
    return rows


async def _keep(play: Play) -> None:
    """Tell how to look around, and stay until Ctrl-C."""
    stage, view = play.stage, play.view
    consumer = next(iter(play.consumers.values()))
    message = {"model": MODELS[0], "max_tokens": 16, "messages": [QUESTION]}
    view.say("Everything goes on. In another terminal:")
    for name, value in stage.cluster.environment.items():
        view.command(f"export {name}={value}")
    view.command(f"export PATH={BIN}:{stage.cluster.kubectl_binary.parent}:$PATH; cd {stage.work}")
    view.command(f"kubectl get pp -n {NAMESPACE} -w")
    view.command(f"kubectl describe pp {NAME} -n {NAMESPACE}")
    view.say(f"A version of your own: edit {commits.MANIFEST} there, and")
    view.command(f"headwater digest --write -f {commits.MANIFEST}")
    view.command(f"kubectl apply -f {commits.MANIFEST}")
    view.say("A sidecar, as an application sees it (or any SDK, by ANTHROPIC_BASE_URL):")
    view.command(
        f"curl -i {consumer.url}/v1/messages -H 'x-api-key: mine' -H 'anthropic-version:"
        f" 2023-06-01' -d '{json.dumps(message)}'"
    )
    view.command(f"curl {play.metrics[consumer.team.name]}")
    view.say(f"Logs are in {stage.directory}. Ctrl-C ends everything.")
    with contextlib.suppress(asyncio.CancelledError):  # the end that was asked for
        while True:
            stage.check_alive()
            await asyncio.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
