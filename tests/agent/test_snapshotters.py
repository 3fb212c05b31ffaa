"""Tests for each kind of snapshotter, with a simulated node, an agent and a server in virtual time."""

import pytest

from pulltrace.agent.snapshotters import Delivery, Snapshotters, default_of, delivery_of
from pulltrace.demo.snapshotter import Mode, Snapshotter
from pulltrace.demo.virtual_containerd import CONTAINERD_1, CONTAINERD_2
from pulltrace.server.models import PercentBasis
from pulltrace.wire import GUEST, SNAPSHOTTER, LayerPhase, PullPhase
from tests.agent.conftest import MIB, NOON
from tests.agent.virtual import Watched
from tests.server.build import NOW, SimulatedHub, shifted

FETCHING = [Mode.PARALLEL, Mode.PARALLEL_KEEP]
VERSIONS = [CONTAINERD_1, CONTAINERD_2]


class Observed:
    """A node, an agent and a server whose clocks advance together. ``every`` is the polling interval in seconds."""

    def __init__(self, node, every=1.0, *, sees_files=False):
        self.watched, self.server, self.every = Watched(node, sees_files=sees_files), SimulatedHub(), every
        self.rows = []
        self.reported_at = 0.0
        self.watched.poll()
        self.report()

    def new_server(self):
        self.server = SimulatedHub()
        self.server.at(self.watched.node.now - NOON)
        self.rows.clear()

    def report(self):
        """Send the agent's report to the server, at most once per second."""
        if self.watched.node.now < self.reported_at + 0.95:
            return
        self.reported_at = self.watched.node.now
        ended = self.watched.ended.copy()
        self.watched.ended.clear()
        self.server.report(
            *[shifted(pull, NOW - NOON) for pull in (*ended, *self.watched.live)],
            at=self.watched.node.now - NOON,
            heartbeat_seconds=1.0,
            snapshotter=self.watched.tracker.serving.name,
        )
        self.rows += [row for row in self.server.shown if row.status is not PullPhase.COMPLETED]

    def step(self):
        self.watched.node.advance(self.every)
        self.watched.poll()
        self.report()

    def until(self, condition):
        for _ in range(2000):
            if condition():
                return
            self.step()
        raise AssertionError("the condition did not become true")

    def finish(self):
        self.until(lambda: not self.watched.node.pulls)
        self.until(lambda: self.server.shown and all(row.status.ended for row in self.server.shown))
        (row,) = self.server.shown
        assert row.status is PullPhase.COMPLETED
        return row

    def restart_agent(self):
        self.watched.restart()
        self.watched.poll()
        self.report()


@pytest.fixture
def observe(start_simulated):
    """Return a function that creates nodes whose default snapshotter delivers layers in this mode."""

    def observe(mode, version=CONTAINERD_1, every=1.0, name="soci", **store):
        return Observed(start_simulated(version, snapshotter=name, mode=mode, **store), every)

    return observe


def counted(observed, name):
    return observed.server.metric(f"pull_{name}_total", registry="registry.test")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", FETCHING)
def test_a_pull_stays_live_until_the_snapshotter_has_downloaded_all_layers(observe, push, version, mode):
    observed = observe(mode, version)
    ref, image = push("app:1", ("base", 200), ("middle", 300), ("top", 1000))
    observed.watched.node.pull(ref)
    row = observed.finish()
    assert (row.downloaded_bytes, row.cached_bytes, row.remote_bytes) == (image.size, 0, 0)
    assert row.total_bytes == image.size
    assert counted(observed, "bytes") == image.size
    assert counted(observed, "cached_bytes") == 0
    live = [row for row in observed.rows if row.total_known]
    assert len(live) > 30
    assert {row.percent_basis for row in live} == {PercentBasis.LAYERS}
    assert not any(row.stalled_since for row in live)
    assert all(row.percent < 100 for row in live)
    assert {row.snapshotter for row in live} == {"soci"}
    fetching = [layer for row in live for layer in row.layers if layer.state is LayerPhase.DOWNLOADING]
    assert fetching
    assert {layer.fetched_by for layer in fetching} == {SNAPSHOTTER}


