"""Tests for properties that hold for every reported pull, whatever happens on the node and whenever the agent polls."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from pulltrace.demo.images import make_image, make_layer
from pulltrace.demo.registries import Registries
from pulltrace.demo.virtual_containerd import CONTAINERD_1, CONTAINERD_2, VirtualContainerd
from pulltrace.wire import LayerPhase, PullPhase
from tests.agent.conftest import CONTAINERD_16, HOST, MIB, NOON
from tests.agent.follow import downloaded, to_fetch
from tests.agent.virtual import Watched

IMAGES = 4
names = st.sampled_from(["base", "one", "two", "empty"])
images = st.lists(names, max_size=4)
steps = st.one_of(
    st.tuples(st.just("pull"), st.integers(0, IMAGES - 1)),
    st.tuples(st.just("cancel"), st.integers(0, 3)),
    st.tuples(st.just("silence"), st.integers(0, IMAGES - 1)),
    st.tuples(st.just("respond"), st.integers(0, IMAGES - 1)),
    st.tuples(st.just("crash"), st.just(0)),
    st.tuples(st.just("remove"), st.integers(0, IMAGES - 1)),
    st.tuples(st.just("advance"), st.integers(1, 20)),
    st.tuples(st.just("poll"), st.integers(1, 20)),
)


class CountingRegistries(Registries):
    """Registries that count the bytes they send for each digest."""

    def __init__(self):
        super().__init__()
        self.sent = Counter()

    def sends(self, blob, received, count):
        sent = min(super().sends(blob, received, count), blob.size - received)
        self.sent[blob.digest] += sent
        return sent


def poll(watched):
    """Poll, then process the same observation a second time and check that nothing changes."""
    watched.poll()
    before = watched.live
    assert watched.tracker.observe(watched.look(), watched.node.now) is not None
    assert watched.tracker.pulls() == before
    assert not watched.tracker.ended()
    for pull in watched.live:
        holds(pull)


def holds(pull):
    for layer in pull.layers:
        assert min(layer.downloaded_bytes, layer.cached_bytes) >= 0
        if pull.total_known:
            assert layer.downloaded_bytes + layer.cached_bytes <= layer.total_bytes
    if pull.total_known:
        assert downloaded(pull) <= to_fetch(pull)
    if pull.status is PullPhase.COMPLETED:
        assert downloaded(pull) == to_fetch(pull)
        assert {layer.state for layer in pull.layers} <= {
            LayerPhase.EXTRACTED,
            LayerPhase.CACHED,
            LayerPhase.DOWNLOADED,
        }
    if pull.status is PullPhase.FAILED:
        assert pull.error


def fetched(pulls):
    """For each layer, return the number of bytes that the pulls report having fetched themselves."""
    total = Counter()
    for pull in pulls:
        total.update({layer.digest: layer.downloaded_bytes for layer in pull.layers if not layer.fetched_by})
    return total


def repository_of(ref):
    return ref.partition(":1")[0]


def live(watched, refs, events):
    """Trigger these events on the node."""
    node = watched.node
    for what, number in events:
        if what == "pull":
            node.pull(refs[number])
        elif what == "cancel" and node.pulls:
            node.pulls[number % len(node.pulls)].cancel()
        elif what == "silence":
            node.registries.silent.add(repository_of(refs[number]))
        elif what == "respond":
            node.registries.silent.discard(repository_of(refs[number]))
        elif what == "crash":
            node.crash()
            watched.tracker.containerd_restarted()
        elif what == "remove" and refs[number] in node.store.records and not node.pulls:
            node.remove(refs[number])
        else:
            node.advance(number / 4)
            if what == "poll":
                poll(watched)


@settings(max_examples=150)
@given(
    st.lists(images, min_size=IMAGES, max_size=IMAGES),
    st.lists(steps, max_size=25),
    st.sampled_from([CONTAINERD_16, CONTAINERD_1, CONTAINERD_2]),
)
def test_every_pull_ends_exactly_once_and_its_bytes_add_up(layers, steps, version):
    registries = CountingRegistries()
    refs = [
        registries.push(
            f"{HOST}/app{number}:1", make_image(f"{number}", *(make_layer(name, 9 * MIB) for name in chosen))
        )
        for number, chosen in enumerate(layers)
    ]
    node = VirtualContainerd(registries, now=NOON, version=version, bandwidth=20 * MIB)
    watched = Watched(node)
    poll(watched)
    live(watched, refs, steps)
    registries.silent.clear()
    last = {node.pull(ref).lease.id: ref for ref in refs}
    watched.until(lambda: not node.pulls, every=0.5)
    node.now += 400  # pulls that existed before the first poll are abandoned
    for _ in range(3):
        node.advance(1)
        poll(watched)
    assert not watched.live
    ids = [pull.id for pull in watched.ended]
    assert len(ids) == len(set(ids)), "each pull ends once"
    for pull in watched.ended:
        holds(pull)
    ended = {pull.id: pull for pull in watched.ended}
    assert {lease: ended[lease].image_ref for lease in last if lease in watched.history} == {
        lease: ref for lease, ref in last.items() if lease in watched.history
    }
    assert {ended[lease].status for lease in last if lease in ended} <= {PullPhase.COMPLETED}
    for history in watched.history.values():
        assert [pull.status.ended for pull in history].count(True) <= 1
        reported = [downloaded(pull) for pull in history if pull.total_known]
        assert reported == sorted(reported), "reported bytes never decrease"
    for digest, count in fetched(watched.ended).items():
        assert count <= registries.sent[digest] + 1, "no byte counts twice"
