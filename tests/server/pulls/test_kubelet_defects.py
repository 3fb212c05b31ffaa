"""Situations from a real cluster in which rows did not agree with the kubelet."""

import logging

import pytest

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.objects import EventsExpected, EventsHeard
from pulltrace.wire import ErrorReason, LayerPhase, PullPhase
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.test_cluster import NOT_FOUND, event, seen
from tests.server.pulls.test_arrival import UNSEEN, Joined, web

APP = {"registry": "registry.io", "repository": "team/app", "image_ref": "registry.io/team/app"}


@pytest.fixture
def world():
    return Joined()


def rows(world):
    return {row.image_ref: (row.status, row.attempt) for row in world.shown}


def test_a_status_twelve_seconds_after_the_event_is_the_same_failure(world):
    one = web()
    world.tell(seen(one), event(one.pulling("app", NOW)), at=0)
    failed = event(one.failed("app", NOW + 1, NOT_FOUND))
    world.tell(failed, at=1)
    world.tell(seen(one), at=13)
    world.tell(event(one.pulling("app", NOW + 13)), at=13.1)
    world.tell(event(one.failed("app", NOW + 14, NOT_FOUND)), at=14)
    world.tell(seen(one), at=26)
    assert (world.one.status, world.one.attempt) == (PullPhase.FAILED, 2)
    assert world.one.next_retry_at.timestamp() == NOW + 39
    assert world.metric("pulls_total", registry="docker.io", result="failed") == 2


@pytest.mark.parametrize("apart", [0.0, 5.0, 20.0])
def test_a_wrong_tag_next_to_the_right_one_is_not_shown_as_downloading(world, apart):
    wrong, right = web("a", "registry.io/team/app:wrong"), web("b", "registry.io/team/app:right")
    world.say(at=0)
    world.tell(seen(wrong), seen(right), event(wrong.pulling("app", NOW)), at=0)
    world.tell(event(wrong.failed("app", NOW + 1, NOT_FOUND)), seen(wrong), at=1)
    world.tell(event(right.pulling("app", NOW + 1 + apart)), at=1 + apart)
    for second in range(2, 20):
        live = pull("lease-x", layer("x", second * MIB), at=NOW + 1.2 + apart, **APP)
        world.say(live, at=second + apart)
        assert rows(world)["registry.io/team/app:right"] == (PullPhase.DOWNLOADING, 1)
        assert rows(world)["registry.io/team/app:wrong"] == (PullPhase.FAILED, 1)
    id_ = next(row.id for row in world.shown if row.image_ref.endswith("right"))
    world.tell(event(right.pulled("app", NOW + 20 + apart)), at=20 + apart)
    done = {"status": PullPhase.COMPLETED, "ended_at": NOW + 20 + apart}
    image = {"image_ref": "registry.io/team/app:right"}
    world.say(pull("lease-x", layer("x", 100 * MIB), at=NOW + 1.2 + apart, **(APP | image | done)), at=21 + apart)
    assert rows(world) == {
        "registry.io/team/app:right": (PullPhase.COMPLETED, 1),
        "registry.io/team/app:wrong": (PullPhase.FAILED, 1),
    }
    assert next(row.id for row in world.shown if row.image_ref.endswith("right")) == id_


def test_a_pull_without_a_name_does_not_belong_to_an_image_that_is_never_pulled(world):
    bad, never, real = web("a", "Registry.io/UPPER:1"), web("b", "redis:7"), web("c", "nginx:1.27")
    world.tell(seen(bad), event(bad.invalid("app", NOW)), seen(never), event(never.never("app", NOW)), at=0)
    world.tell(seen(real), event(real.pulling("app", NOW)), at=0.5)
    world.say(pull(at=NOW + 0.2, status=PullPhase.RESOLVING, **UNSEEN), at=1)
    assert rows(world) == {
        "Registry.io/UPPER:1": (PullPhase.FAILED, 1),
        "docker.io/library/redis:7": (PullPhase.FAILED, 1),
        "docker.io/library/nginx:1.27": (PullPhase.RESOLVING, 1),
    }


def test_a_pull_that_failed_before_its_pod_existed_does_not_belong_to_that_pod(world):
    world.say(pull(at=NOW + 0.5, status=PullPhase.RESOLVING, **UNSEEN), at=1)
    one = web()
    world.tell(seen(one), event(one.pulling("app", NOW + 52)), at=52)
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 53, "error_reason": ErrorReason.UNKNOWN}
    world.say(pull(at=NOW + 0.5, **(UNSEEN | ended)), at=53.2)
    world.tell(event(one.failed("app", NOW + 53, NOT_FOUND)), at=53.4)
    first = min(world.shown, key=lambda row: row.started_at)
    assert first.image_ref == "__pulling__"
    assert rows(world)["docker.io/library/nginx:1.27"] == (PullPhase.FAILED, 1)


