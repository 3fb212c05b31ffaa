"""Tests for the agent's calls to a simulated containerd, the calls' deadlines, and how the agent process exits."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web

from pulltrace.agent import grpc_client
from pulltrace.agent import poller as polling
from pulltrace.agent.containerd import Containerd, ContainerdError
from pulltrace.agent.grpc_client import AT_ONCE
from pulltrace.agent.poller import RESTS, Poller
from pulltrace.demo.grpc_server import Behaviour, SimulatedContainerd
from tests.agent.conftest import HOST, MIB
from tests.e2e.programs import Program
from tests.patience import PATIENCE

READ_ONLY = {
    "/containerd.services.version.v1.Version/Version",
    "/containerd.services.content.v1.Content/ListStatuses",
    "/containerd.services.content.v1.Content/Info",
    "/containerd.services.content.v1.Content/Read",
    "/containerd.services.leases.v1.Leases/List",
    "/containerd.services.leases.v1.Leases/ListResources",
    "/containerd.services.images.v1.Images/List",
    "/containerd.services.snapshots.v1.Snapshots/Stat",
    "/containerd.services.introspection.v1.Introspection/Plugins",
    "/runtime.v1.ImageService/ImageFsInfo",
    "/containerd.services.events.v1.Events/Subscribe",
}
"""All methods that the agent may call. They are all read-only."""

SILENCE = """
import sys
from pulltrace.agent.run import watch
from pulltrace.cli import run_until_stopped
from pulltrace.settings import AgentSettings, load
settings = load(AgentSettings, {"PULLTRACE_NODE_NAME": "a", "PULLTRACE_CONTAINERD_SOCKET": sys.argv[1]})
sys.exit(run_until_stopped(watch(settings, silence_limit=0.5), settings.log_level))
"""

NO_RESOLVER = """
import socket, sys, time
from pulltrace.cli import main
def getaddrinfo(*_, **__):
    print("looking up", flush=True)
    time.sleep(60)
