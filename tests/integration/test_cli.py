"""What people type, against a real API server: what they see, and what of it changes there."""

import json
import os
import pty
import secrets
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from headwater.cli import main, steer
from headwater.cli._cluster import find
from headwater.cli._yaml import compose, value_of
from headwater.cluster import CONFIG_MAP, NAMESPACE, PROMPT_PREFIX, Object
from tests.cluster.control_plane import Cluster, ControlPlane
from tests.cluster.ports import free_port
from tests.cluster.waiting import scaled, wait_until
from tests.integration.controller.harness import Api, install_crds
from tests.unit.cli.prefixes import BYTES, DIGESTS, PROGRESSING, SETTLED

ROOT: Final = Path(__file__).parents[2]
Run = Callable[..., Result]


@pytest.fixture(scope="session")
def cluster(control_plane: Cluster) -> Cluster:
    """The shared cluster with our resources; no controller runs in it."""
    install_crds(control_plane)
    return control_plane


@pytest.fixture
def api(cluster: Cluster) -> Iterator[Api]:
    with Api(cluster) as api:
        yield api


@pytest.fixture
def run(cluster: Cluster, namespace: str) -> Run:
    """Run a command in the test's namespace."""

    def invoke(*arguments: str, here: bool = True, **environment: str) -> Result:
        where = ("-n", namespace) if here else ()
        given = {"COLUMNS": "120", **cluster.environment, **environment}
        return CliRunner().invoke(main, [*arguments, *where], env=given)

    return invoke


def put(api: Api, namespace: str, prefix: dict[str, Any], name: str = "help-desk") -> Object:
    """The prefix and its status, as author and controller would write them."""
    metadata = {"name": name, "namespace": namespace}
    api.apply(PROMPT_PREFIX, {"metadata": metadata, "spec": prefix["spec"]})
    status = {"status": {**prefix["status"], "observedGeneration": 1}}
    return api.patch(PROMPT_PREFIX, namespace, name, status, subresource="/status")


def publish(api: Api, namespace: str, *, blanks: str = "") -> None:
    """The ConfigMaps of both versions, as the controller names them."""
    for version, digest in DIGESTS.items():
        metadata = {"name": f"headwater.help-desk.{digest.short}", "namespace": namespace}
        data = {f"{digest.hex}.json": BYTES[version].decode() + blanks}
        api.create(CONFIG_MAP, {"metadata": metadata, "data": data})


@pytest.fixture
def canary(api: Api, namespace: str) -> Object:
    """`help-desk`: v1 is stable, v2 is canaried, both are published."""
    prefix = put(api, namespace, PROGRESSING)
    publish(api, namespace)
    return prefix


def test_a_prefix_is_shown(run: Run, canary: Object) -> None:
    """As a tree; all of a namespace, or of all namespaces, in the same way."""
    done = run("get", "help-desk")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "help-desk  Progressing  of ai-platform (#ai-platform)"
    assert lines[4] == "│   ├── claude-opus-4-8  148 hits, 2 misses, 1 error"
    assert lines[-1] == "└── consumers  12 namespaces, 340 pods"
    assert run("get").stdout.splitlines()[0] == lines[0]
    full = f"{canary['metadata']['namespace']}/{lines[0]}"
    assert full in run("get", "-A", here=False).stdout.splitlines()


def test_objects_are_printed_as_kubectl_prints_them(
    run: Run, cluster: Cluster, namespace: str, canary: Object
) -> None:
    """One, or a list; as JSON, or as YAML that is read back as the same."""
    for names in (("help-desk",), ()):
        theirs = cluster.kubectl("get", "pp", *names, "-n", namespace, "-o", "json").stdout
        assert run("get", *names, "-o", "json").stdout == theirs
        (node,) = compose(run("get", *names, "-o", "yaml").stdout, "printed")
        assert value_of(node, "printed") == json.loads(theirs)


def test_history_is_printed(run: Run, canary: Object) -> None:
    """The newest first, as rows and as data."""
    rows = run("history", "help-desk").stdout.splitlines()
    assert [row.split()[3] for row in rows[1:]] == ["WeightRaised", "CanaryStarted", "FirstVersion"]
    entries = json.loads(run("history", "help-desk", "-o", "json").stdout)
    assert entries == canary["status"]["history"][::-1]