def test_the_percentage_is_based_on_the_committed_layers_if_the_snapshotter_fetches_layers_itself(observe, push):
    observed = observe(Mode.PARALLEL)
    ref, _ = push("app:1", ("base", 100), ("middle", 300), ("top", 600))
    pull = observed.watched.node.pull(ref)
    observed.until(lambda: len([key for key in pull.lease.resources if key[0] == "snapshots/soci"]) == 2)
    observed.step()
    observed.step()
    (row,) = observed.server.shown
    assert row.percent == 40.0
    assert (row.downloaded_bytes, row.layers_done) == (400 * MIB, 2)
    assert row.eta_seconds is None
    assert row.bytes_per_sec == 0, "there is no speed, because bytes are counted only when a layer is committed"


@pytest.mark.parametrize("mode", FETCHING)
@pytest.mark.parametrize("after", [20, 320, 1900])
def test_an_agent_that_starts_during_a_pull_shows_it_as_running(observe, push, mode, after):
    observed = observe(mode, every=5.0)
    ref, image = push("app:1", ("base", 10), ("top", 24000))
    observed.watched.node.pull(ref)
    observed.until(lambda: observed.watched.node.now >= NOON + after)
    observed.restart_agent()
    for _ in range(5):
        observed.step()
        (row,) = observed.server.shown
        assert row.status is PullPhase.DOWNLOADING
    row = observed.finish()
    assert (row.downloaded_bytes, row.cached_bytes) == (image.size, 0)
    assert observed.server.metric("pulls_total", registry="registry.test", result="failed") == 0


@pytest.mark.parametrize("mode", FETCHING)
def test_every_byte_is_counted_as_it_arrives_if_the_agent_can_read_the_snapshotter_files(start_simulated, push, mode):
    observed = Observed(start_simulated(CONTAINERD_1, snapshotter="soci", mode=mode), sees_files=True)
    node = observed.watched.node
    ref, image = push("app:1", ("base", 100), ("middle", 300), ("top", 1500))
    pull = node.pull(ref)
    files = node.store.snapshotter.files
    arrived = {}
    shares = []
    while not pull.state:
        observed.step()
        arrived |= {digest: max(size, arrived.get(digest, 0)) for digest, size in files.items()}
        if pull.state is None and len(arrived) == 3:
            (row,) = observed.server.shown
            shares.append((row.percent, 100 * sum(arrived.values()) / image.size))
            assert not row.stalled_since
            assert row.percent_basis is PercentBasis.BYTES
    assert {row.percent_basis for row in observed.rows if row.total_known} == {PercentBasis.BYTES}
    assert len(shares) > 100
    assert max(abs(shown - truth) for shown, truth in shares) <= 2
    assert any(row.eta_seconds for row in observed.rows)
    row = observed.finish()
    assert (row.downloaded_bytes, row.cached_bytes, row.percent_basis) == (image.size, 0, PercentBasis.BYTES)
    assert counted(observed, "bytes") == image.size


def test_a_pull_never_counts_as_failed_while_the_snapshotter_fetches_its_layers(observe, push):
    observed = observe(Mode.PARALLEL, every=20.0)
    ref, image = push("app:1", ("top", 30000))
    observed.watched.node.pull(ref)
    row = observed.finish()
    assert observed.watched.node.now - NOON > 1800 + 300
    assert row.downloaded_bytes == image.size


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("every", [0.05, 0.1, 0.25, 0.4])
@pytest.mark.parametrize("layers", [1, 4])
def test_streamed_bytes_never_count_as_downloaded_or_cached_no_matter_when_polls_happen(
    observe, push, version, every, layers
):
    observed = observe(Mode.STREAM, version, every, name="stargz")
    ref, image = push("app:1", *((f"layer {number}", 100) for number in range(layers)))
    observed.watched.node.pull(ref)
    row = observed.finish()
    assert (row.remote_bytes, row.downloaded_bytes, row.cached_bytes) == (image.size, 0, 0)
    assert (row.total_bytes, row.image_bytes) == (0, image.size)
    assert {layer.state for layer in row.layers} == {LayerPhase.REMOTE}
    assert counted(observed, "remote_bytes") == image.size
    assert (counted(observed, "bytes"), counted(observed, "cached_bytes")) == (0, 0)


