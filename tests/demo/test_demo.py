"""Tests that run ``pulltrace demo`` in its own process, as users do, and observe the demo over HTTP."""

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

import pulltrace
from tests.patience import PATIENCE

ENDS_WITHIN = 25.0  # stopping takes two seconds on an idle machine


async def start(*arguments):
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PULLTRACE_", "KUBE"))}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pulltrace", "demo", *arguments),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def said(process, word):
    """Return the first line in the log that contains the given word."""
    async with asyncio.timeout(PATIENCE):
        while line := (await process.stdout.readline()).decode():
            if word in line:
                return json.loads(line)
    raise AssertionError(f"the demo ended without logging {word}")


@pytest.fixture
async def demo():
    """A demo with four nodes that runs at four times the normal speed, and an HTTP client for it."""
    process = await start("--nodes", "4", "--speed", "4", "--port", "0")
    try:
        line = await said(process, "dashboard")
        url = line["msg"].partition("http://")[2].partition("/")[0]
        async with aiohttp.ClientSession(f"http://{url}/") as client:
            yield process, client, line
    finally:
        if process.returncode is None:
            process.terminate()  # SIGKILL would leave the directory with the sockets behind
        await asyncio.wait_for(process.communicate(), ENDS_WITHIN)


async def pulls(client, **query):
    async with client.get("api/v1/pulls", params=query) as answer:
        return (await answer.json())["pulls"]


async def eventually(look, within=PATIENCE):
    async with asyncio.timeout(within):
        while not (answer := await look()):  # noqa: ASYNC110  # another process cannot set an event
            await asyncio.sleep(0.1)
    return answer


async def test_several_pulls_make_progress_at_the_same_time(demo):
    _, client, _ = demo

    async def in_motion():
        return {
            (pull["id"], layer["digest"]): layer["downloadedBytes"]
            for pull in await pulls(client)
            if pull["status"] == "downloading"
            for layer in pull["layers"]
            if layer.get("state") == "downloading"
        }

    async def growing():
        before = await in_motion()
        await asyncio.sleep(1.5)  # wait for at least one more report from each agent
        now = await in_motion()
        moved = {pull for (pull, digest), count in before.items() if now.get((pull, digest), 0) > count}
        return len(moved) >= 2

    await eventually(growing)


async def test_a_pull_that_begins_when_the_demo_starts_is_shown(demo):
    """An agent ignores leases that are older than containerd's socket."""
    _, client, _ = demo

    async def the_largest_arrives():
        return [pull for pull in await pulls(client, status="downloading") if "vllm" in pull["imageRef"]]

    await eventually(the_largest_arrives)


async def test_the_simulated_nodes_do_not_have_the_load_of_this_machine(demo):
    _, client, _ = demo

    async def loads():
        async with client.get("api/v1/nodes") as answer:
            nodes = (await answer.json())["nodes"]
        return [node["load"] for node in nodes if "load" in node]

    assert {name for load in await eventually(loads) for name in load} == {"seconds"}


async def test_every_node_reports_and_the_dashboard_responds(demo):
    _, client, line = demo

    async def all_there():
        async with client.get("api/v1/nodes") as answer:
            nodes = (await answer.json())["nodes"]
        return len(nodes) == 4 and {node["state"] for node in nodes} == {"reporting"}

    await eventually(all_there)
    built = (Path(pulltrace.__file__).parent / "server/static/index.html").exists()  # npm builds the page
    async with client.get("") as page:
        assert page.status == (200 if built else 503)
        assert page.content_type == "text/html"
    async with client.get(line["metrics"]) as metrics:
        assert "pulltrace_pulls_active" in await metrics.text()


class Stream:
    """A client of ``/api/v1/events``, which keeps the newest state of each pull and the last event id."""

    def __init__(self):
        self.newest = {}
        self.place = None
        self.first = []

    async def read(self, client, *, until=None, seconds=None):
        headers = {"Last-Event-ID": self.place} if self.place else {}
        self.first = []
        try:
            async with asyncio.timeout(seconds), client.get("api/v1/events", headers=headers) as answer:
                name = None
                async for raw in answer.content:
                    key, _, value = raw.decode().rstrip("\n").partition(": ")
                    if key == "event":
                        name = value
                        self.first.append(value)
                    elif key == "id":
                        self.place = value
                    elif key == "data" and name is None:
                        self._take(json.loads(value))
                    elif not key:
                        name = None
                        if until and until(self):
                            return
        except TimeoutError:
            if until:
                raise

    def _take(self, event):
        self.first.append(event["type"])
        if event["type"] == "pull.removed":
            self.newest.pop(event["pull"]["id"], None)
        else:
            self.newest[event["pull"]["id"]] = event["pull"]


async def test_a_client_resumes_the_stream_without_losing_events(demo):
    _, client, _ = demo
    broken, whole = Stream(), Stream()
    until_many = lambda stream: sum(pull["status"] == "completed" for pull in stream.newest.values()) >= 12  # noqa: E731

    async def now_and_then():
        await broken.read(client, seconds=2)
        while not until_many(broken):
            place = broken.place
            await asyncio.sleep(1)
            await broken.read(client, seconds=2)
            assert "reset" not in broken.first
            assert broken.place != place

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(now_and_then(), whole.read(client, until=until_many))
    over = {key: pull for key, pull in whole.newest.items() if pull["status"] in ("completed", "failed")}
    await broken.read(client, seconds=1)
    missed = {key for key, pull in over.items() if broken.newest.get(key, {}).get("status") != pull["status"]}
    # A failed pull may already have started its next attempt, so an event counts as lost only if no newer state has
    # arrived.
    assert all(broken.newest[key]["attempt"] > over[key]["attempt"] for key in missed)


async def test_the_demo_stops_promptly_while_a_stream_is_open(demo):
    process, client, _ = demo
    async with client.get("api/v1/events") as answer:
        await answer.content.readline()
        process.terminate()
        async with asyncio.timeout(ENDS_WITHIN):
            await process.communicate()
    assert process.returncode == 0


async def test_a_port_that_is_already_in_use_is_reported_clearly():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await start("--port", str(port))
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 1
    (line,) = output.splitlines()
    assert f"port {port} of 127.0.0.1 is in use" in json.loads(line)["msg"]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--nodes", "0"), id="no nodes"),
        pytest.param(("--nodes", "many"), id="nodes that are not a number"),
        pytest.param(("--speed", "nan"), id="a speed that is not a number"),
        pytest.param(("--speed", "-1"), id="a negative speed"),
        pytest.param(("--port", "65536"), id="an impossible port"),
        pytest.param(("--fast",), id="an unknown option"),
    ],
)
async def test_invalid_arguments_are_reported_and_cause_exit_status_2(arguments):
    process = await start(*arguments)
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 2
    assert b"usage: pulltrace" in output
