"""Sandboxes and containers also have leases, but their leases never count as pulls."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulltrace.demo.images import make_image, make_layer
from pulltrace.demo.registries import Manner, Registries
from pulltrace.demo.virtual_containerd import CONTAINERD_1, CONTAINERD_2, VirtualContainerd
from pulltrace.wire import PullPhase
from tests.agent.conftest import CONTAINERD_16, HOST, MIB, NOON
from tests.agent.virtual import Watched


@pytest.mark.parametrize("empty", [0.0, 0.3, 1.3, 4.0], ids=lambda seconds: f"empty for {seconds} s")
@pytest.mark.parametrize("full", [0.0, 0.3, 2.0], ids=lambda seconds: f"with a snapshot for {seconds} s")
def test_a_container_lease_never_results_in_a_completed_or_failed_pull(watched, empty, full):
    watched.poll()
    watched.create_container(empty=empty, full=full, polls_every=0.5)
    watched.polls(3)
    assert not watched.live
    assert not watched.ended
    assert {pull.status for history in watched.history.values() for pull in history} <= {PullPhase.RESOLVING}


def test_a_sandbox_lease_does_not_count_as_a_pull(watched):
    """A sandbox's lease never expires, and has the same id as the sandbox."""
    watched.poll()
    lease = watched.node.new_lease(expires=False)
    watched.polls(5)
    lease.resources["snapshots/overlayfs", "f" * 64] = None
    watched.polls(5)
    watched.node.release(lease)
    watched.polls(2)
    assert not watched.history


def test_a_container_lease_is_not_mistaken_for_a_short_pull(watched, push, registries):
    for manner in registries.manners.values():
        manner.latency = 0.0
    ref, _ = push("app:1", ("app", 1))
    watched.poll()
    lease = watched.node.new_lease()
    watched.polls(2)
    began = watched.node.now
    watched.node.pull(ref)
    watched.node.advance(0.5)
    watched.containers.append(watched.node.now)
    watched.node.release(lease)
    watched.polls(3)
    (ended,) = watched.ended
    assert (ended.image_ref, ended.status, ended.ref_guessed) == (ref, PullPhase.COMPLETED, False)
    assert ended.id != lease.id
    assert ended.started_at.timestamp() >= began


def test_a_failed_pull_is_reported_if_no_container_has_been_created_since_it_began(watched):
    watched.poll()
    watched.create_container()
    lease = watched.node.new_lease()
    watched.polls(2)
    watched.node.release(lease)
    watched.polls(2)
    assert [pull.status for pull in watched.ended] == [PullPhase.FAILED]


steps = st.lists(
    st.tuples(
        st.sampled_from(["pull", "container", "container", "wait"]),
        st.integers(0, 3),
        st.sampled_from([0.0, 0.1, 0.4, 1.2, 3.0]),
        st.sampled_from([0.0, 0.1, 1.2]),
    ),
    max_size=12,
)


@settings(max_examples=100)
@given(steps, st.sampled_from([0.2, 0.7, 1.0]), st.sampled_from([CONTAINERD_16, CONTAINERD_1, CONTAINERD_2]))
def test_finished_pulls_are_reported_but_the_leases_of_new_containers_are_not(steps, every, version):
    registries = Registries(manners={HOST: Manner(latency=0.0)})
    refs = [
        registries.push(f"{HOST}/app{number}:1", make_image(f"{number}", make_layer(f"{number}", MIB)))
        for number in range(4)
    ]
    node = VirtualContainerd(registries, now=NOON, version=version)
    watched = Watched(node)
    watched.poll()
    pulled = []
    for what, number, empty, full in steps:
        if what == "pull":
            pulled.append(refs[number])
            node.pull(refs[number])
        elif what == "container":
            watched.create_container(empty=empty, full=full, polls_every=every)
        else:
            watched.polls(1, every)
    watched.until(lambda: not node.pulls, every=every)
    watched.polls(3)
    assert not watched.live
    assert {pull.status for pull in watched.ended} <= {PullPhase.COMPLETED}
    assert {pull.image_ref for pull in watched.ended} == set(pulled)
    assert len(watched.ended) <= len(pulled)
