"""What the assembly library costs a program: its import, its memory, its share of a request."""

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import headwater
from bench.rows import Row
from headwater.client.audit import audit
from headwater.contract.content import canonical_bytes, content

_PROCESSES = 15
_REQUESTS = 2000
_MODEL = "claude-opus-4-8"
_HISTORY = [
    {
        "role": ("user", "assistant")[number % 2],
        "content": f"Number {number} of what was said in this conversation. " * 4,
    }
    for number in range(49)
]
_RESIDENT = "import re; print(re.search(r'VmRSS:\\s+(\\d+)', open('/proc/self/status').read())[1])"
_USED = (
    "import headwater; from pathlib import Path; headwater.load(Path({!r})).request("
    "model='m', messages=[{{'role': 'user', 'content': 'x'}}])"
)


def contract_of_20kb() -> bytes:
    """A contract of ten tools and some prose."""
    tools = [
        {
            "name": f"tool_{number}",
            "description": "Looks something up for the person who asks. " * 9,
            "input_schema": {
                "type": "object",
                "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}},
            },
        }
        for number in range(10)
    ]
    return canonical_bytes(
        content(tools=tools, system=[{"text": "Answer in whole sentences.\n" * 560}], ttl="5m")
    )


def measure() -> list[Row]:
    """Medians; the import and the memory are those of a fresh process, less a bare one's."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "contract.json"
        file.write_bytes(contract_of_20kb())
        contract = headwater.load(file)
        used = _USED.format(str(file))
        talk = conversation_of_1mb(contract)
        return [
            Row("library.import", _process_ms("import headwater"), "ms", "<= 30"),
            Row("library.first_request", _process_ms(used), "ms"),
            Row("rss.library", round(_resident_mb(used) - _resident_mb("pass"), 1), "MB", "<= 12"),
            Row(
                "library.request_20kb",
                _microseconds(
                    lambda: contract.request(
                        model=_MODEL, messages=_HISTORY, system="You bill.", strategy="A"
                    )
                ),
                "us",
                "<= 60",
            ),
            Row("library.turn_1mb", _microseconds(talk.request) / 1000, "ms", "<= 1"),
            Row("audit.10k_requests", _audit_seconds(), "s", "<= 30"),
        ]


def _audit_seconds() -> float:
    """Of 100 KB each, from seven teams, every tenth with a line of its own at the start."""
    text = "You answer for the company, in whole sentences. " * 2000
    lines = [
        json.dumps(
            {
                "team": f"team-{number % 7}",
                "model": _MODEL,
                "system": (f"Visitor {number}. " if number % 10 == 0 else "") + text,
                "messages": [{"role": "user", "content": f"Question {number}"}, *_HISTORY[1:21]],
            }
        ).encode()
        for number in range(200)
    ]
    started = time.perf_counter()
    audit(itertools.islice(itertools.cycle(lines), 10_000))
    return round(time.perf_counter() - started, 1)


def conversation_of_1mb(contract: headwater.Contract) -> headwater.Conversation:
    """Five hundred messages, two blocks each, on which the next turn is asked."""
    talk = headwater.Conversation(contract, model=_MODEL, system="You bill.")
    said = [{"type": "text", "text": "What was found, as it was found. " * 31}] * 2
    for number in range(500):
        if number % 2:
            talk.add({"content": said})
        else:
            talk.user(said)
    talk.user("And now?")
    return talk


def _microseconds(act: Callable[[], object]) -> float:
    timed = []
    for _ in range(_REQUESTS):
        started = time.perf_counter()
        act()
        timed.append((time.perf_counter() - started) * 1e6)
    return round(statistics.median(timed), 1)


def _process_ms(script: str) -> float:
    """What it takes longer than a bare interpreter; in turns, for other work comes and goes."""
    differences = []
    for _ in range(_PROCESSES):
        bare, whole = _run_ms("pass"), _run_ms(script)
        differences.append(whole - bare)
    return round(statistics.median(differences), 1)


def _run_ms(script: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True)
    return (time.perf_counter() - started) * 1000


def _resident_mb(script: str) -> float:
    command = [sys.executable, "-c", f"{script}; {_RESIDENT}"]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(5)]
    return round(statistics.median(int(run.stdout) for run in runs) * 1024 / 1e6, 1)
