"""A pull that begins and ends between two polls is reported once, and nothing else is reported as a pull."""

import pytest

from pulltrace.demo.snapshotter import Mode
from pulltrace.demo.virtual_containerd import CONTAINERD_1, CONTAINERD_2
from pulltrace.wire import LayerPhase, PullPhase
from tests.agent.conftest import CONTAINERD_16
from tests.agent.follow import downloaded
from tests.agent.virtual import Watched


@pytest.fixture(params=[CONTAINERD_16, CONTAINERD_1, CONTAINERD_2])
def quick(request, start_simulated, registries):
    """An agent that polls every second, and a registry that responds immediately."""
    for manner in registries.manners.values():
        manner.latency = 0.0
    watched = Watched(start_simulated(request.param))
    watched.poll()
    return watched


def pull_between_polls(watched, ref):
    started = watched.node.pull(ref)
    watched.node.advance(0.9, step=0.02)
    assert started.state is PullPhase.COMPLETED
    watched.node.advance(0.1)


def results(watched):
    return [(pull.image_ref, pull.status, pull.ref_guessed, downloaded(pull)) for pull in watched.ended]


def test_ten_images_pulled_in_a_row_are_reported_as_ten_completed_pulls_with_names_and_sizes(quick, push):
    pulled = [push(f"app-{number}:1", (f"app {number}", 1)) for number in range(10)]
    for ref, _ in pulled:
        pull_between_polls(quick, ref)
        quick.poll()
    quick.polls(3)
    assert results(quick) == [(ref, PullPhase.COMPLETED, False, image.size) for ref, image in pulled]
    assert len({pull.id for pull in quick.ended}) == 10


def test_all_images_that_are_pulled_between_two_polls_are_reported(quick, push):
    pulled = [push(f"app-{number}:1", (f"app {number}", 1)) for number in range(3)]
    for ref, _ in pulled:
        quick.node.pull(ref)
    quick.node.advance(1.0)
    quick.polls(3)
    assert sorted(results(quick)) == [(ref, PullPhase.COMPLETED, False, image.size) for ref, image in pulled]


@pytest.mark.parametrize("pause", [1, 2])
def test_each_repeated_pull_of_a_cached_image_is_reported_once(quick, push, pause):
    ref, image = push("app:1", ("app", 1))
    for _ in range(3):
        pull_between_polls(quick, ref)
        quick.polls(pause)
    quick.polls(2)
    assert results(quick) == [
        (ref, PullPhase.COMPLETED, False, image.size),
        (ref, PullPhase.COMPLETED, False, 0),
        (ref, PullPhase.COMPLETED, False, 0),
    ]
    assert {layer.state for layer in quick.ended[-1].layers} == {LayerPhase.CACHED}


def test_pulling_a_second_tag_of_a_cached_image_is_reported_as_a_pull_of_that_tag(quick, push):
    first, image = push("app:1", ("app", 1))
    second = quick.node.registries.push("registry.test/app:2", image)
    for ref in (first, second):
        pull_between_polls(quick, ref)
        quick.polls(2)
    assert [pull.image_ref for pull in quick.ended] == [first, second]


@pytest.mark.parametrize("pause", [0, 1, 5])
def test_tagging_an_image_is_not_reported_as_a_pull(quick, push, pause):
    ref, _ = push("app:1", ("app", 1))
    pull_between_polls(quick, ref)
    quick.polls(pause)
    quick.node.tag(ref, "registry.test/app:copy")
    quick.node.tag(ref, "registry.test/other:copy")
    quick.polls(3)
    assert [pull.image_ref for pull in quick.ended] == [ref]


def test_an_import_is_not_reported_as_a_pull(quick, push):
    _, image = push("app:1", ("app", 1))
    quick.node.import_image("registry.test/app:1", image)
    quick.polls(3)
    assert not quick.ended
    assert not quick.live


def test_a_pull_that_several_polls_saw_is_reported_only_once(quick, push):
    for number in range(6):
        ref, _ = push(f"app-{number}:1", (f"app {number}", 2))
        quick.node.pull(ref)
        quick.polls(5, every=0.11 + number * 0.07)
        quick.polls(3)
    assert [pull.image_ref for pull in quick.ended] == [f"registry.test/app-{number}:1" for number in range(6)]


@pytest.mark.parametrize("offset", [0.02, 0.05, 0.1, 0.2, 0.3])
def test_a_pull_is_reported_only_once_if_a_poll_and_an_event_reveal_it(quick, push, offset):
    ref, image = push("app:1", ("app", 1))
    quick.node.pull(ref)
    quick.polls(1, every=offset)
    quick.polls(5)
    assert [(pull.image_ref, downloaded(pull)) for pull in quick.ended] == [(ref, image.size)]


def test_a_lease_does_not_get_the_image_of_a_pull_that_ended_before_the_lease_was_created(quick, push):
    refs = [push(f"app-{number}:1", (f"app {number}", 1))[0] for number in range(2)]
    quick.polls(1)
    first = quick.node.pull(refs[0])
    quick.node.advance(0.5, step=0.02)
    assert first.state is PullPhase.COMPLETED
    quick.node.pull(refs[1])
    late = dict(quick.changed)  # the first pull ends after the poll reads the changes but before it lists the leases
    quick.changed.clear()
    quick.poll()
    quick.changed |= late
    quick.polls(3)
    assert sorted((pull.image_ref, pull.status) for pull in quick.ended) == [(ref, PullPhase.COMPLETED) for ref in refs]


@pytest.mark.parametrize("mode", [Mode.STREAM, Mode.PARALLEL])
def test_snapshot_labels_determine_how_the_bytes_of_a_short_pull_are_counted(start_simulated, push, registries, mode):
    for manner in registries.manners.values():
        manner.latency = 0.0
    watched = Watched(start_simulated(CONTAINERD_1, snapshotter="soci", mode=mode))
    watched.poll()
    ref, image = push("app:1", ("app", 1))
    watched.node.pull(ref)
    watched.polls(3)
    (ended,) = watched.ended
    expected = (LayerPhase.REMOTE, 0) if mode is Mode.STREAM else (LayerPhase.EXTRACTED, image.size)
    assert ([layer.state for layer in ended.layers], downloaded(ended)) == ([expected[0]], expected[1])
