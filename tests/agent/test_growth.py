"""Tests for which calls a poll makes while layers are being downloaded. Such a poll skips all other calls, so some
changes are reported up to one second late.
"""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulltrace.agent.model import (
    Blob,
    BlobQuestion,
    DocumentQuestion,
    ImageQuestion,
    ImageRecord,
    Ingest,
    Lease,
    Resources,
    SnapshotQuestion,
    Write,
)
from pulltrace.agent.poller import FULL_LOOK, Poller
from pulltrace.agent.short_pulls import Change
from pulltrace.agent.snapshotters import Snapshot, Snapshotters
from pulltrace.demo.images import make_image, make_layer
from pulltrace.demo.registries import Registries
from pulltrace.demo.virtual_containerd import CONTAINERD_1, CONTAINERD_2, VirtualContainerd
from pulltrace.wire import LayerPhase, PullPhase, PullState
from tests.agent.conftest import CONTAINERD_16, HOST, MIB, NOON
from tests.agent.virtual import Watched

ORDER = [
    LayerPhase.WAITING,
    LayerPhase.DOWNLOADING,
    LayerPhase.DOWNLOADED,
    LayerPhase.EXTRACTING,
    LayerPhase.CACHED,
    LayerPhase.EXTRACTED,
    LayerPhase.FAILED,
]


class VirtualClient:
    """Replaces the agent's containerd client, reads a simulated node without gRPC, and counts the calls."""

    socket = ""
    connected = True

    def __init__(self, node: VirtualContainerd) -> None:
        self._watched = Watched(node)
        self.calls: Counter[str] = Counter()

    @property
    def since(self) -> float:
        return self._watched.node.since

    async def snapshotters(self) -> Snapshotters:
        return Snapshotters({}, self._watched.node.store.snapshotter.name)

    async def ingests(self) -> list[Ingest]:
        self.calls["ingests"] += 1
        return self._watched.look().ingests

    async def ingests_and_leases(self) -> tuple[list[Ingest], list[Lease]]:
        return await self.ingests(), await self.leases()

    async def leases(self) -> list[Lease]:
        self.calls["leases"] += 1
        return self._watched.look().leases

    async def resources(self, lease_ids: Sequence[str]) -> dict[str, Resources]:
        self.calls["resources"] += len(lease_ids)
        found = self._watched.look().resources
        return {lease_id: found[lease_id] for lease_id in lease_ids if lease_id in found}

    def created_containers(self) -> list[float]:
        return []

    def changed_images(self) -> dict[str, list[Write]]:
        changed = dict(self._watched.changed)
        self._watched.changed.clear()
        return changed

    async def change(self, name: str) -> Change | None:
        return self._watched.change(name)

    async def blob(self, digest: str) -> Blob | None:
        return self._watched.respond(BlobQuestion(digest))

    async def document(self, digest: str) -> bytes | None:
        return self._watched.respond(DocumentQuestion(digest))

    async def snapshot(self, snapshotter: str, chain_id: str) -> Snapshot | None:
        return self._watched.respond(SnapshotQuestion(chain_id, snapshotter))

    async def images(self, target: str) -> list[ImageRecord]:
        return self._watched.respond(ImageQuestion(target))


@pytest.fixture
def client(simulated) -> VirtualClient:
    return VirtualClient(simulated)


async def polls(poller: Poller, node: VirtualContainerd, count: int) -> None:
    for _ in range(count):
        node.advance(1)
        await poller.poll(node.now)


async def test_polls_list_only_ingests_and_leases_while_layers_are_being_downloaded(client, simulated, push):
    poller = Poller(client)
    await polls(poller, simulated, 1)
    for number in range(5):
        simulated.pull(push(f"app{number}:1", *((f"{number}-{layer}", 4096) for layer in range(12)))[0])
    await polls(poller, simulated, FULL_LOOK + 5)
    before = client.calls.copy()
    await polls(poller, simulated, 2 * (FULL_LOOK + 1))
    assert client.calls - before == {"ingests": 2 * (FULL_LOOK + 1), "leases": 2 * (FULL_LOOK + 2), "resources": 2 * 5}


async def test_a_stalled_pull_that_began_before_the_agent_started_needs_no_extra_calls_and_is_dropped_after_5_minutes():
    registries = Registries()
    image = make_image("app", make_layer("slow", 4096 * MIB), make_layer("waiting", 4096 * MIB))
    node = VirtualContainerd(registries, now=NOON, version=CONTAINERD_2)
    for layer in image.layers:
        registries.holds[layer.blob.digest] = 0
    node.pull(registries.push(f"{HOST}/app:1", image))
    node.advance(5)
    client = VirtualClient(node)
    full, poller = Watched(node), Poller(client)
    shown = set()
    for second in range(400):
        node.advance(1)
        full.poll()
        await poller.poll(node.now)
        live = poller.tracker.pulls()
        assert [pull.id for pull in live] == [pull.id for pull in full.live]
        shown.add(bool(live))
        if second == 5:
            before = client.calls.copy()
        elif second == 5 + FULL_LOOK + 1:
            calls = FULL_LOOK + 1
            assert client.calls - before == {"ingests": calls, "leases": calls + 1, "resources": 1}
    assert shown == {True, False}


