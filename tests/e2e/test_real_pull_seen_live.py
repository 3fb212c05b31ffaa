"""Test Pulltrace end to end: a real containerd pulls images, and the API shows the pulls live."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.e2e.programs import Api, Program
from tests.real.containerd import Containerd
from tests.real.images import MIB, make_image, make_layer
from tests.real.process import free_port
from tests.real.registry import Registry

pytestmark = pytest.mark.real


@pytest.fixture
async def local(node: Containerd) -> AsyncIterator[Api]:
    """Run `pulltrace local` against the node's containerd."""
    port = free_port()
    settings = {
        "CONTAINERD_SOCKET": str(node.socket),
        "HTTP_ADDR": f"127.0.0.1:{port}",
        "METRICS_ADDR": "127.0.0.1:0",
        "STALL_TIMEOUT": "3s",
        "NODE_NAME": "worker-1",
    }
    async with Program("local", **settings) as program, Api(port) as api:
        await api.ready()
        yield api
        assert program.process.returncode is None, program.output


@pytest.fixture
def halves(node: Containerd) -> Callable[..., tuple[Program, Program, int]]:
    """Return a function that creates a server and an agent as separate programs, and returns the server, the agent and
    the server's port.
    """

    def make(**more: str) -> tuple[Program, Program, int]:
        port = free_port()
        server = Program("server", HTTP_ADDR=f"127.0.0.1:{port}", METRICS_ADDR="127.0.0.1:0", **more)
        agent = Program(
            "agent",
            NODE_NAME="worker-1",
            SERVER_URL=f"http://127.0.0.1:{port}/",
            CONTAINERD_SOCKET=str(node.socket),
            REPORT_INTERVAL="500ms",
            **more,
        )
        return server, agent, port

    return make


def by_name(pulls: list[dict[str, Any]], ref: str) -> dict[str, Any]:
    (pull,) = [pull for pull in pulls if pull["imageRef"] == ref]
    return pull


def all_done(count: int) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda pulls: len(pulls) == count and all(pull["status"] == "completed" for pull in pulls)


async def test_three_images_pulled_at_once_appear_as_three_pulls_with_exact_figures(
    local: Api, node: Containerd, registry: Registry
) -> None:
    base = make_layer(2 * MIB)
    images = {name: make_image(base, make_layer(size * MIB)) for name, size in (("a", 6), ("b", 6), ("c", 14))}
    refs = {name: registry.push(f"team/{name}:1.0", image) for name, image in images.items()}
    registry.limit(3 * MIB)
    pulling = asyncio.gather(*(node.cri.pull(ref) for ref in refs.values()))
    seen: dict[str, list[dict[str, Any]]] = {}
    while not pulling.done():
        for pull in await local.pulls():
            seen.setdefault(pull["id"], []).append(pull)
        await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0.2))])
    await pulling
    pulls = await local.until(all_done(3))
    for name, ref in refs.items():
        pull, image = by_name(pulls, ref), images[name]
        history = seen[pull["id"]]
        size = sum(layer.size for layer in image.layers)
        assert pull["totalBytes"] == pull["downloadedBytes"] == pull["imageBytes"] == size
        assert pull["percent"] == 100
        assert pull["repository"] == f"team/{name}"
        assert [layer["digest"] for layer in pull["layers"]] == [layer.digest for layer in image.layers]
        assert {item["totalBytes"] for item in history if item["totalKnown"]} == {size}
        percents = [item["percent"] for item in history]
        assert percents == sorted(percents)
        assert any(0 < percent < 100 for percent in percents)
        assert any(item["bytesPerSec"] > 0 for item in history), "every pull of the node has a speed"
        assert all(layer["pullId"] == pull["id"] for layer in pull["layers"])