@pytest.mark.parametrize("mode", [Mode.STREAM, Mode.PARALLEL, Mode.PARALLEL_KEEP])
@pytest.mark.parametrize("every", [0.05, 1.0])
def test_a_pull_is_reported_as_an_ordinary_pull_if_the_snapshotter_declines_the_image(observe, push, mode, every):
    observed = observe(mode, every=every)
    ref, image = push("app:1", ("base", 20), ("top", 60))
    observed.watched.node.store.snapshotter.declines.add(image.manifest.digest)
    observed.watched.node.pull(ref)
    row = observed.finish()
    assert (row.downloaded_bytes, row.cached_bytes, row.remote_bytes) == (image.size, 0, 0)
    assert row.percent_basis is PercentBasis.BYTES
    shares = [row.percent for row in observed.rows if row.percent_basis is PercentBasis.BYTES]
    assert len({share for share in shares if 0 < share < 100}) >= 3
    assert {layer.fetched_by for layer in row.layers} == {None}


@pytest.mark.parametrize("mode", [*FETCHING, Mode.STREAM])
def test_a_base_layer_is_counted_as_cached_if_it_was_pulled_with_another_image(observe, push, mode):
    observed = observe(mode, every=0.25)
    first, _ = push("app:1", ("base", 100), ("one", 10))
    second, _ = push("app:2", ("base", 100), ("two", 10))
    observed.watched.node.pull(first)
    observed.finish()
    observed.new_server()
    observed.watched.node.pull(second)
    row = observed.finish()
    new = row.remote_bytes if mode is Mode.STREAM else row.downloaded_bytes
    assert (row.cached_bytes, new) == (100 * MIB, 10 * MIB)


def test_the_bytes_of_a_layer_that_two_pulls_share_are_counted_only_once(observe, push):
    observed = observe(Mode.PARALLEL)
    refs = [push(f"app:{number}", ("base", 300), (f"own {number}", 100))[0] for number in (1, 2)]
    for ref in refs:
        observed.watched.node.pull(ref)
    observed.until(lambda: not observed.watched.node.pulls)
    observed.step()
    assert {row.status for row in observed.server.shown} == {PullPhase.COMPLETED}
    assert counted(observed, "bytes") == 500 * MIB
    assert [row.downloaded_bytes for row in observed.server.shown] == [400 * MIB, 400 * MIB]


def test_layers_that_the_snapshotter_already_had_are_counted_as_cached_and_all_others_as_downloaded(observe, push):
    observed = observe(Mode.UNPACK, name="erofs")
    ref, image = push("app:1", ("base", 100), ("middle", 50), ("top", 10))
    staged = [image.layers[number].blob.digest for number in (0, 1)]
    observed.watched.node.store.snapshotter.cache.update(staged)
    observed.watched.node.pull(ref)
    row = observed.finish()
    assert (row.cached_bytes, row.downloaded_bytes) == (150 * MIB, 10 * MIB)
    assert counted(observed, "bytes") == 10 * MIB


@pytest.mark.parametrize("every", [0.05, 0.25])
def test_an_image_counts_as_cached_if_the_snapshotter_already_had_every_layer(observe, push, every):
    observed = observe(Mode.UNPACK, name="erofs", every=every)
    shared, _ = push("shared:1", ("tools", 5))
    observed.watched.node.pull(shared)
    observed.finish()
    observed.new_server()
    ref, image = push("app:1", ("tools", 5), ("base", 100), ("top", 10))
    observed.watched.node.store.snapshotter.cache.update(layer.blob.digest for layer in image.layers)
    observed.watched.node.pull(ref)
    row = observed.finish()
    assert (row.cached_bytes, row.downloaded_bytes) == (image.size, 0)


@pytest.mark.parametrize("every", [0.1, 0.5])
def test_layers_that_a_guest_will_fetch_are_attributed_to_the_guest(observe, push, every):
    observed = observe(Mode.GUEST, name="nydus", every=every)
    ref, image = push("app:1", ("base", 9000))
    observed.watched.node.pull(ref)
    row = observed.finish()
    assert (row.remote_bytes, row.cached_bytes, row.downloaded_bytes) == (image.size, 0, 0)
    assert [(layer.state, layer.fetched_by) for layer in row.layers] == [(LayerPhase.REMOTE, GUEST)]