def test_the_first_published_completion_has_its_bytes(world, caplog):
    """The kubelet's event arrives before the agent's first report of the pull."""
    caplog.set_level(logging.INFO, "pulltrace")
    one = web()
    world.say(at=0)
    world.tell(seen(one), event(one.pulling("app", NOW + 1)), at=1)
    world.tell(event(one.pulled("app", NOW + 2, seconds=0.9, size=5 * MIB)), at=2.1)
    assert world.one.status is PullPhase.QUEUED
    full = {"image_ref": "docker.io/library/nginx:1.27", "status": PullPhase.COMPLETED, "ended_at": NOW + 2}
    done = layer("a", 4 * MIB, 4 * MIB, state=LayerPhase.EXTRACTED)
    world.say(pull("lease-1", done, at=NOW + 1.1, **full), at=2.9)
    assert (world.one.status, world.one.downloaded_bytes) == (PullPhase.COMPLETED, 4 * MIB)
    world.at(30)
    (line,) = [record for record in caplog.records if record.message == "pull.completed"]
    assert line.fields["bytes"] == 4 * MIB
    assert world.metric("pulls_total", registry="docker.io", result="completed") == 1


def test_the_log_waits_for_bytes_that_are_late(world, caplog):
    caplog.set_level(logging.INFO, "pulltrace")
    one = web()
    world.say(at=0)
    world.tell(seen(one), event(one.pulling("app", NOW + 1)), at=1)
    world.tell(event(one.pulled("app", NOW + 2, seconds=0.9, size=5 * MIB)), at=2)
    world.at(4)
    assert world.one.status is PullPhase.COMPLETED
    full = {"image_ref": "docker.io/library/nginx:1.27", "status": PullPhase.COMPLETED, "ended_at": NOW + 2}
    world.say(pull("lease-1", layer("a", 4 * MIB, 4 * MIB, state=LayerPhase.EXTRACTED), at=NOW + 1.1, **full), at=6)
    world.at(30)
    (line,) = [record for record in caplog.records if record.message == "pull.completed"]
    assert line.fields["bytes"] == 4 * MIB


@pytest.mark.parametrize("reporting", [True, False])
def test_a_pull_that_no_agent_observed_has_the_kubelets_duration_and_size(world, reporting, caplog):
    caplog.set_level(logging.INFO, "pulltrace")
    one = web()
    if reporting:
        world.say(at=0)
    world.tell(seen(one), event(one.pulling("app", NOW)), event(one.pulled("app", NOW, seconds=0.3, size=2805)), at=0.4)
    world.at(10)
    row = world.one
    assert (row.status, row.image_bytes) == (PullPhase.COMPLETED, 2805)
    assert (row.completed_at - row.started_at).total_seconds() == pytest.approx(0.3)
    (line,) = [record for record in caplog.records if record.message == "pull.completed"]
    assert (line.fields["seconds"], line.fields["image_bytes"]) == (pytest.approx(0.3), 2805)
    assert world.metric("pull_duration_seconds_sum", registry="docker.io", result="completed") == pytest.approx(0.3)
    world.at(1500)
    assert world.one.id == row.id, "it is part of the history"
    world.at(2000)
    assert not world.shown


@pytest.mark.parametrize("happens", ["invalid", "never"])
def test_an_image_that_the_kubelet_does_not_pull_is_not_an_attempt(world, happens):
    one = web(image="Nginx:Bad:Name" if happens == "invalid" else "nginx:1.27")
    world.tell(seen(one), at=0)
    for second in range(0, 165, 12):
        world.tell(event(getattr(one, happens)("app", NOW + second)), at=second)
        world.tell(seen(one), at=second + 0.1)
    assert (world.one.status, world.one.attempt, world.one.next_retry_at) == (PullPhase.FAILED, 1, None)
    world.at(200)
    assert sum(s.value for m in world.metrics.registry.collect() for s in m.samples if "errors_total" in s.name) == 1


def test_the_runtime_is_called_once_for_each_replica_but_there_is_only_one_row(world):
    pods = [web(f"web-{number}") for number in range(3)]
    world.say(at=0)
    for one in pods:
        world.tell(seen(one), event(one.pulling("app", NOW)), at=0.1)
    image = {"image_ref": "docker.io/library/nginx:1.27", "status": PullPhase.COMPLETED}
    world.say(pull("lease-0", layer("a", 50 * MIB), at=NOW + 0.1), at=1)
    first = pull("lease-0", layer("a", 100 * MIB, state=LayerPhase.EXTRACTED), at=NOW + 0.1, ended_at=NOW + 17, **image)
    world.say(first, at=17.2)
    world.tell(event(pods[0].pulled("app", NOW + 17, seconds=17, size=100 * MIB)), at=17.2)
    cached = layer("a", 0, state=LayerPhase.CACHED, cached_bytes=100 * MIB)
    for number in (1, 2):
        began = NOW + 15 + 3 * number
        world.say(pull(f"lease-{number}", at=began, status=PullPhase.EXTRACTING, **UNSEEN), at=15.05 + 3 * number)
        assert len(world.shown) == 1
        world.say(pull(f"lease-{number}", cached, at=began, ended_at=began + 0.1, **image), at=15.7 + 3 * number)
        world.tell(event(pods[number].pulled("app", began, seconds=0.1, size=100 * MIB)), at=15.8 + 3 * number)
        assert len(world.shown) == 1
    assert (world.one.status, world.one.completed_at.timestamp()) == (PullPhase.COMPLETED, NOW + 17)


