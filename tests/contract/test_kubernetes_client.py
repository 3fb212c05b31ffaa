"""Tests for a method of kubernetes-asyncio's generated client, the only undocumented part of the client that this
project uses.

`pyproject.toml` restricts the library to versions that pass these tests.
"""

import asyncio
import inspect
import json

import aiohttp
from aiohttp import web
from kubernetes_asyncio.client import ApiClient, Configuration

from tests.real.process import free_port


async def served(received: list[web.Request], body: bytes = b'{"kind":"PodList"}') -> tuple[web.AppRunner, str]:
    """Start a server that records the requests it receives, and return the server's runner and URL."""

    async def respond(request: web.Request) -> web.StreamResponse:
        await request.read()
        received.append(request)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(body)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", respond)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, f"http://127.0.0.1:{port}"


async def test_a_call_sends_its_query_body_and_token_and_returns_an_unread_response() -> None:
    received: list[web.Request] = []
    runner, url = await served(received)
    configuration = Configuration(host=url)
    configuration.api_key["BearerToken"] = "Bearer secret"
    client = ApiClient(configuration)
    client.user_agent = "pulltrace/0"
    try:
        response = await client.call_api(
            "/api/v1/pods",
            "POST",
            query_params=[("limit", "500"), ("watch", "true")],
            body={"kind": "Pod"},
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=aiohttp.ClientTimeout(sock_connect=5, sock_read=5),
        )
        assert isinstance(response, aiohttp.ClientResponse)
        assert (response.status, await response.content.readany()) == (200, b'{"kind":"PodList"}')
    finally:
        await client.close()
        await runner.cleanup()
    [request] = received
    assert (request.method, request.path_qs) == ("POST", "/api/v1/pods?limit=500&watch=true")
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["User-Agent"] == "pulltrace/0"
    assert json.loads(await request.text()) == {"kind": "Pod"}


def test_the_client_methods_accept_all_the_arguments_that_this_project_passes() -> None:
    passed = {"query_params", "body", "header_params", "auth_settings", "_preload_content", "_request_timeout"}
    assert passed <= set(inspect.signature(ApiClient.call_api).parameters)
    assert asyncio.iscoroutinefunction(ApiClient.close)