def test_pulls_are_not_attributed_to_the_default_snapshotter_if_their_runtime_class_selects_a_different_one(
    start_simulated, push
):
    observed = Observed(start_simulated(CONTAINERD_1, others=[Snapshotter("soci", Mode.PARALLEL)]))
    ref, image = push("app:1", ("base", 10), ("top", 400))
    observed.watched.node.pull(ref, snapshotter="soci")
    row = observed.finish()
    assert (row.snapshotter, row.downloaded_bytes, row.cached_bytes) == ("soci", image.size, 0)
    assert all(row.percent < 100 for row in observed.rows if row.total_known)
    assert {row.snapshotter for row in observed.rows[3:]} == {"soci"}


def test_layers_unpacked_by_the_default_snapshotter_are_unpacked_again_for_another_snapshotter(start_simulated, push):
    observed = Observed(start_simulated(CONTAINERD_1, others=[Snapshotter("soci", Mode.PARALLEL)]))
    ref, image = push("app:1", ("base", 10), ("top", 400))
    observed.watched.node.pull(ref)
    observed.finish()
    observed.new_server()
    observed.watched.node.pull(ref, snapshotter="soci")
    row = observed.finish()
    assert (row.snapshotter, row.downloaded_bytes, row.cached_bytes) == ("soci", 0, image.size)
    assert {row.status for row in observed.rows if row.total_known} == {PullPhase.EXTRACTING}
    assert {layer.state for layer in row.layers} == {LayerPhase.EXTRACTED}


def test_an_ordinary_pull_is_not_affected_by_a_second_snapshotter_that_is_loaded(start_simulated, push):
    observed = Observed(start_simulated(CONTAINERD_1, others=[Snapshotter("soci", Mode.PARALLEL)]))
    ref, image = push("app:1", ("base", 50), ("top", 100))
    observed.watched.node.pull(ref)
    row = observed.finish()
    assert (row.snapshotter, row.percent_basis) == ("overlayfs", PercentBasis.BYTES)
    assert row.downloaded_bytes == image.size
    assert {layer.fetched_by for seen in observed.rows for layer in seen.layers or ()} == {None}


@pytest.mark.parametrize(
    ("snapshotter", "label", "expected"),
    [
        ("stargz", "containerd.io/snapshot/remote", Delivery.STREAMED),
        ("soci", "containerd.io/snapshot/remote/namespace", Delivery.FETCHED),
        ("soci", "containerd.io/snapshot/remote/image.layers.size", Delivery.UNKNOWN),
        ("nydus", "containerd.io/snapshot/nydus-blob", Delivery.STREAMED),
        ("nydus", "containerd.io/snapshot/nydus-bootstrap", Delivery.UNKNOWN),
        ("nydus", "containerd.io/snapshot/nydus-proxy-mode", Delivery.GUEST),
        ("overlayfs", "containerd.io/snapshot/remote", Delivery.UNKNOWN),
    ],
)
def test_a_label_is_recognised_only_if_its_whole_key_matches(snapshotter, label, expected):
    assert delivery_of(snapshotter, {label: ""}) is expected


def test_a_layer_with_both_soci_labels_counts_as_streamed():
    labels = {"containerd.io/snapshot/remote": "", "containerd.io/snapshot/remote/namespace": "k8s.io"}
    assert delivery_of("soci", labels) is Delivery.STREAMED


def test_the_default_snapshotter_is_the_one_whose_root_is_the_image_directory():
    roots = {"overlayfs": "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs", "soci": "/data/soci"}
    assert default_of(roots, "/data/soci") == "soci"
    assert default_of(roots, roots["overlayfs"]) == "overlayfs"
    assert default_of({"soci": ""}, "/var/lib/containerd/io.containerd.snapshotter.v1.soci") == "soci"
    assert default_of({"soci": ""}, "") == ""
    assert Snapshotters(roots).remote == ["soci"]
