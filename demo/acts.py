"""The five acts. Each tells what it does, does it as a user would, and checks that it was so.

A claim of the closing table stands or falls with what was observed here: the provider's own usage
figures, the simulator's record of what it was sent, the sidecars' counters, and the objects and
Events in the API server.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from anthropic import APIStatusError

from demo import commits
from demo.observe import NAME, NAMESPACE, Counts, Event, Seen
from demo.play import Play, Shown
from demo.received import contracts_received, received
from demo.stage import DemoError
from demo.traffic import BUNDLE, MODELS, Consumer
from tests.cluster.node import run_pod_of_job

FORGETFUL_MODEL: Final = "claude-opus-4-8"
"""Its minimum is above the length of v3, the other model's is below it."""
_WARM_ENOUGH: Final = 10
"""Eligible requests on each model before the story goes on."""
_FLIPPED_BYTE: Final = 400


def _must(held: bool, what: str) -> None:  # noqa: FBT001 - it reads as an assertion
    if not held:
        raise DemoError(what)


async def first_version(play: Play) -> list[Shown]:
    """v1 is published; the first request writes the provider's cache, the next one reads it."""
    commits.edit(play.stage.work / commits.MANIFEST, commits.shorten_the_wait)
    play.view.say("The quickstart, its pauses shortened to seconds, its v1 approved:")
    await play.run("kubectl apply -f examples/quickstart/")
    await play.until(lambda seen: seen.phase == "Stable" and seen.stable == "v1", "v1 is stable")
    play.published["v1"] = play.seen.status["stable"]["digest"]
    for team in play.consumers:
        await play.until_ready(team, "ok")
    await play.run(f"kubectl get pp -n {NAMESPACE}")
    consumer = play.consumers["service-desk"]
    figures = []
    for sentence in ("The first question writes the cache", "The next one reads it"):
        usage = await play.ask_once(consumer, MODELS[0])
        figures.append(usage)
        play.view.say(
            f"{sentence}: the provider's usage says {usage.cache_write_5m:,} written,"
            f" {usage.cache_read:,} read, {usage.uncached:,} uncached."
        )
    first, second = figures
    _must(
        first.cache_write_5m > 0 and first.cache_read == 0,
        f"the first request should have written the cache and read nothing, and used {first}",
    )
    _must(
        second.cache_read == first.cache_write_5m and second.cache_write_5m == 0,
        f"the second request should have read what the first wrote, and used {second}",
    )
    play.view.say("Now three teams in two namespaces begin to talk, through their sidecars.")
    play.traffic.started.set()
    await play.until(
        lambda seen: all(_eligible(seen, "v1", model) >= _WARM_ENOUGH for model in MODELS),
        "the teams' requests find v1 in the cache",
    )
    return [
        Shown(
            "v1: the first request writes, the next reads",
            f"{first.cache_write_5m:,} tokens written, then {second.cache_read:,} read",
        )
    ]


async def second_version(play: Play) -> list[Shown]:
    """v2 is a commit: canary, evidence, approval by its digest, promotion."""
    play.view.say(f"The author adds a section to {commits.MANIFEST}:")
    await play.commit(commits.second_version)
    await play.until(lambda seen: seen.candidate == "v2" and seen.weight > 0, "v2 is tried")
    await play.run(f"kubectl get pp -n {NAMESPACE}")
    play.view.say("One in four new conversations gets v2, and its cache hits are counted.")
    await play.until(_is_unsure, "the judge says what it misses")
    play.view.say(f"A flawless beginning may be luck: {_verdict(play.seen)}.")
    await play.until(lambda seen: seen.phase == "AwaitingApproval", "v2 asks for approval")
    asked = play.seen
    _must(asked.stable == "v1", "v2 became stable without an approval")
    play.view.say(f"Now it is sure: {_verdict(asked)}.")
    approved = asked.condition("Approved")
    _must(
        approved["reason"] == "OtherDigestApproved",
        f"the approval of v1 should count for nothing, and the status says: {approved}",
    )
    play.view.say(f"The approval that stands is not v2's: {approved['message']}.")
    candidate = asked.status["candidate"]
    play.view.say("An approval is a commit, too, and names the exact bytes:")
    await play.commit(commits.approve(play.published["v2"]))
    await play.until(lambda seen: seen.stable == "v2" and seen.phase == "Stable", "v2 is stable")
    await play.run(f"kubectl get pp -n {NAMESPACE}")
    history = [row for row in play.seen.status["history"] if row["version"] == "v2"]
    raised = [row["reason"].split(":")[0] for row in history if row["event"] == "WeightRaised"]
    told = [row["event"] for row in history]
    _must(
        raised == ["25%", "50%"] and told[0] == "CanaryStarted" and told[-1] == "Promoted",
        f"v2 should have gone by its steps, and the history says {told} with {raised}",
    )
    return [
        Shown(
            "v2: canary, evidence, approval, promotion",
            f"{', then '.join(raised)} of new conversations; {_hits(candidate)}; promoted once its"
            " digest was approved",
        )
    ]