async def test_an_unchanged_pull_is_reported_as_the_same_object(client, simulated, push):
    poller = Poller(client)
    await polls(poller, simulated, 1)
    held, image = push("held:1", ("held", 100))
    simulated.registries.holds[image.layers[0].blob.digest] = 5 * MIB
    for ref in (held, push("app:1", ("app", 4096))[0]):
        simulated.pull(ref)
    await polls(poller, simulated, 5)
    before = poller.tracker.pulls()
    await polls(poller, simulated, FULL_LOOK)
    after = poller.tracker.pulls()
    assert [old is new for old, new in zip(before, after, strict=True)] == [True, False]


async def test_a_layer_that_is_being_unpacked_is_checked_on_every_poll(client, simulated, push):
    poller = Poller(client)
    await polls(poller, simulated, 1)
    ref, image = push("app:1", ("base", 4), ("app", 4096))
    simulated.disk = 1 * MIB
    simulated.pull(ref)
    await polls(poller, simulated, 3)
    (pull,) = poller.tracker.pulls()
    assert pull.layers[0].state is LayerPhase.EXTRACTING
    before = client.calls.copy()
    await polls(poller, simulated, 3)
    assert client.calls - before == {"ingests": 3, "leases": 3, "resources": 3}
    await polls(poller, simulated, 10)
    assert poller.tracker.pulls()[0].layers[0].state is LayerPhase.EXTRACTED
    assert image.layers


@pytest.mark.parametrize("happens", ["a new pull that resolves", "a cancelled pull", "a completed pull"])
async def test_changes_that_do_not_appear_in_ingests_are_seen_within_two_polls(client, simulated, push, happens):
    poller = Poller(client)
    await polls(poller, simulated, 1)
    growing = simulated.pull(push("growing:1", ("growing", 4096))[0])
    await polls(poller, simulated, 4)
    if happens == "a new pull that resolves":
        ref, _ = push("silent:1", ("silent", 1))
        simulated.registries.silent.add(f"{HOST}/silent")
        new = simulated.pull(ref)
        await polls(poller, simulated, 3)
        assert {pull.id for pull in poller.tracker.pulls()} == {growing.lease.id, new.lease.id}
        return
    small = simulated.pull(push("small:1", ("small", 20))[0])
    await polls(poller, simulated, 2)
    if happens == "a cancelled pull":
        small.cancel()
    while simulated.pulls != [growing]:
        simulated.advance(0.1)
    await polls(poller, simulated, 2)
    assert [pull.id for pull in poller.tracker.ended()] == [small.lease.id]


class Observer:
    """Collects what an agent reports: the bytes and state of each layer, and the outcome of each pull."""

    def __init__(self) -> None:
        self.bytes: dict[tuple[str, str], int] = {}
        self.phases: dict[tuple[str, str], int] = {}
        self.known: set[str] = set()
        self.ended: dict[str, PullPhase | None] = {}

    def take(self, live: list[PullState], ended: list[PullState]) -> None:
        for pull in [*live, *ended]:
            self.known.add(pull.id)
            for layer in pull.layers or []:
                key = pull.id, layer.digest
                self.bytes[key] = max(self.bytes.get(key, 0), layer.downloaded_bytes)
                self.phases[key] = max(self.phases.get(key, 0), ORDER.index(layer.state))
        self.ended |= {pull.id: pull.status for pull in ended}

    def copy(self) -> "Observer":
        other = Observer()
        other.bytes, other.phases = dict(self.bytes), dict(self.phases)
        other.known, other.ended = set(self.known), dict(self.ended)
        return other

    def has_shown(self, other: "Observer") -> bool:
        """Return whether this agent has reported everything that ``other`` has reported."""
        return (
            self.known >= other.known
            and self.ended.items() >= other.ended.items()
            and all(self.bytes.get(key, -1) >= size for key, size in other.bytes.items())
            and all(self.phases.get(key, -1) >= phase for key, phase in other.phases.items())
        )


steps = st.one_of(
    st.tuples(st.just("pull"), st.integers(0, 2)),
    st.tuples(st.just("cancel"), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.integers(1, 8)),
)


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([1, 9, 40])), max_size=4), min_size=3, max_size=3
    ),
    st.lists(steps, min_size=3, max_size=12),
    st.sampled_from([CONTAINERD_16, CONTAINERD_1, CONTAINERD_2]),
)
async def test_changes_are_shown_at_most_a_second_later_than_if_every_poll_made_all_calls(images, steps, version):
    registries = Registries()
    refs = [
        registries.push(
            f"{HOST}/app{number}:1", make_image(f"{number}", *(make_layer(name, size * MIB) for name, size in layers))
        )
        for number, layers in enumerate(images)
    ]
    node = VirtualContainerd(registries, now=NOON, version=version, bandwidth=20 * MIB, disk=30 * MIB)
    full, poller = Watched(node), Poller(VirtualClient(node))
    shown_by_full, shown_by_poller = Observer(), Observer()

    async def poll() -> None:
        node.advance(1)
        before = shown_by_full.copy()
        full.poll()
        await poller.poll(node.now)
        shown_by_full.take(
            full.live, full.tracker.ended() + [pull for pull in full.ended if pull.id not in shown_by_full.ended]
        )
        shown_by_poller.take(poller.tracker.pulls(), poller.tracker.ended())
        assert shown_by_poller.has_shown(before)
        assert shown_by_full.has_shown(shown_by_poller)

    await poll()
    for what, number in steps:
        if what == "pull":
            node.pull(refs[number])
        elif what == "cancel" and node.pulls:
            node.pulls[number % len(node.pulls)].cancel()
        for _ in range(number if what == "wait" else 0):
            await poll()
    while node.pulls:
        await poll()
    for _ in range(3):
        await poll()
    assert shown_by_poller.ended == shown_by_full.ended