async def test_a_pull_counts_as_stalled_while_its_registry_sends_nothing(
    local: Api, node: Containerd, registry: Registry
) -> None:
    layer = make_layer(6 * MIB)
    ref = registry.push("team/app:1", make_image(layer))
    registry.blob(layer.digest).hold(at=3 * MIB)
    pulling = asyncio.create_task(node.cri.pull(ref))
    pulls = await local.until(lambda pulls: pulls and pulls[0].get("stalledSince"))
    assert pulls[0]["percent"] < 100
    registry.blob(layer.digest).limit(2 * MIB)
    registry.blob(layer.digest).release()
    await local.until(lambda pulls: not pulls[0].get("stalledSince"))
    await pulling
    await local.until(all_done(1))


@pytest.mark.parametrize("containerd_binary", ["debian"], indirect=True)
async def test_a_pull_counts_as_stalled_once_its_registry_has_sent_nothing_for_thirty_seconds(
    halves, node: Containerd, registry: Registry
) -> None:
    server, agent, port = halves()
    layer = make_layer(6 * MIB)
    ref = registry.push("team/app:1", make_image(layer))
    registry.blob(layer.digest).hold(at=3 * MIB)
    async with server, agent, Api(port) as api:
        await api.ready()
        pulling = asyncio.create_task(node.cri.pull(ref))
        await registry.reached(layer.digest, 3 * MIB)
        began = time.monotonic()
        await api.until(lambda pulls: pulls and pulls[0].get("stalledSince"))
        assert time.monotonic() - began > 25
        (pull,) = await api.pulls()
        assert (pull["status"], pull["bytesPerSec"]) == ("downloading", 0)
        assert "etaSeconds" not in pull, "there is no estimate during a stall"
        await asyncio.sleep(max(0.0, began + 40 - time.monotonic()))
        registry.blob(layer.digest).limit(2 * MIB)
        registry.blob(layer.digest).release()
        await api.until(lambda pulls: not pulls[0].get("stalledSince"))
        await pulling
        await api.until(all_done(1))


async def test_a_cancelled_pull_is_not_shown_at_100_percent(local: Api, node: Containerd, registry: Registry) -> None:
    layer = make_layer(4 * MIB)
    ref = registry.push("team/app:1", make_image(layer))
    registry.blob(layer.digest).hold(at=2 * MIB)
    pulling = asyncio.create_task(node.cri.pull(ref))
    await local.until(lambda pulls: pulls and pulls[0]["downloadedBytes"])
    pulling.cancel()
    (pull,) = await local.until(lambda pulls: pulls[0]["status"] == "failed")
    assert pull["percent"] < 100
    assert pull["error"]
    assert "etaSeconds" not in pull


async def test_a_retry_after_containerd_is_killed_appears_as_attempt_2_in_the_same_row(
    local: Api, node: Containerd, registry: Registry
) -> None:
    layer = make_layer(6 * MIB)
    ref = registry.push("team/app:1", make_image(layer))
    registry.blob(layer.digest).hold(at=3 * MIB)
    pulling = asyncio.create_task(node.cri.pull(ref))
    (before,) = await local.until(lambda pulls: pulls and pulls[0]["downloadedBytes"])
    await node.kill()
    await asyncio.wait([pulling])
    await node.start()
    await local.until(lambda pulls: pulls[0]["status"] == "failed")
    registry.limit(MIB)
    registry.blob(layer.digest).release()
    await node.cri.pull(ref)
    (after,) = await local.until(all_done(1))
    assert (after["id"], after["attempt"]) == (before["id"], 2)
    assert after["downloadedBytes"] + after["cachedBytes"] == layer.size