def test_reasons_are_given(run: Run, canary: Object) -> None:
    """With the numbers of the status."""
    done = run("why", "help-desk")
    assert done.exit_code == 0, done.stderr
    assert "claude-opus-4-8: 148 of 150 eligible requests read the cache (98.67%)" in done.stdout
    told = json.loads(run("why", "help-desk", "-o", "json").stdout)
    assert told["phase"][0].startswith("help-desk is Progressing")
    assert "claude-haiku-4-5: no eligible request yet" in told["evidence"]


def test_published_versions_are_compared(run: Run, tmp_path: Path, canary: Object) -> None:
    """By NAME@VERSION, by --prefix, and with a manifest; from their bytes, nothing else."""
    by_name = run("diff", "help-desk@v1", "help-desk@v2", COLUMNS="80")
    assert by_name.exit_code == 1, by_name.stderr
    assert by_name.stdout.splitlines()[:4] == [
        f"- help-desk@v1  {DIGESTS['v1'].short}",
        f"+ help-desk@v2  {DIGESTS['v2'].short}",
        "",
        "~ system[1] has another text",
    ]
    assert run("diff", "v1", "v2", "--prefix", "help-desk", COLUMNS="80").stdout == by_name.stdout
    assert run("diff", "help-desk@v2", "help-desk@v2").exit_code == 0
    manifest = tmp_path / "prefix.yaml"
    manifest.write_text(json.dumps(PROGRESSING))
    assert run("diff", "help-desk@v2", str(manifest)).exit_code == 0
    assert run("diff", "help-desk@v1", str(manifest)).exit_code == 1


def test_bytes_that_are_not_there_or_not_right_are_not_compared(
    run: Run, api: Api, namespace: str
) -> None:
    """Exit code 2, and a sentence: never a difference that is none."""
    put(api, namespace, PROGRESSING)
    gone = run("diff", "help-desk@v1", "help-desk@v2")
    assert (gone.exit_code, gone.stdout) == (2, "")
    assert f"the bytes of {DIGESTS['v1']} are not kept any more" in gone.stderr
    publish(api, namespace, blanks=" ")
    changed = run("diff", "help-desk@v1", "help-desk@v2")
    assert (changed.exit_code, changed.stdout) == (2, "")
    assert f"the ConfigMap headwater.help-desk.{DIGESTS['v1'].short}: " in changed.stderr
    assert "its bytes were changed, so it is not used" in changed.stderr
    unknown = run("diff", "help-desk@v7", "help-desk@v1")
    assert unknown.exit_code == 2
    assert "no published version 'v7'; there are v1, v2" in unknown.stderr


def test_what_is_not_there_is_answered_with_what_is(
    run: Run, api: Api, namespace: str, canary: Object
) -> None:
    """Names of the same namespace, else the namespace that has it, else that there is none."""
    for command in ("get", "history", "why"):
        done = run(command, "helpdesk")
        assert done.exit_code == 1
        assert (
            f"no PromptPrefix 'helpdesk' in the namespace '{namespace}'; there are help-desk."
            in (done.stderr)
        )
    empty = f"{namespace}-empty"
    api.create(NAMESPACE, {"metadata": {"name": empty}})
    try:
        elsewhere = run("get", "help-desk", "-n", empty, here=False)
        assert f"try -n {namespace}" in elsewhere.stderr or "it is in" in elsewhere.stderr
        nowhere = run("get", secrets.token_hex(4), "-n", empty, here=False)
        assert "nor any" in nowhere.stderr
        none = run("get", "-n", empty, here=False)
        assert (none.exit_code, none.stdout) == (0, "")
        assert f"there is no PromptPrefix in the namespace '{empty}'" in none.stderr
    finally:
        api.leave(empty)