def _is_unsure(seen: Seen) -> bool:
    return "not yet sure" in _verdict(seen)


def _verdict(seen: Seen) -> str:
    """The judge's sentence on the candidate; empty while it was not judged."""
    verdict: Mapping[str, str] = seen.status.get("candidate", {}).get("verdict", {})
    return verdict.get("reason", "")


def _hits(candidate: Mapping[str, Any]) -> str:
    rows = candidate["evidence"]
    hits = sum(row["hits"] for row in rows)
    return f"{hits} of {hits + sum(row['misses'] for row in rows)} eligible requests hit the cache"


async def third_version(play: Play) -> list[Shown]:
    """v3 was trimmed to save tokens, and on one model the provider silently stops caching it."""
    path = play.stage.work / commits.MANIFEST
    reverted = path.read_text()
    before, problems = play.seen.version("v2"), len(play.traffic.problems)
    started = time.monotonic()
    play.view.say("A well-meaning hand cuts the prompt by half:")
    await play.commit(commits.third_version)
    await play.until(lambda seen: seen.candidate == "v3" and seen.weight > 0, "v3 is tried")
    warned = play.seen.condition("Cacheable")
    play.view.say(f"Cacheable is {warned['status']}: {warned['message']}. Only traffic can tell.")
    await play.until(lambda seen: seen.phase == "RolledBack", "v3 goes back by itself")
    seconds = time.monotonic() - started
    await play.run(f"kubectl get pp {NAME} -n {NAMESPACE} -o jsonpath='{{.status.message}}'")
    sentence = str(play.seen.status["message"])
    _must(
        FORGETFUL_MODEL in sentence and play.seen.stable == "v2",
        f"the status should name {FORGETFUL_MODEL}, and says: {sentence}",
    )
    collapsed = play.seen.counts.get(("v3", FORGETFUL_MODEL), Counts())
    fine = play.seen.counts.get(("v3", MODELS[0]), Counts())
    cached = play.seen.cached.get(("v3", FORGETFUL_MODEL), 0)
    _must(
        collapsed.misses > 0 and collapsed.hits == cached == fine.misses == 0,
        f"v3 should miss on {FORGETFUL_MODEL} alone: {collapsed}, {fine}",
    )
    play.view.say(
        f"No error said so: on {FORGETFUL_MODEL} the provider answered {collapsed.requests}"
        " requests with v3 and cached nothing"
        + (f"; on {MODELS[0]} it was as ever, {fine.rate} read." if fine.hits else ".")
    )
    stable = play.seen.version("v2") - before
    _must(
        stable.hits > 0 and stable.misses == 0 and stable.failed == 0,
        f"stable traffic should have had hits alone, and had {stable}",
    )
    seen_by_applications = play.traffic.problems[problems:]
    _must(not seen_by_applications, f"applications saw errors: {seen_by_applications[:3]}")
    play.view.say(
        f"Meanwhile on v2: {stable.rate} requests read the cache, {stable.failed} failed."
    )
    play.view.say("The author reverts the commit, so that Git says again what is served:")
    path.write_text(reverted)
    await play.run(f"kubectl apply -f {commits.MANIFEST}")
    await play.until(lambda seen: seen.phase == "Stable" and seen.stable == "v2", "v2 is at rest")
    return [
        Shown(
            "v3: goes back by itself, and says why",
            f"after {seconds:.0f} s; {sentence}",
        ),
        Shown(
            "stable traffic never missed a beat",
            f"meanwhile on v2: {stable.rate} requests read the cache, {stable.failed} failed",
        ),
    ]