async def test_a_server_that_is_restarted_during_a_pull_recovers_its_history(
    halves: Callable[..., tuple[Program, Program, int]], node: Containerd, registry: Registry
) -> None:
    first, second = make_layer(MIB), make_layer(8 * MIB)
    done, running = registry.push("team/done:1", make_image(first)), registry.push("team/running:1", make_image(second))
    server, agent, port = halves()
    async with server, agent, Api(port) as api:
        await api.ready()
        registry.blob(first.digest).hold()  # the agent would not observe the pull if it ended between two polls
        pulling = asyncio.create_task(node.cri.pull(done))
        await api.until(lambda pulls: pulls and pulls[0]["totalKnown"])
        registry.blob(first.digest).release()
        await pulling
        before = by_name(await api.until(all_done(1)), done)
        registry.blob(second.digest).hold(at=4 * MIB)  # the pull stays incomplete until the server is back
        pulling = asyncio.create_task(node.cri.pull(running))
        await api.until(lambda pulls: any(pull["downloadedBytes"] and pull["status"] != "completed" for pull in pulls))
        await server.stop(signal.SIGKILL)
        await server.start()
        await api.ready()
        pulls = await api.until(lambda pulls: len(pulls) == 2)
        after = by_name(pulls, done)
        same = ("totalBytes", "downloadedBytes", "percent", "status", "startedAt", "completedAt", "id")
        assert {key: after[key] for key in same} == {key: before[key] for key in same}
        registry.blob(second.digest).release()
        await pulling
        pulls = await api.until(all_done(2))
        assert by_name(pulls, running)["downloadedBytes"] == second.size


async def test_a_pull_keeps_its_row_when_its_agent_is_killed_and_restarted(
    halves: Callable[..., tuple[Program, Program, int]], node: Containerd, registry: Registry
) -> None:
    layer = make_layer(8 * MIB)
    ref = registry.push("team/app:1", make_image(layer))
    server, agent, port = halves()
    async with server, agent, Api(port) as api:
        await api.ready()
        registry.blob(layer.digest).hold(at=4 * MIB)  # the pull stays incomplete until the agent is back
        pulling = asyncio.create_task(node.cri.pull(ref))
        (before,) = await api.until(lambda pulls: pulls and pulls[0]["downloadedBytes"])
        await agent.stop(signal.SIGKILL)
        await agent.start()
        await agent.says("pull.started")
        registry.blob(layer.digest).release()
        await pulling
        (after,) = await api.until(all_done(1))
        assert after["id"] == before["id"]
        assert after["downloadedBytes"] == layer.size


@pytest.mark.parametrize("half", ["server", "agent"])
async def test_the_server_and_the_agent_exit_promptly(
    half: str, halves: Callable[..., tuple[Program, Program, int]], registry: Registry
) -> None:
    server, agent, port = halves()
    async with server, agent, Api(port) as api:
        await api.ready()
        await api.reported()
        program = {"server": server, "agent": agent}[half]
        assert await program.stop(signal.SIGTERM, seconds=25) == 0


async def test_pulls_that_are_shorter_than_a_poll_interval_appear_once_with_their_name_and_size(
    local: Api, node: Containerd, registry: Registry
) -> None:
    images = {f"team/small-{number}:1": make_image(make_layer(64 * 1024)) for number in range(10)}
    refs = {registry.push(name, image): image for name, image in images.items()}
    for ref in refs:
        await node.cri.pull(ref)
    pulls = await local.until(all_done(10))
    found = {pull["imageRef"]: pull["downloadedBytes"] for pull in pulls}
    assert found == {ref: sum(layer.size for layer in image.layers) for ref, image in refs.items()}

    first, *_ = refs
    await node.ctr("images", "tag", first, f"{registry.host}/team/copy:1")
    archive = node.folder / "archive.tar"
    await node.ctr("images", "export", archive, first)
    await node.ctr("images", "import", archive)
    await asyncio.sleep(5)  # a pull that follows at once may overwrite the labels that reveal the import
    await node.cri.pull(first)
    await local.until(
        lambda pulls: len([pull for pull in pulls if pull["status"] == "completed" and not pull.get("imported")]) > 10
    )
    await asyncio.sleep(3)
    others = [pull for pull in await local.pulls() if not pull.get("imported")]
    more = [pull for pull in others if pull["downloadedBytes"] == 0 or pull["imageRef"] not in found]
    assert [(pull["imageRef"], pull["status"]) for pull in more] == [(first, "completed")], (
        "neither the tag nor the import is a pull"
    )
