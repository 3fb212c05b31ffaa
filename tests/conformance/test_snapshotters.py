"""Tests for leases and snapshots while a snapshotter is fetching layers, on real nodes and on the simulated one."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from pulltrace.agent.containerd import Containerd as Client
from pulltrace.agent.containerd_api.snapshots_pb2 import COMMITTED
from pulltrace.demo.snapshotter import Mode
from pulltrace.demo.virtual_containerd import CONTAINERD_1, CONTAINERD_2
from tests.conformance.driver_simulated import SimulatedLab
from tests.conformance.lab import RealLab
from tests.conformance.look import Look, eventually
from tests.conformance.test_pulls import contents
from tests.real.containerd import Containerd
from tests.real.fixtures import require_containerd
from tests.real.images import MIB
from tests.real.snapshotters import Soci, SociMode, Stargz, make_streamable
from tests.real.versions import SOCI, STARGZ

REMOTE = "containerd.io/snapshot/remote"
FETCHED = "containerd.io/snapshot/remote/namespace"


@dataclass
class Place:
    """A containerd with a snapshotter that runs in a separate process."""

    lab: Any
    look: Look
    snapshotter: str
    socket: str


@pytest.fixture
async def place(request, registry):
    """Return a function: `await place(where, "soci", mode)` starts a real or a simulated node with a snapshotter in
    this mode.
    """
    async with AsyncExitStack() as stack:

        async def place(where, name, mode):
            if where.startswith("simulated"):
                version = CONTAINERD_2 if where.endswith("2") else CONTAINERD_1
                lab = await stack.enter_async_context(SimulatedLab(version, snapshotter=name, mode=mode))
                return Place(lab, Look(lab, name), name, str(lab.containerd.socket))
            program = {"soci": SOCI, "stargz": STARGZ}[name]
            if not program.path.exists():
                pytest.skip(f"no {program.name} here; `make parts` builds it (needs Go)")
            node = Containerd(require_containerd(where), proxy=name, client=True)
            node.trust(registry.host, registry.url)
            host = registry.host
            daemon = Soci(node, host, SociMode[mode.name]) if name == "soci" else Stargz(node, host)
            await stack.enter_async_context(daemon)
            await stack.enter_async_context(node)
            lab = RealLab(node, registry)
            return Place(lab, Look(lab, name), name, str(node.socket))

        yield place


WHERE = [
    *(pytest.param(line, id=line, marks=pytest.mark.real) for line in ("1.7", "2.4")),
    pytest.param("simulated-1", id="simulated-1"),
    pytest.param("simulated-2", id="simulated-2"),
]


def committed(held, name):
    return {key for kind, key in held if kind == f"snapshots/{name}"}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("mode", [Mode.PARALLEL, Mode.PARALLEL_KEEP], ids=["discard", "keep"])
async def test_a_lease_holds_only_completed_layers_while_soci_fetches_layers(place, where, mode):
    here = await place(where, "soci", mode)
    lab, look = here.lab, here.look
    first, second = lab.layer(MIB), lab.layer(3 * MIB)
    image = lab.image(first, second)
    ref = lab.push("team/gpu:1", image)
    lab.hold(second, at=2 * MIB)
    pull = asyncio.create_task(lab.pull(ref))
    lease = await look.new_lease({})
    await look.holds(lease, *contents(image.manifest, image.config), ("snapshots/soci", image.chain_ids[0]))
    held = await look.resources(lease)
    assert {kind for kind, _ in held} == {"content", "snapshots/soci"}, "the lease holds no ingest"
    assert committed(held, "soci") == {image.chain_ids[0]}, "the lease holds no snapshot that is still being prepared"
    snapshot = await look.snapshot(image.chain_ids[0])
    assert snapshot.kind == COMMITTED
    assert FETCHED in snapshot.labels
    assert REMOTE not in snapshot.labels
    assert not [ref for ref in await look.ingests() if ref.startswith("layer-")]
    lab.release(second)
    await pull
    kept = [await look.info(layer.blob.digest) for layer in image.layers]
    assert all(kept) if mode is Mode.PARALLEL_KEEP else kept == [None, None]


@pytest.mark.parametrize("where", WHERE)
async def test_a_streamed_layer_has_a_label_but_no_blob(place, where, tmp_path):
    here = await place(where, "stargz", Mode.STREAM)
    lab, look = here.lab, here.look
    image = lab.image(lab.layer(2 * MIB), lab.layer(MIB))
    if not where.startswith("simulated"):
        image = make_streamable(image, tmp_path)
    ref = lab.push("team/lazy:1", image)
    await lab.pull(ref)
    for chain, layer in zip(image.chain_ids, image.layers, strict=True):
        snapshot = await look.snapshot(chain)
        assert snapshot.kind == COMMITTED
        assert REMOTE in snapshot.labels
        assert await look.info(layer.blob.digest) is None


@pytest.mark.parametrize("where", WHERE)
async def test_the_agent_determines_the_default_snapshotter_before_the_first_pull(place, where):
    here = await place(where, "soci", Mode.PARALLEL)

    async def known():
        async with Client(here.socket) as client:
            return await client.snapshotters()

    snapshotters = await eventually(known)
    assert snapshotters.default == "soci"
    assert snapshotters.remote == ["soci"]
    assert snapshotters.roots["soci"]
