"""Tests in which the agent reads malicious manifests and configs of realistic size from containerd's socket."""

import dataclasses
import tempfile
import tracemalloc
from pathlib import Path

import msgspec
import pytest

from pulltrace.agent.containerd import MAX_DOCUMENT, Containerd
from pulltrace.agent.manifests import parse
from pulltrace.agent.poller import Poller
from pulltrace.demo.grpc_server import SimulatedContainerd
from pulltrace.demo.images import Blob, digest_of
from pulltrace.wire import AgentReport, PullPhase
from tests.agent.conftest import HOST, MIB

LAYER = b'{"digest":"sha256:%s","size":1}' % (b"a" * 64)
CONFIG = b'{"config":' + LAYER + b","
ROOM = MAX_DOCUMENT - 300


def many(item: bytes, size: int = ROOM) -> bytes:
    return b"[" + b",".join([item] * (size // (len(item) + 1))) + b"]"


BOMBS = {
    "forty thousand layers": CONFIG + b'"layers":' + many(LAYER) + b"}",
    "a million layers": CONFIG + b'"layers":' + many(LAYER, 10**6 * (len(LAYER) + 1)) + b"}",
    "two million numbers for layers": CONFIG + b'"layers":' + many(b"0") + b"}",
    "two million numbers in an unknown field": CONFIG + b'"layers":[],"x":' + many(b"0") + b"}",
    "forty thousand platforms": b'{"manifests":' + many(LAYER) + b"}",
    "fifty thousand snapshots": b'{"rootfs":{"diff_ids":' + many(b'"sha256:%s"' % (b"a" * 64)) + b"}}",
    "half a million keys": CONFIG + b'"layers":[]' + b',"k":0' * (ROOM // 6) + b"}",
    "lists in lists": CONFIG + b'"layers":' + b"[" * ROOM,
    "lists in lists, all closed": CONFIG + b'"x":' + b"[" * (ROOM // 2) + b"]" * (ROOM // 2) + b',"layers":[]}',
    "objects in objects": CONFIG + b'"layers":[{"a":' + b'{"a":' * (ROOM // 5),
    "a media type of four million letters": CONFIG + b'"layers":[],"mediaType":"' + b"a" * ROOM + b'"}',
    "a size of four million digits": b'{"layers":[],"config":{"size":' + b"9" * ROOM + b"}}",
}
FITS = {name: data for name, data in BOMBS.items() if len(data) <= MAX_DOCUMENT}


def peak(before: int) -> int:
    """Return Python's peak memory minus ``before``, in bytes."""
    return tracemalloc.get_traced_memory()[1] - before


@pytest.fixture
def traced():
    """Trace memory allocations during the test. Yield the number of bytes that were allocated before the test."""
    tracemalloc.start()
    yield tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in FITS.items()])
def test_parsing_a_malicious_manifest_or_config_uses_at_most_a_few_times_its_size_in_memory(data, traced):
    parsed = parse(data)
    assert parsed is None or len(msgspec.json.encode(parsed)) < 1000, "only a small part of the document is kept"
    assert peak(traced) < 4 * MAX_DOCUMENT


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in BOMBS.items()])
async def test_a_pull_of_a_malicious_image_ends_and_the_next_pull_is_reported_correctly(data, start_simulated, push):
    node = start_simulated()
    good, image = push("good:1", ("good", 20))
    _, donor = push("bomb:1", ("bomb", 20), multi_arch=False)
    kind = donor.manifest.media_type
    manifest = Blob("manifest", kind, digest_of(data), len(data), data)
    bomb = node.registries.push(f"{HOST}/bomb:1", dataclasses.replace(donor, manifest=manifest))
    with tempfile.TemporaryDirectory(prefix="pulltrace-") as folder:
        async with (
            SimulatedContainerd(node, Path(folder) / "containerd.sock") as running,
            Containerd(str(running.socket)) as client,
        ):
            poller = Poller(client)
            await poller.poll(node.now)
            pulls = [node.pull(bomb), node.pull(good)]
            ended = []
            while len(ended) < len(pulls):
                node.advance(0.5)
                await poller.poll(node.now)
                ended += poller.tracker.ended()
                report = msgspec.json.encode(AgentReport(node_name="a", pulls=[*poller.tracker.pulls(), *ended]))
                assert len(report) < MIB, "the server rejects larger reports"
                msgspec.json.decode(report, type=AgentReport)
            reported = {pull.id: pull for pull in ended}
            right = reported[pulls[1].lease.id]
            assert right.status is PullPhase.COMPLETED
            assert [layer.digest for layer in right.layers] == [image.layers[0].blob.digest]
            reads = running.calls["/containerd.services.content.v1.Content/Read"]
            assert reads <= 2 * (len(image.documents) + 2), "each document is read once"
