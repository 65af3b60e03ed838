"""Where the search begins: one input of each kind, and words that a parser looks for."""

import gzip
import json
from collections.abc import Iterator
from typing import Any, Final

from fuzz.targets import BUNDLE, CONTRACT, CUT, DIGEST, MODEL, PATHS, PLACINGS
from headwater.contract.bundle import ROUTE_FILE, encode

WORDS: Final = (
    *("POST ", "GET ", "HEAD ", "CONNECT ", " HTTP/1.1\r\n", " HTTP/1.0\r\n", "\r\n\r\n", "\r\n"),
    *("host: a\r\n", "content-length: 2\r\n", "transfer-encoding: chunked\r\n", "0\r\n\r\n"),
    *("expect: 100-continue\r\n", "connection: close\r\n", "connection: upgrade\r\nupgrade: h2c"),
    *("content-encoding: gzip\r\n", "content-encoding: deflate\r\n", "trailer: a\r\n", "%6D"),
    *("/v1/messages", "/v1/messages/count_tokens", "/v1/messages/batches", "/p/org-core/v1/"),
    *("x-headwater-session: s\r\n", "x-headwater-prefix: org-core\r\n", "anthropic-beta: a\r\n"),
    *('"model":', '"tools":', '"system":', '"messages":', '"requests":', '"params":', '"role":'),
    *('"cache_control":', '"type":"ephemeral"', '"ttl":"1h"', '"defer_loading":true', '"text":'),
    *('"metadata":{"user_id":"u"}', '"thinking":', '"output_config":{"effort":"low"}', "null"),
    *('"stable":', '"candidate":', '"weight":', '"retained":', '"format":1', '"keptWarm":'),
    *("\\u0074ools", "\\ud800", "1e999", "\ufeff", "[[[[", "{}", "@DIGEST@"),
)


def _bodies() -> Iterator[bytes]:
    document = json.loads(CONTRACT)
    block = {"type": "text", "text": "own", "cache_control": {"type": "ephemeral", "ttl": "5m"}}
    own: dict[str, Any] = {"model": MODEL, "max_tokens": 5}
    asks = {"messages": [{"role": "user", "content": "hi"}]}
    for more in (
        {},
        {"system": "own", "tools": [{"name": "own", "defer_loading": True}]},
        {"system": [block], "cache_control": {"type": "ephemeral"}},
        {"system": document["system"], "tools": document["tools"]},
        {"metadata": {"user_id": "u"}, "thinking": {"type": "enabled"}, "stream": True},
    ):
        yield json.dumps(own | asks | more).encode()
    params = own | asks
    yield json.dumps({"requests": [{"custom_id": "a", "params": params}] * 2}).encode()


def requests() -> Iterator[bytes]:
    """Inputs of `targets.request`."""
    for body in _bodies():
        for path in range(len(PATHS)):
            yield bytes([0x80 | path]) + body
        head = b"\x20POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: k\r\n"
        yield head + b"content-length: %d\r\n\r\n%b" % (len(body), body)
        yield head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        packed = gzip.compress(body, mtime=0)
        yield (
            head + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (len(packed), packed)
        )
    # In pieces of one request each, so that the head is known from the second one on.
    short = json.dumps({"model": MODEL, "messages": []}).encode()
    again = b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(short)
    yield bytes([len(again + short)]) + (again + short) * 3
    yield b"\x00" + b"GET /v1/models?limit=5 HTTP/1.1\r\nhost: a\r\n\r\n" * 2
    yield b"\x03PUT /v1/files HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"


def placings() -> Iterator[bytes]:
    """Inputs of `targets.placing`."""
    asked = {"role": "user", "content": "hi"}
    tools = {"role": "assistant", "content": [{"type": "tool_use", "input": {}}] * 20}
    told = {"role": "user", "content": [{"type": "text", "text": "1", "cache_control": None}]}
    grown = {"model": MODEL, "messages": [asked, tools, told], "system": "own"}
    for body in (*_bodies(), json.dumps(grown).encode()):
        for number in range(len(PLACINGS)):
            yield bytes([number]) + body


def bundles() -> Iterator[bytes]:
    """Inputs of `targets.bundle`."""
    route = encode(BUNDLE)[ROUTE_FILE].replace(DIGEST.encode(), b"@DIGEST@")
    yield CUT.join((route, CONTRACT))
    yield CUT.join((route, b"", gzip.compress(CONTRACT, mtime=0)))
    yield route