socket.getaddrinfo = getaddrinfo
sys.exit(main(["agent"]))
"""


@pytest.fixture
async def containerd(simulated) -> AsyncIterator[SimulatedContainerd]:
    with tempfile.TemporaryDirectory(
        prefix="pulltrace-"
    ) as folder:  # a short name, because a socket path may be at most 107 bytes long
        async with SimulatedContainerd(simulated, Path(folder) / "containerd.sock") as running:
            yield running


@pytest.fixture
async def client(containerd) -> AsyncIterator[Containerd]:
    async with Containerd(str(containerd.socket)) as client:
        yield client


async def test_every_call_by_the_agent_is_read_only(containerd, client, simulated, push):
    poller = Poller(client)
    await client.version()
    first, image = push("one:1", ("base", 20), ("one", 4))
    simulated.registries.limits[image.layers[0].blob.digest] = 5 * MIB
    simulated.pull(first)
    simulated.pull(push("two:1", ("base", 20), ("two", 4), multi_arch=False)[0])
    cancelled = simulated.pull(push("three:1", ("three", 40))[0])
    for number in range(40):
        simulated.advance(0.5)
        if number == 4:
            cancelled.cancel()
        if number == 6:
            simulated.crash()
            poller.tracker.containerd_restarted()
            simulated.pull(first)
        await poller.poll(simulated.now)
    assert poller.tracker.ended()
    assert set(containerd.calls) == READ_ONLY


async def test_every_fifth_idle_poll_makes_two_calls_and_all_other_idle_polls_make_one(containerd, client, simulated):
    poller = Poller(client)
    await poller.poll(simulated.now)
    containerd.calls.clear()
    for _ in range(2 * (RESTS + 1)):
        await poller.poll(simulated.now)
    assert containerd.calls == {
        "/containerd.services.content.v1.Content/ListStatuses": 2,
        "/containerd.services.leases.v1.Leases/List": 2 * (RESTS + 1),
    }


async def test_a_download_without_a_lease_is_noticed_on_an_idle_node(client, simulated, push):
    poller = Poller(client)
    await poller.poll(simulated.now)
    pull = simulated.pull(push("app:1", ("app", 100))[0])
    simulated.advance(1)
    simulated.store.leases.pop(pull.lease.id)
    simulated.store.collect = lambda: None
    for _ in range(RESTS + 2):
        simulated.advance(0.2)
        await poller.poll(simulated.now)
    assert [live.id.partition("-")[0] for live in poller.tracker.pulls()] == ["fetch"]


async def test_a_pull_that_begins_after_idle_polls_is_not_mistaken_for_one_that_began_before_the_agent_started(
    client, simulated, push
):
    poller = Poller(client)
    await poller.poll(simulated.now)
    ref, image = push("app:1", ("app", 20))
    simulated.registries.holds[image.layers[0].blob.digest] = 5 * MIB
    pull = simulated.pull(ref)
    simulated.advance(5)
    await poller.poll(simulated.now)
    simulated.advance(600)  # long enough for the agent to drop a lease that is older than the agent
    for _ in range(3):
        await poller.poll(simulated.now)
    assert [live.id for live in poller.tracker.pulls()] == [pull.lease.id]


async def test_each_manifest_and_config_is_read_only_once(containerd, client, simulated, push):
    poller = Poller(client)
    for name in ("one:1", "one:2"):
        simulated.pull(push(name, ("base", 20))[0])
        for _ in range(10):
            simulated.advance(0.5)
            await poller.poll(simulated.now)
    reads = containerd.calls["/containerd.services.content.v1.Content/Read"]
    assert reads <= 2 * 6, "an index, a manifest and a config are each read twice: one byte, then everything"


async def test_calls_that_get_no_response_do_not_delay_other_calls(client, simulated, push, monkeypatch):
    """Calls that hang at the same time share a single deadline."""
    loop = asyncio.get_running_loop()
    clock, skipped = loop.time, 0.0
    hanging, most = 0, 0

    async def hang(*_: object) -> None:
        nonlocal hanging, most, skipped
        hanging += 1
        most = max(most, hanging)
        if hanging == AT_ONCE:
            skipped += polling.DEADLINE
        try:
            await asyncio.Event().wait()
        finally:
            hanging -= 1

    monkeypatch.setattr(client, "snapshot", hang)
    for module in (polling, grpc_client):
        monkeypatch.setattr(module, "DEADLINE", 1000.0)
    monkeypatch.setattr(loop, "time", lambda: clock() + skipped)
    poller = Poller(client)
    await poller.poll(simulated.now)
    simulated.registries.manners[HOST].latency = 0.0
    ref, image = push("app:1", *((f"layer-{number}", 1) for number in range(300)))
    simulated.registries.holds[image.layers[-1].blob.digest] = 0
    simulated.pull(ref)
    simulated.advance(100)
    await poller.poll(simulated.now)
    (live,) = poller.tracker.pulls()
    assert [bool(layer.completed_at) for layer in live.layers] == [True] * 299 + [False]
    assert most == AT_ONCE
    assert hanging == 0


async def test_a_call_to_a_hung_containerd_fails_at_the_deadline(containerd, client, monkeypatch):
    await client.version()
    containerd.behave(Behaviour.SILENT)
    monkeypatch.setattr(grpc_client, "DEADLINE", 0.2)
    with pytest.raises(ContainerdError, match="DEADLINE_EXCEEDED"):
        await client.leases()
    containerd.behave(Behaviour.NORMAL)


async def test_a_poll_with_an_invalid_response_fails_but_the_next_poll_succeeds(containerd, client, simulated):
    poller = Poller(client)
    containerd.behave(Behaviour.INVALID)
    with pytest.raises(ContainerdError):
        await poller.poll(simulated.now)
    containerd.behave(Behaviour.NORMAL)
    await poller.poll(simulated.now)


async def test_the_live_pulls_end_if_the_connection_is_lost_between_two_polls(containerd, client, simulated, push):
    poller = Poller(client)
    simulated.pull(push("app:1", ("app", 60))[0])
    for _ in range(3):
        simulated.advance(1)
        await poller.poll(simulated.now)
    assert poller.tracker.pulls()
    await containerd.kill()
    await containerd.start()
    async with asyncio.timeout(PATIENCE):
        while client.connected:  # noqa: ASYNC110  # gRPC does not send a notification
            await asyncio.sleep(0.01)
    simulated.advance(1)
    await poller.poll(simulated.now)
    (ended,) = poller.tracker.ended()
    assert "containerd restarted" in ended.error


async def test_two_thousand_sandbox_leases_do_not_delay_the_agent(containerd, client, simulated):
    for number in range(2000):
        simulated.new_lease(expires=False).resources["content", f"sha256:{number:064x}"] = None
    poller = Poller(client)
    await poller.poll(simulated.now)
    assert not poller.tracker.pulls()


async def test_the_process_exits_with_one_clear_error_if_there_is_no_containerd(tmp_path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SILENCE, str(tmp_path / "no.sock"), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode == 1
    last = [json.loads(line) for line in output.splitlines()][-1]
    assert last["level"] == "error"
    assert "did not respond for 0.5 s" in last["msg"]
    assert "no.sock" in last["msg"]
    assert len([line for line in output.splitlines() if b'"error"' in line and b"did not respond" in line]) == 1


async def test_the_agent_reports_every_mistake_in_its_configuration_and_exits_with_status_2():
    wrong = Program("agent", NODE_NAME="Not_A_Name", REPORT_INTERVAL="1", SERVER_URL="ftp://x", AGENT_TOKEN="a b")
    async with wrong:
        async with asyncio.timeout(PATIENCE):
            assert await wrong.process.wait() == 2
            await wrong._reading
    for name in ("NODE_NAME", "REPORT_INTERVAL", "SERVER_URL", "AGENT_TOKEN"):
        assert f"PULLTRACE_{name}" in wrong.output
    assert "a b" not in wrong.output, "a token is never printed"
    assert "Traceback" not in wrong.output


async def test_the_agent_stops_promptly_even_if_no_name_server_responds(containerd):
    variables = {"NODE_NAME": "a", "SERVER_URL": "http://server.test", "CONTAINERD_SOCKET": str(containerd.socket)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", NO_RESOLVER),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {f"PULLTRACE_{name}": value for name, value in variables.items()},
    )
    async with asyncio.timeout(PATIENCE):
        while b"looking up" not in await process.stdout.readline():
            pass
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(25):
            assert await process.wait() == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()


@pytest.mark.parametrize(("scheme", "loaded"), [("http", False), ("https", True)])
async def test_the_agent_loads_openssl_only_for_https(containerd, unused_tcp_port, scheme, loaded):
    url = f"{scheme}://127.0.0.1:{unused_tcp_port}"
    async with Program("agent", NODE_NAME="a", SERVER_URL=url, CONTAINERD_SOCKET=str(containerd.socket)) as agent:
        async with asyncio.timeout(PATIENCE):
            while "report not accepted" not in agent.output:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        mapped = await asyncio.to_thread(Path(f"/proc/{agent.process.pid}/maps").read_text)
    assert ("libcrypto" in mapped or "_ssl" in mapped) is loaded


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
@pytest.mark.parametrize("server", ["answers", "hangs", "is away"])
async def test_the_agent_stops_promptly(containerd, unused_tcp_port, how, server):
    posted, release = asyncio.Event(), asyncio.Event()

    async def report(_: web.Request) -> web.Response:
        posted.set()
        if server == "hangs":
            await release.wait()
        return web.json_response({"bootId": "x"})

    app = web.Application()
    app.router.add_post("/api/v1/report", report)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    if server != "is away":
        await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    url = f"http://127.0.0.1:{unused_tcp_port}"
    agent = Program("agent", NODE_NAME="a", SERVER_URL=url, CONTAINERD_SOCKET=str(containerd.socket))
    async with agent:
        async with asyncio.timeout(PATIENCE):
            if server == "is away":
                while "report not accepted" not in agent.output:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            else:
                await posted.wait()
        assert await agent.stop(how, seconds=25) == 0, agent.output
    release.set()
    await runner.cleanup()
