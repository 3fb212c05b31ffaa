"""`pulltrace local` shows the pulls of a real Docker daemon."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.e2e.programs import Api, Program
from tests.real.containerd import Containerd
from tests.real.docker import NAMESPACE, Docker
from tests.real.images import MIB, make_image, make_layer
from tests.real.process import free_port
from tests.real.registry import Registry
from tests.real.versions import DOCKER

pytestmark = [
    pytest.mark.real,
    pytest.mark.parametrize("containerd_binary", ["2.4"], indirect=True),
    pytest.mark.skipif(not DOCKER.path.exists(), reason="no dockerd here; `make parts` builds it (needs Go)"),
]


@pytest.fixture
async def docker(node: Containerd) -> AsyncIterator[Docker]:
    async with Docker(node) as running:
        yield running


async def test_a_docker_pull_is_shown_with_an_exact_byte_count(
    docker: Docker, node: Containerd, registry: Registry
) -> None:
    port = free_port()
    layers = [make_layer(2 * MIB), make_layer(6 * MIB)]
    ref = registry.push("team/app:1", make_image(*layers))
    size = sum(layer.size for layer in layers)
    variables = {
        "CONTAINERD_SOCKET": str(node.socket),
        "CONTAINERD_NAMESPACE": NAMESPACE,
        "HTTP_ADDR": f"127.0.0.1:{port}",
        "METRICS_ADDR": "127.0.0.1:0",
    }
    async with Program("local", **variables), Api(port) as api:
        await api.ready()
        registry.blob(layers[1].digest).hold(at=3 * MIB)
        pulling = asyncio.create_task(docker.pull(ref))
        (half,) = await api.until(lambda pulls: pulls and pulls[0]["downloadedBytes"] > 4 * MIB)
        assert (half["repository"], half["status"], half["totalBytes"]) == ("team/app", "downloading", size)
        assert half["percent"] < 100
        registry.blob(layers[1].digest).release()
        await pulling
        (ended,) = await api.until(lambda pulls: pulls[0]["status"] == "completed")
        assert (ended["id"], ended["imageRef"]) == (half["id"], ref)
        assert (ended["downloadedBytes"], ended["cachedBytes"]) == (size, 0)

        second = registry.push("team/app:2", make_image(*layers, make_layer(MIB)))
        await docker.pull(second)
        pulls = await api.until(lambda pulls: len([pull for pull in pulls if pull["status"] == "completed"]) == 2)
        (newer,) = [pull for pull in pulls if pull["imageRef"] == second]
        assert (newer["cachedBytes"], newer["totalBytes"]) == (size, newer["imageBytes"] - size)