async def tampering(play: Play) -> list[Shown]:
    """A team edits what is not its own, someone edits a bundle, a byte flips in a mounted file."""
    return [await _refused_edit(play), await _edited_bundle(play), await _flipped_byte(play)]


async def _refused_edit(play: Play) -> Shown:
    prefix = f"promptprefixes.headwater.dev/{NAME} -n {NAMESPACE}"
    team = "--as=system:serviceaccount:support:service-desk"
    before = await play.stage.shell(f"kubectl get {prefix} -o jsonpath='{{.spec}}'")
    play.view.say("A role lets the service desk edit prefixes here, but nobody gave it `publish`:")
    await play.run(
        f"kubectl create role editors -n {NAMESPACE} --verb=get,patch"
        " --resource=promptprefixes.headwater.dev"
    )
    await play.run(
        f"kubectl create rolebinding editors -n {NAMESPACE} --role=editors"
        " --serviceaccount=support:service-desk"
    )
    change = '{"spec": {"version": "v9", "content": {"system": [{"text": "Be quick."}]}}}'
    patch = f"kubectl patch {prefix} --type=merge -p '{change}'"
    said = await play.refused(f"{patch} {team}")
    _must(
        "takes the verb 'publish'" in said and "Ask the owner to publish a new version" in said,
        f"the team should read whose it is and what to do, and reads: {said}",
    )
    play.view.say("Nor does its owner edit a version that was published:")
    said = await play.refused(patch.replace('"version": "v9", ', ""))
    _must("version v2 is published" in said, f"the owner should read that v2 is bound: {said}")
    after = await play.stage.shell(f"kubectl get {prefix} -o jsonpath='{{.spec}}'")
    _must(after == before, "an edit that was refused changed something")
    return Shown(
        "nobody changes the shared bytes in passing",
        "a team was told that it takes the verb 'publish' and whom to ask, the owner that v2 is"
        " published; by the API server, whoever else runs",
    )


async def _edited_bundle(play: Play) -> Shown:
    read = f"kubectl get configmap {BUNDLE} -n support -o json"
    before = json.loads(await play.stage.shell(read))
    told = len(play.seen.events)
    started = time.monotonic()
    play.view.say("A bundle is written by the controller's account alone. Somebody who has that:")
    account = "system:serviceaccount:headwater:headwater-controller"
    edit = "sed 's/Answer first/Answer last/'"
    await play.run(f"{read} | {edit} | kubectl replace -f - --as={account}")

    def repaired() -> Event | None:
        news = play.seen.events[told:]
        return next((event for event in news if event.reason == "Repaired"), None)

    event = await play.stage.until(repaired, "the bundle is repaired", "controller")
    seconds = time.monotonic() - started
    after = json.loads(await play.stage.shell(read))
    _must(after["data"] == before["data"], "the repaired bundle differs from the one before")
    _must("kubectl-replace" in event.note, f"the Event names nobody: {event.note}")
    play.view.say(
        f"After {seconds:.1f} s it is what it was, and an Event names the tool that changed it."
    )
    return Shown(
        "a bundle edited by hand is repaired",
        f"within {seconds:.1f} s, byte for byte; the Event names kubectl-replace",
    )