def test_a_start_that_the_agent_guessed_too_early_is_corrected(world):
    one = web()
    world.say(at=0)
    world.tell(seen(one), event(one.pulling("app", NOW + 1)), at=1)
    full = {"image_ref": "docker.io/library/nginx:1.27", "status": PullPhase.COMPLETED, "ended_at": NOW + 1.77}
    world.tell(event(one.pulled("app", NOW + 1, seconds=0.17, size=5)), at=1.8)
    world.say(pull("lease-1", layer("a", 5, 5, state=LayerPhase.EXTRACTED), at=NOW + 1, **full), at=2)
    assert (world.one.completed_at - world.one.started_at).total_seconds() == pytest.approx(0.17)


def test_attempts_are_still_counted_after_a_restart_of_the_server(world):
    one = web()
    events = []
    for number, at in enumerate((-60, -48)):
        events = [one.pulling("app", NOW + at), one.failed("app", NOW + at + 1, f"{NOT_FOUND} {number}")]
    world.tell(EventsExpected(None), seen(one), at=0)
    assert not world.shown, "a status does not contain an attempt number"
    world.tell(*(event(item, fresh=False) for item in events), EventsHeard(None, heard=True), at=0.5)
    assert (world.one.status, world.one.attempt) == (PullPhase.FAILED, 2)
    world.tell(seen(one), at=1)
    world.tell(event(one.pulling("app", NOW + 2)), at=2)
    assert (world.one.status, world.one.attempt) == (PullPhase.QUEUED, 3)


def test_the_kubelets_success_overrides_an_agents_failure(world):
    """The image was removed right after its pull, so its agent did not find it."""
    one = web()
    world.tell(seen(one), event(one.pulling("app", NOW)), at=0)
    world.say(pull("lease-1", layer("a", 49 * MIB), at=NOW + 0.1), at=1)
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 3, "error_reason": ErrorReason.UNKNOWN}
    world.say(pull("lease-1", layer("a", 49 * MIB), at=NOW + 0.1, **ended), at=3.4)
    world.tell(event(one.pulled("app", NOW + 3, seconds=2.9, size=100)), at=3.5)
    world.at(20)
    assert (world.one.status, world.one.attempt) == (PullPhase.COMPLETED, 1)
    assert (world.one.percent, world.one.error) == (100.0, None)
    assert world.metric("pulls_total", registry="docker.io", result="completed") == 1
    assert world.metric("pulls_total", registry="docker.io", result="failed") == 0


@pytest.mark.parametrize("report_first", [True, False])
def test_a_running_container_overrides_an_agents_failure(world, report_first):
    """The image was removed right after its pull, and the kubelet's events cannot be read."""
    one = web()
    world.tell(EventsHeard(None, heard=False), seen(one), at=0)
    world.say(pull("lease-1", layer("a", 49 * MIB), at=NOW + 0.1), at=1)
    assert world.one.status is PullPhase.DOWNLOADING
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 3, "error_reason": ErrorReason.UNKNOWN}
    one.started("app", NOW + 3)
    if not report_first:
        world.tell(seen(one), at=3.2)
    world.say(pull("lease-1", layer("a", 49 * MIB), at=NOW + 0.1, **ended), at=3.4)
    if report_first:
        world.tell(seen(one), at=3.6)
    world.at(20)
    assert (world.one.status, world.one.attempt) == (PullPhase.COMPLETED, 1)
    assert (world.one.percent, world.one.error) == (100.0, None)
    assert world.metric("pulls_total", registry="docker.io", result="completed") == 1
    assert world.metric("pulls_total", registry="docker.io", result="failed") == 0


def test_a_container_whose_image_was_present_has_no_row_after_its_creation(world):
    one = web()
    world.say(at=0)
    world.tell(EventsHeard(None, heard=False), seen(one), at=0)
    one.started("app", NOW + 3)
    world.tell(seen(one), at=3)
    assert not world.shown
    world.at(20)
    assert not world.shown


def test_a_name_in_go_string_escapes_does_not_make_two_rows_for_one_container(world):
    one = PodEvents(pod("web-1", "node-1", {"app": "nginx\u200b:1"}, at=NOW))
    item = one.invalid("app", NOW)
    item["message"] = 'Failed to apply default image tag "nginx\\u200b:1": couldn\'t parse image name "nginx\\u200b:1"'
    world.tell(seen(one), event(item), seen(one), at=0)
    assert (world.one.image_ref, world.one.attempt) == ("nginx\u200b:1", 1)