def changed_fields(before: Any, after: Any, path: str = "spec") -> set[str]:
    """The paths of the fields that differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        return {
            found
            for key in before.keys() | after.keys()
            for found in changed_fields(before.get(key), after.get(key), f"{path}.{key}")
        }
    return set() if before == after else {path}


STEERED: dict[str, tuple[dict[str, Any], str, Any, str]] = {
    "approve": ({}, "spec.rollout.approvedDigest", DIGESTS["v2"], "v2 is approved."),
    "pause": ({}, "spec.suspend", True, "it stands still until `headwater resume`."),
    "resume": ({"suspend": True}, "spec.suspend", False, "it goes on."),
    "retry": ({"retry": 3}, "spec.retry", 4, "v2 is tried again."),
}


@pytest.mark.parametrize("command", STEERED)
def test_a_decision_changes_one_field_and_nothing_else(
    command: str, run: Run, api: Api, namespace: str
) -> None:
    """As the person who types, under the command line's own name; a dry run changes nothing."""
    spec, path, value, meaning = STEERED[command]
    put(api, namespace, {**PROGRESSING, "spec": {**PROGRESSING["spec"], **spec}})
    before = api.get(PROMPT_PREFIX, namespace, "help-desk")

    dry = run(command, "help-desk", "--cluster", "--dry-run")
    assert dry.exit_code == 0, dry.stderr
    shown = [line for line in dry.stdout.splitlines() if line[0] == "+" and line[:3] != "+++"]
    assert [line.split(":")[0].strip("+ ") for line in shown] == [path.rpartition(".")[2]]
    assert api.get(PROMPT_PREFIX, namespace, "help-desk") == before

    done = run(command, "help-desk", "--cluster")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[0].endswith(meaning)
    assert f"headwater {command} help-desk -f FILE" in done.stdout
    after = api.get(PROMPT_PREFIX, namespace, "help-desk")
    assert changed_fields(before["spec"], after["spec"]) == {path}
    found = after
    for name in path.split("."):
        found = found[name]
    assert found == value
    assert after["status"] == before["status"]
    mine = [
        entry
        for entry in after["metadata"]["managedFields"]
        if entry["manager"] == steer.FIELD_MANAGER
    ]
    assert len(mine) == 1

    if command != "retry":  # each number is another try
        again = run(command, "help-desk", "--cluster")
        assert again.exit_code == 1
        assert api.get(PROMPT_PREFIX, namespace, "help-desk") == after


def test_a_decision_that_would_have_no_effect_is_refused(
    run: Run, api: Api, namespace: str
) -> None:
    """What is stable needs no approval, no other try and no abort."""
    put(api, namespace, SETTLED)
    before = api.get(PROMPT_PREFIX, namespace, "help-desk")
    for command, message in (
        ("approve", "v1 of help-desk is stable: nothing is to be approved"),
        ("retry", "v1 of help-desk is stable: nothing is to be tried again"),
        ("abort", "help-desk declares its stable version already, v1"),
    ):
        done = run(command, "help-desk", "--cluster")
        assert done.exit_code == 1
        assert message in done.stderr
    assert api.get(PROMPT_PREFIX, namespace, "help-desk") == before


def test_an_abort_declares_the_stable_version_again(
    run: Run, api: Api, namespace: str, canary: Object
) -> None:
    """Version, digest and content; who approved what, the steps and all else stay."""
    referring = {"system": [{"textFrom": {"configMapKeyRef": {"name": "p", "key": "k"}}}]}
    api.patch(
        PROMPT_PREFIX,
        namespace,
        "help-desk",
        {
            "spec": {
                "version": "v3",
                "ttl": "1h",
                "content": {
                    "tools": None,
                    "toolsFrom": referring["system"][0]["textFrom"],
                    **referring,
                },
            }
        },
    )
    before = api.get(PROMPT_PREFIX, namespace, "help-desk")
    dry = run("abort", "help-desk", "--cluster", "--dry-run")
    assert dry.exit_code == 0, dry.stderr
    assert "+  version: v1" in dry.stdout.splitlines()
    assert api.get(PROMPT_PREFIX, namespace, "help-desk") == before

    done = run("abort", "help-desk", "--cluster")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(
        f"help-desk: v1 is declared again ({DIGESTS['v1']}), v3 is not.\n"
        "Its content stands in the manifest now; before, it came from ConfigMaps.\n"
    )
    assert "git revert" in done.stdout
    after = api.get(PROMPT_PREFIX, namespace, "help-desk")
    assert {path.split(".")[1] for path in changed_fields(before["spec"], after["spec"])} == {
        "version",
        "digest",
        "ttl",
        "content",
    }
    written = json.dumps(PROGRESSING | {"spec": after["spec"]})
    digest = CliRunner().invoke(main, ["digest", "-f", "-", "--check"], input=written)
    assert digest.exit_code == 0, digest.stderr
    assert digest.stdout.startswith(DIGESTS["v1"])