async def _flipped_byte(play: Play) -> Shown:
    team = "field-it"
    began = await received(play.simulator)
    mount, consumer = play.mounts[team], play.consumers[team]
    mount.pause()  # or the damage would be gone before anyone looks
    file = f"{play.published['v2'].removeprefix('sha256:')[:12]}*.json"
    play.view.say("A byte flips in the file that a pod has mounted, whose name is its sha256:")
    await play.run(
        f"cd ../pods/{team} && printf '#' | dd of=\"$(ls {file})\" bs=1 seek={_FLIPPED_BYTE}"
        f" conv=notrunc status=none && sha256sum {file}"
    )
    kept = await play.until_ready(team, "ok, with the last good bundle.*")
    play.view.say(f"The sidecar that runs: {kept}")
    usage = await play.ask_once(consumer, MODELS[0])
    _must(usage.cache_read > 0, f"the sidecar should send its last good bundle, and used {usage}")
    play.stage.start(
        *("fresh", "sidecar", "--bundle", str(mount.directory), "--upstream", play.simulator),
        *("--port", "0", "--metrics-address", "127.0.0.1:0"),
    )
    url = await play.stage.announced("fresh", "listening")
    refused = ""
    try:
        await play.ask_once(Consumer(consumer.team, url), MODELS[0])
    except APIStatusError as error:
        refused = str(error.status_code)
        play.view.say(f"A sidecar that starts on it: {_message(error)}")
    _must(refused == "503", "a sidecar that starts on a damaged bundle should refuse every request")
    play.stage.end("fresh")
    mount.follow()
    await play.until_ready(team, "ok")
    sent = await contracts_received(play.simulator, since=began)
    _must(
        set(sent) == {play.published["v2"]},
        f"the provider should have been sent v2 alone meanwhile, and was sent {set(sent)}",
    )
    return Shown(
        "a flipped byte is never sent",
        f"the running sidecar kept its last good bundle, a fresh one answered {refused};"
        f" all {len(sent):,} requests at the provider meanwhile carried v2 to the byte",
    )


def _message(error: APIStatusError) -> str:
    """What the error says in the provider's own form."""
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("error", {}).get("message", error.message))


async def warming(play: Play) -> list[Shown]:
    """A CacheWarmer keeps the caches of a credential warm that nobody uses at night."""
    await play.run(f"kubectl get cachewarmer,cronjob -n {NAMESPACE}")
    play.view.say("Its job, run twice by its own command, taken from the Job:")
    first = await _run_job(play, "warm-first", "cacheWrite5m")
    second = await _run_job(play, "warm-again", "cacheRead")
    await play.run(
        f"kubectl get cachewarmer {NAME} -n {NAMESPACE} -o jsonpath='{{range .status.lanes[*]}}"
        "{.credential} {.model} {.state} read {.lastUsage.cacheRead}, wrote"
        ' {.lastUsage.cacheWrite5m}{"\\n"}{end}\''
    )
    usage = await play.ask_once(play.consumers["mailroom"], MODELS[0], key="not-a-real-key")
    play.view.say(f"The first question of the morning with that key reads {usage.cache_read:,}.")
    _must(
        usage.cache_read > 0 and usage.cache_write_5m == 0,
        f"the first question should find a warm cache, and used {usage}",
    )
    written = sum(lane["lastUsage"]["cacheWrite5m"] for lane in first)
    read = sum(lane["lastUsage"]["cacheRead"] for lane in second)
    return [
        Shown(
            "a CacheWarmer: one write, then reads",
            f"{len(first)} lanes: {written:,} tokens written, then {read:,} read; a team's"
            f" first question read {usage.cache_read:,}",
        )
    ]


async def _run_job(play: Play, job: str, kind: str) -> list[dict[str, Any]]:
    """Make a Job from the CronJob and run its pod; the lanes, once the status shows `kind`."""
    await play.run(f"kubectl create job {job} --from=cronjob/headwater-{NAME} -n {NAMESPACE}")
    done = await asyncio.to_thread(run_pod_of_job, play.stage.cluster, NAMESPACE, job)
    play.view.output(done.log)
    _must(done.exit_code == 0, f"job {job} ended with {done.exit_code}: {done.log.strip()}")
    await play.until(lambda seen: _lanes_with(seen, kind), f"status.lanes shows {kind} everywhere")
    lanes: list[dict[str, Any]] = play.seen.warmer["status"]["lanes"]
    return lanes


def _lanes_with(seen: Seen, kind: str) -> bool:
    lanes = seen.warmer.get("status", {}).get("lanes", [])
    return len(lanes) == len(MODELS) and all(
        lane["state"] == "Warm" and lane.get("lastUsage", {}).get(kind, 0) > 0 for lane in lanes
    )


def _eligible(seen: Seen, version: str, model: str) -> int:
    counts = seen.counts.get((version, model), Counts())
    return counts.hits + counts.misses


@dataclass(frozen=True)
class Act:
    """One act: its sentence, and what plays it and gives the rows of the closing table."""

    sentence: str
    play: Callable[[Play], Awaitable[list[Shown]]]


ACTS: Final = tuple(
    Act((each.__doc__ or "").strip().removesuffix("."), each)
    for each in (first_version, second_version, third_version, tampering, warming)
)
