"""A gateway before the provider that renders what it takes for a template: run in a pod.

It shows what no digest can: the bytes that left the sidecar were the contract's.
"""

import sys
import time
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

PLACEHOLDER = "It is the hour that the gateway puts here."
session = web.AppKey("session", aiohttp.ClientSession)


async def client(app: web.Application) -> AsyncIterator[None]:
    """One session for all requests."""
    async with aiohttp.ClientSession() as app[session]:
        yield


async def forward(request: web.Request) -> web.Response:
    """Pass on a request with the time in it, and its answer."""
    body = (await request.read()).replace(PLACEHOLDER.encode(), b"%d" % time.time_ns())
    headers = {
        name: value
        for name, value in request.headers.items()
        if name.lower() not in {"content-length", "host"}
    }
    url = sys.argv[1] + request.raw_path
    async with request.app[session].post(url, data=body, headers=headers) as answer:
        return web.json_response(body=await answer.read(), status=answer.status)


if __name__ == "__main__":
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.cleanup_ctx.append(client)
    app.router.add_post("/{path:.*}", forward)
    web.run_app(app, port=8080, print=None)