def test_a_change_in_between_makes_it_decide_again(
    run: Run, api: Api, namespace: str, canary: Object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is written all the time; what somebody else decided meanwhile is respected."""
    meanwhile = [{"retry": 1}, {"suspend": True}]

    async def slowly(*arguments: Any) -> Object:
        body = await find(*arguments)
        if meanwhile:
            api.patch(PROMPT_PREFIX, namespace, "help-desk", {"spec": meanwhile.pop(0)})
        return body

    monkeypatch.setattr("headwater.cli.steer.find", slowly)
    done = run("pause", "help-desk", "--cluster")
    assert done.exit_code == 1
    assert "help-desk stands still already" in done.stderr
    assert not meanwhile
    meanwhile = [{"retry": 6}]
    assert run("retry", "help-desk", "--cluster").exit_code == 0
    assert api.get(PROMPT_PREFIX, namespace, "help-desk")["spec"]["retry"] == 7


def test_nobody_may_do_more_than_the_api_server_lets_them(
    run: Run, cluster: Cluster, namespace: str, tmp_path: Path, canary: Object
) -> None:
    """A reader reads and decides nothing; the API server's own words say why."""
    cluster.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    role = ("--verb=get,list,watch", "--resource=promptprefixes.headwater.dev", "-n", namespace)
    cluster.kubectl("create", "role", "reader", *role)
    account = f"--serviceaccount={namespace}:reader"
    cluster.kubectl("create", "rolebinding", "reader", "--role=reader", account, "-n", namespace)
    token = cluster.kubectl("create", "token", "reader", "-n", namespace).stdout
    config = json.loads(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    other = tmp_path / "kubeconfig"
    other.write_text(json.dumps(config))
    kubeconfig = {"KUBECONFIG": str(other)}
    wait_until(lambda: run("get", "help-desk", **kubeconfig).exit_code == 0, 10, "it may read")
    done = run("pause", "help-desk", "--cluster", **kubeconfig)
    assert done.exit_code == 1
    assert "reader" in done.stderr
    assert 'cannot patch resource "promptprefixes"' in done.stderr


def test_another_context_has_its_own_namespace(
    run: Run, cluster: Cluster, namespace: str, tmp_path: Path, canary: Object
) -> None:
    """As kubectl has it; a context that is not there is named."""
    config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json").stdout)
    here = config["contexts"][0]["context"] | {"namespace": namespace}
    config["contexts"].append({"name": "here", "context": here})
    both = tmp_path / "kubeconfig"
    both.write_text(json.dumps(config))
    kubeconfig = {"KUBECONFIG": str(both)}
    done = run("get", "help-desk", "--context", "here", here=False, **kubeconfig)
    assert done.exit_code == 0, done.stderr
    assert run("get", "help-desk", here=False, **kubeconfig).exit_code == 1
    missing = run("get", "--context", "nowhere", here=False, **kubeconfig)
    assert missing.exit_code == 1
    assert "nowhere" in missing.stderr


def test_a_cluster_without_our_resources_or_without_an_answer(
    bare_control_plane: ControlPlane, tmp_path: Path
) -> None:
    """Each is told from the other, and from a prefix that is not there."""
    environment = bare_control_plane.environment
    for arguments in (("get",), ("get", "help-desk"), ("pause", "help-desk", "--cluster")):
        done = CliRunner().invoke(main, arguments, env=environment)
        assert done.exit_code == 1
        assert "this cluster has no PromptPrefix: install Headwater's resources" in done.stderr
    config = json.loads(bare_control_plane.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    elsewhere = environment | {"KUBECONFIG": str(tmp_path / "kubeconfig")}
    done = CliRunner().invoke(main, ["get"], env=elsewhere)
    assert done.exit_code == 1
    assert "the API server does not answer" in done.stderr


def started(cluster: Cluster, *arguments: str, **environment: str) -> dict[str, Any]:
    """How a process of the command line is started."""
    script = "from headwater.cli import main; main(prog_name='headwater')"
    return {
        "args": [sys.executable, "-u", "-c", script, *arguments],
        "env": {**os.environ, **cluster.environment, **environment},
    }


@contextmanager
def reading(descriptor: int) -> Iterator[bytearray]:
    """What comes out of a pipe or a terminal, as it comes."""
    seen = bytearray()

    def read() -> None:
        try:
            while chunk := os.read(descriptor, 4096):
                seen.extend(chunk)
        except OSError:  # the process has ended, and with it the terminal
            return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        reader.join(20)


def test_changes_are_printed_as_they_come(
    cluster: Cluster, api: Api, namespace: str, canary: Object
) -> None:
    """Where there is no terminal: a block for each change, none for what changes nothing shown."""
    watching = started(cluster, "get", "help-desk", "-w", "-n", namespace)
    with subprocess.Popen(**watching, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with reading(process.stdout.fileno()) as seen:

            def phases() -> list[bytes]:
                lines = bytes(seen).splitlines()
                return [line.split()[1] for line in lines if line.startswith(b"help-desk")]

            try:
                wait_until(lambda: phases() == [b"Progressing"], 20, "it is shown")
                label = {"metadata": {"labels": {"seen": "yes"}}}
                api.patch(PROMPT_PREFIX, namespace, "help-desk", label)
                status = {"status": {"phase": "Stable", "message": "v2 it is", "candidate": None}}
                api.patch(PROMPT_PREFIX, namespace, "help-desk", status, subresource="/status")
                wait_until(lambda: phases() == [b"Progressing", b"Stable"], 20, "so is the change")
            finally:
                process.send_signal(signal.SIGINT)
        assert process.wait(scaled(30)) == 0
    assert b"\nv2 it is\n" in seen
    assert b"\x1b" not in seen


@pytest.mark.slow
def test_an_outage_is_outlasted_and_a_deletion_ends_it(lent_control_plane: ControlPlane) -> None:
    """What changed meanwhile is shown; of what is gone there is nothing more to show."""
    with Api(lent_control_plane) as api:
        put(api, "default", PROGRESSING)
    watching = started(lent_control_plane, "get", "help-desk", "-w")
    with subprocess.Popen(**watching, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        with reading(process.stdout.fileno()) as seen, reading(process.stderr.fileno()) as told:
            try:
                wait_until(lambda: b"Progressing" in seen, 20, "it is shown")
                lent_control_plane.stop_api_server()
                wait_until(lambda: b"trying again in 1 s" in told, 20, "the outage is told")
                lent_control_plane.start_api_server()
                with Api(lent_control_plane) as api:
                    status = {"status": {"phase": "Stable", "candidate": None}}
                    api.patch(PROMPT_PREFIX, "default", "help-desk", status, subresource="/status")
                    wait_until(lambda: b"Stable" in seen, 40, "the change is shown")
                    api.delete(PROMPT_PREFIX, "default", "help-desk")
                lent_control_plane.stop_api_server()
                lent_control_plane.start_api_server()
                wait_until(lambda: b"help-desk was deleted" in told, 40, "the deletion is told")
                assert process.wait(scaled(30)) == 1
            finally:
                process.kill()


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_shows_one_tree_that_changes(
    *, colour: bool, cluster: Cluster, api: Api, namespace: str, canary: Object
) -> None:
    """In colour, unless NO_COLOR is set."""
    ours, its = pty.openpty()
    environment = {"TERM": "xterm", "COLUMNS": "80"} | ({} if colour else {"NO_COLOR": "1"})
    watching = started(cluster, "get", "help-desk", "-w", "-n", namespace, **environment)
    with subprocess.Popen(**watching, stdin=its, stdout=its) as process:
        os.close(its)
        with reading(ours) as seen:
            try:
                wait_until(lambda: b"Progressing" in seen, 20, "it is shown")
                status = {"status": {"phase": "Stable", "candidate": None}}
                api.patch(PROMPT_PREFIX, namespace, "help-desk", status, subresource="/status")
                wait_until(lambda: b"Stable" in seen, 20, "the change is shown")
            finally:
                process.send_signal(signal.SIGINT)
        assert process.wait(scaled(30)) == 0
    os.close(ours)
    assert (b"\x1b[32mStable" in seen) is colour


def test_kubectl_finds_it_as_a_plugin(
    cluster: Cluster, namespace: str, tmp_path: Path, canary: Object
) -> None:
    """`kubectl headwater get` is `headwater get`."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["kubectl-headwater"] == scripts["headwater"] == "headwater.cli:main"
    plugin = tmp_path / "kubectl-headwater"
    plugin.write_text(f"#!{sys.executable}\nfrom headwater.cli import main\nmain()\n")
    plugin.chmod(0o755)
    done = subprocess.run(
        [cluster.kubectl_binary, "headwater", "get", "help-desk", "-n", namespace],
        env={
            **os.environ,
            **cluster.environment,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=scaled(60),
    )
    assert done.stdout.startswith("help-desk  Progressing  of ai-platform")
