"""Tests for ``pulltrace local``: its settings, its socket, its dashboard, and its errors if there is no containerd."""

import asyncio
import os
import socket
import sys

import aiohttp
import pytest

from pulltrace.demo.grpc_server import SimulatedContainerd
from pulltrace.local import LocalError, load, node_name, run
from pulltrace.settings import Address, SettingsError
from tests.demo.conftest import HOST
from tests.patience import PATIENCE


def test_all_servers_listen_on_loopback_by_default():
    server, agent = load({})
    assert (server.http_addr, server.metrics_addr) == (Address("127.0.0.1", 8080), Address("127.0.0.1", 9090))
    assert agent.node_name == node_name(socket.gethostname())
    server, agent = load({"PULLTRACE_HTTP_ADDR": ":80", "PULLTRACE_NODE_NAME": "box", "PULLTRACE_METRICS_ADDR": " "})
    assert (server.http_addr, server.metrics_addr.port, agent.node_name) == (Address("", 80), 9090, "box")


def test_each_invalid_setting_is_reported_once_even_if_the_agent_and_the_server_share_it():
    environ = {"PULLTRACE_HISTORY_TTL": "soon", "PULLTRACE_REPORT_INTERVAL": "1", "PULLTRACE_LOG_LEVEL": "loud"}
    with pytest.raises(SettingsError) as caught:
        load(environ)
    assert sorted(mistake.partition("=")[0] for mistake in caught.value.mistakes) == sorted(environ)


@pytest.mark.parametrize(
    ("hostname", "name"),
    [
        ("Box", "box"),
        ("my_laptop.local", "my-laptop.local"),
        ("-x-.y", "x.y"),
        ("日本", "localhost"),
        ("", "localhost"),
    ],
)
def test_the_node_name_is_derived_from_the_host_name(hostname, name):
    assert node_name(hostname) == name


async def test_a_missing_socket_is_reported(tmp_path):
    server, agent = load({"PULLTRACE_CONTAINERD_SOCKET": str(tmp_path / "no.sock")})
    with pytest.raises(LocalError, match=r"no\.sock does not exist"):
        await run(server, agent)


async def test_a_socket_that_no_process_listens_on_is_reported(tmp_path):
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server, agent = load({"PULLTRACE_CONTAINERD_SOCKET": str(path)})
    with pytest.raises(LocalError, match="containerd does not respond at"):
        await run(server, agent)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user id")
async def test_the_error_contains_advice_if_the_user_has_no_permission_to_open_the_socket(folder):
    path = str(folder / "containerd.sock")
    server, agent = load({"PULLTRACE_CONTAINERD_SOCKET": path})
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        folder.chmod(0o711)
        os.seteuid(65534)
        try:
            with pytest.raises(LocalError, match=r"no permission to read .* sudo"):
                await run(server, agent)
        finally:
            os.seteuid(0)


async def local(environ, **options):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pulltrace", "local"),
        env=os.environ | {"PULLTRACE_HTTP_ADDR": "127.0.0.1:0", "PULLTRACE_METRICS_ADDR": "127.0.0.1:0"} | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        **options,
    )


async def test_the_dashboard_shows_a_pull_on_this_machine_and_the_process_exits_cleanly(node, push, folder):
    async with SimulatedContainerd(node, folder / "containerd.sock") as containerd:
        ref, image = push("app:1", ("base", 4), ("app", 6))
        node.pull(ref)
        node.advance(1)
        process = await local({"PULLTRACE_CONTAINERD_SOCKET": str(containerd.socket), "PULLTRACE_NODE_NAME": "box"})
        try:
            url = await asyncio.wait_for(where(process), PATIENCE)
            async with asyncio.timeout(PATIENCE), aiohttp.ClientSession(url) as client:
                pull = await first_pull(client)
        finally:
            process.terminate()
            async with asyncio.timeout(25):
                await process.communicate()
    assert process.returncode == 0
    assert (pull["nodeName"], pull["repository"], pull["registry"]) == ("box", "app", HOST)
    assert pull["imageBytes"] == image.size


async def where(process):
    """Return the dashboard's URL, which the process logs."""
    while line := (await process.stdout.readline()).decode():
        if "dashboard" in line:
            return line.partition("http://")[2].partition("/")[0].join(("http://", "/"))
    raise AssertionError("the program ended without logging its URL")


async def first_pull(client):
    while True:
        async with client.get("api/v1/pulls") as answer:
            for pull in (await answer.json())["pulls"]:
                if pull["totalKnown"]:
                    return pull
        await asyncio.sleep(0.1)
