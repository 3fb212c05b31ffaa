"""Regression tests for rows that did not match what the kubelet did in real clusters."""

import logging

import pytest

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.objects import EventsExpected, EventsHeard
from pulltrace.wire import ErrorReason, LayerPhase, PullPhase
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.changes import NOT_FOUND, event, seen
from tests.server.pulls.joined import UNSEEN, Joined, web

APP = {"registry": "registry.io", "repository": "team/app", "image_ref": "registry.io/team/app"}


@pytest.fixture
def sim():
    return Joined()


def rows(sim):
    return {row.image_ref: (row.status, row.attempt) for row in sim.shown}


def test_a_status_that_arrives_twelve_seconds_after_the_event_belongs_to_the_same_failure(sim):
    one = web()
    sim.apply(seen(one), event(one.pulling("app", NOW)), at=0)
    failed = event(one.failed("app", NOW + 1, NOT_FOUND))
    sim.apply(failed, at=1)
    sim.apply(seen(one), at=13)
    sim.apply(event(one.pulling("app", NOW + 13)), at=13.1)
    sim.apply(event(one.failed("app", NOW + 14, NOT_FOUND)), at=14)
    sim.apply(seen(one), at=26)
    assert (sim.one.status, sim.one.attempt) == (PullPhase.FAILED, 2)
    assert sim.one.next_retry_at.timestamp() == NOW + 39
    assert sim.metric("pulls_total", registry="docker.io", result="failed") == 2


@pytest.mark.parametrize("apart", [0.0, 5.0, 20.0])
def test_a_missing_tag_is_not_shown_as_downloading_while_a_different_tag_is_being_pulled(sim, apart):
    wrong, right = web("a", "registry.io/team/app:wrong"), web("b", "registry.io/team/app:right")
    sim.report(at=0)
    sim.apply(seen(wrong), seen(right), event(wrong.pulling("app", NOW)), at=0)
    sim.apply(event(wrong.failed("app", NOW + 1, NOT_FOUND)), seen(wrong), at=1)
    sim.apply(event(right.pulling("app", NOW + 1 + apart)), at=1 + apart)
    for second in range(2, 20):
        live = pull("lease-x", layer("x", second * MIB), at=NOW + 1.2 + apart, **APP)
        sim.report(live, at=second + apart)
        assert rows(sim)["registry.io/team/app:right"] == (PullPhase.DOWNLOADING, 1)
        assert rows(sim)["registry.io/team/app:wrong"] == (PullPhase.FAILED, 1)
    id_ = next(row.id for row in sim.shown if row.image_ref.endswith("right"))
    sim.apply(event(right.pulled("app", NOW + 20 + apart)), at=20 + apart)
    done = {"status": PullPhase.COMPLETED, "ended_at": NOW + 20 + apart}
    image = {"image_ref": "registry.io/team/app:right"}
    sim.report(pull("lease-x", layer("x", 100 * MIB), at=NOW + 1.2 + apart, **(APP | image | done)), at=21 + apart)
    assert rows(sim) == {
        "registry.io/team/app:right": (PullPhase.COMPLETED, 1),
        "registry.io/team/app:wrong": (PullPhase.FAILED, 1),
    }
    assert next(row.id for row in sim.shown if row.image_ref.endswith("right")) == id_


@pytest.mark.parametrize("report_first", [True, False])
def test_a_failure_event_from_the_kubelet_determines_which_of_two_tags_failed(sim, report_first):
    """Both tags are pulled at the same time, and at first each pull gets the other tag's name."""
    wrong, right = web("a", "registry.io/team/app:wrong"), web("b", "registry.io/team/app:right")
    sim.apply(seen(wrong), seen(right), event(right.pulling("app", NOW)), event(wrong.pulling("app", NOW)), at=0)
    one, two = (pull(id_, layer(id_, MIB), at=NOW + 0.1, **APP) for id_ in ("lease-1", "lease-2"))
    sim.report(one, two, at=1)
    failed = event(wrong.failed("app", NOW + 3, NOT_FOUND))
    if not report_first:
        sim.apply(failed, at=3)
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 3.2, "error_reason": ErrorReason.UNKNOWN}
    sim.report(pull("lease-1", layer("lease-1", MIB), at=NOW + 0.1, **APP, **ended), two, at=3.5)
    if report_first:
        assert rows(sim)["registry.io/team/app:right"] == (PullPhase.FAILED, 1)
        sim.apply(failed, at=4)
    both = {
        "registry.io/team/app:right": (PullPhase.DOWNLOADING, 1),
        "registry.io/team/app:wrong": (PullPhase.FAILED, 1),
    }
    assert rows(sim) == both
    sim.report(pull("lease-2", layer("lease-2", 50 * MIB), at=NOW + 0.1, **APP), at=12)
    assert rows(sim) == both
    image = {"image_ref": "registry.io/team/app:right", "status": PullPhase.COMPLETED, "ended_at": NOW + 20}
    sim.report(pull("lease-2", layer("lease-2", 100 * MIB), at=NOW + 0.1, **(APP | image)), at=20.5)
    sim.apply(event(right.pulled("app", NOW + 20)), at=21)
    right_row = next(row for row in sim.shown if row.image_ref.endswith("right"))
    assert (right_row.status, right_row.attempt) == (PullPhase.COMPLETED, 1)
    assert right_row.completed_at.timestamp() == NOW + 20
    assert rows(sim)["registry.io/team/app:wrong"] == (PullPhase.FAILED, 1)


def test_a_failure_that_is_reported_late_does_not_end_the_pull_of_a_different_tag(sim):
    wrong, right = web("a", "registry.io/team/app:wrong"), web("b", "registry.io/team/app:right")
    sim.apply(seen(wrong), seen(right), event(right.pulling("app", NOW)), event(wrong.pulling("app", NOW)), at=0)
    one, two = (pull(id_, layer(id_, MIB), at=NOW + 0.1, **APP) for id_ in ("lease-1", "lease-2"))
    sim.report(one, two, at=1)
    sim.apply(event(wrong.failed("app", NOW + 3, NOT_FOUND)), at=3)
    sim.apply(event(right.pulled("app", NOW + 9)), at=9)
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 3.2, "error_reason": ErrorReason.UNKNOWN}
    lost = pull("lease-1", layer("lease-1", MIB), at=NOW + 0.1, **APP, **ended)
    sim.report(lost, two, at=9.5)
    image = {"image_ref": "registry.io/team/app:right", "status": PullPhase.COMPLETED, "ended_at": NOW + 9.2}
    sim.report(lost, pull("lease-2", layer("lease-2", 100 * MIB), at=NOW + 0.1, **(APP | image)), at=13)
    assert {(row.image_ref[-5:], row.status, row.completed_at.timestamp()) for row in sim.shown} == {
        ("right", PullPhase.COMPLETED, NOW + 9.2),
        ("wrong", PullPhase.FAILED, NOW + 3.2),
    }


def test_a_pull_without_a_name_is_not_matched_with_an_image_that_is_never_pulled(sim):
    bad, never, real = web("a", "Registry.io/UPPER:1"), web("b", "redis:7"), web("c", "nginx:1.27")
    sim.apply(seen(bad), event(bad.invalid("app", NOW)), seen(never), event(never.never("app", NOW)), at=0)
    sim.apply(seen(real), event(real.pulling("app", NOW)), at=0.5)
    sim.report(pull(at=NOW + 0.2, status=PullPhase.RESOLVING, **UNSEEN), at=1)
    assert rows(sim) == {
        "Registry.io/UPPER:1": (PullPhase.FAILED, 1),
        "docker.io/library/redis:7": (PullPhase.FAILED, 1),
        "docker.io/library/nginx:1.27": (PullPhase.RESOLVING, 1),
    }


def test_a_pull_that_began_before_a_pod_existed_does_not_belong_to_that_pod(sim):
    sim.report(pull(at=NOW + 0.5, status=PullPhase.RESOLVING, **UNSEEN), at=1)
    one = web()
    sim.apply(seen(one), event(one.pulling("app", NOW + 52)), at=52)
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 53, "error_reason": ErrorReason.UNKNOWN}
    sim.report(pull(at=NOW + 0.5, **(UNSEEN | ended)), at=53.2)
    sim.apply(event(one.failed("app", NOW + 53, NOT_FOUND)), at=53.4)
    first = min(sim.shown, key=lambda row: row.started_at)
    assert first.image_ref == "__pulling__"
    assert rows(sim)["docker.io/library/nginx:1.27"] == (PullPhase.FAILED, 1)


def test_a_completed_pull_is_published_only_once_its_byte_count_is_known(sim, caplog):
    """The kubelet event arrives before the agent's first report of the pull."""
    caplog.set_level(logging.INFO, "pulltrace")
    one = web()
    sim.report(at=0)
    sim.apply(seen(one), event(one.pulling("app", NOW + 1)), at=1)
    sim.apply(event(one.pulled("app", NOW + 2, seconds=0.9, size=5 * MIB)), at=2.1)
    assert sim.one.status is PullPhase.QUEUED
    full = {"image_ref": "docker.io/library/nginx:1.27", "status": PullPhase.COMPLETED, "ended_at": NOW + 2}
    done = layer("a", 4 * MIB, 4 * MIB, state=LayerPhase.EXTRACTED)
    sim.report(pull("lease-1", done, at=NOW + 1.1, **full), at=2.9)
    assert (sim.one.status, sim.one.downloaded_bytes) == (PullPhase.COMPLETED, 4 * MIB)
    sim.at(30)
    (line,) = [record for record in caplog.records if record.message == "pull.completed"]
    assert line.fields["bytes"] == 4 * MIB
    assert sim.metric("pulls_total", registry="docker.io", result="completed") == 1


def test_the_log_line_of_a_pull_is_delayed_until_a_late_report_provides_the_byte_count(sim, caplog):
    caplog.set_level(logging.INFO, "pulltrace")
    one = web()
    sim.report(at=0)
    sim.apply(seen(one), event(one.pulling("app", NOW + 1)), at=1)
    sim.apply(event(one.pulled("app", NOW + 2, seconds=0.9, size=5 * MIB)), at=2)
    sim.at(4)
    assert sim.one.status is PullPhase.COMPLETED
    full = {"image_ref": "docker.io/library/nginx:1.27", "status": PullPhase.COMPLETED, "ended_at": NOW + 2}
    sim.report(pull("lease-1", layer("a", 4 * MIB, 4 * MIB, state=LayerPhase.EXTRACTED), at=NOW + 1.1, **full), at=6)
    sim.at(30)
    (line,) = [record for record in caplog.records if record.message == "pull.completed"]
    assert line.fields["bytes"] == 4 * MIB


@pytest.mark.parametrize("reporting", [True, False])
def test_a_pull_that_no_agent_observed_gets_its_duration_and_size_from_the_kubelet(sim, reporting, caplog):
    caplog.set_level(logging.INFO, "pulltrace")
    one = web()
    if reporting:
        sim.report(at=0)
    sim.apply(seen(one), event(one.pulling("app", NOW)), event(one.pulled("app", NOW, seconds=0.3, size=2805)), at=0.4)
    sim.at(10)
    row = sim.one
    assert (row.status, row.image_bytes) == (PullPhase.COMPLETED, 2805)
    assert (row.completed_at - row.started_at).total_seconds() == pytest.approx(0.3)
    (line,) = [record for record in caplog.records if record.message == "pull.completed"]
    assert (line.fields["seconds"], line.fields["image_bytes"]) == (pytest.approx(0.3), 2805)
    assert sim.metric("pull_duration_seconds_sum", registry="docker.io", result="completed") == pytest.approx(0.3)
    sim.at(1500)
    assert sim.one.id == row.id, "the pull is part of the history"
    sim.at(2000)
    assert not sim.shown


@pytest.mark.parametrize("happens", ["invalid", "never"])
def test_repeated_events_are_counted_as_one_attempt_if_the_kubelet_does_not_pull_the_image(sim, happens):
    one = web(image="Nginx:Bad:Name" if happens == "invalid" else "nginx:1.27")
    sim.apply(seen(one), at=0)
    for second in range(0, 165, 12):
        sim.apply(event(getattr(one, happens)("app", NOW + second)), at=second)
        sim.apply(seen(one), at=second + 0.1)
    assert (sim.one.status, sim.one.attempt, sim.one.next_retry_at) == (PullPhase.FAILED, 1, None)
    sim.at(200)
    assert sum(s.value for m in sim.metrics.registry.collect() for s in m.samples if "errors_total" in s.name) == 1


@pytest.mark.parametrize("happens", ["invalid", "never"])
def test_a_failure_from_before_the_server_started_is_not_counted_again(sim, happens, caplog):
    caplog.set_level(logging.INFO, "pulltrace")
    one = web(image="Nginx:Bad:Name" if happens == "invalid" else "nginx:1.27")
    listed = event(getattr(one, happens)("app", NOW - 9), fresh=False)
    sim.apply(EventsExpected(None), seen(one), listed, EventsHeard(None, heard=True), at=0.5)
    sim.at(3)
    sim.apply(event(getattr(one, happens)("app", NOW + 3)), seen(one), at=3.2)  # the kubelet repeats its event
    sim.apply(seen(one), at=14)
    sim.at(20)
    assert (sim.one.status, sim.one.attempt, sim.one.completed_at.timestamp()) == (PullPhase.FAILED, 1, NOW - 9)
    assert "pull.failed" not in caplog.messages
    assert sum(s.value for m in sim.metrics.registry.collect() for s in m.samples if "errors_total" in s.name) == 0


def test_replicas_share_one_row_even_though_the_kubelet_calls_the_runtime_for_each_of_them(sim):
    pods = [web(f"web-{number}") for number in range(3)]
    sim.report(at=0)
    for one in pods:
        sim.apply(seen(one), event(one.pulling("app", NOW)), at=0.1)
    image = {"image_ref": "docker.io/library/nginx:1.27", "status": PullPhase.COMPLETED}
    sim.report(pull("lease-0", layer("a", 50 * MIB), at=NOW + 0.1), at=1)
    first = pull("lease-0", layer("a", 100 * MIB, state=LayerPhase.EXTRACTED), at=NOW + 0.1, ended_at=NOW + 17, **image)
    sim.report(first, at=17.2)
    sim.apply(event(pods[0].pulled("app", NOW + 17, seconds=17, size=100 * MIB)), at=17.2)
    cached = layer("a", 0, state=LayerPhase.CACHED, cached_bytes=100 * MIB)
    for number in (1, 2):
        began = NOW + 15 + 3 * number
        sim.report(pull(f"lease-{number}", at=began, status=PullPhase.EXTRACTING, **UNSEEN), at=15.05 + 3 * number)
        assert len(sim.shown) == 1
        sim.report(pull(f"lease-{number}", cached, at=began, ended_at=began + 0.1, **image), at=15.7 + 3 * number)
        sim.apply(event(pods[number].pulled("app", began, seconds=0.1, size=100 * MIB)), at=15.8 + 3 * number)
        assert len(sim.shown) == 1
    assert (sim.one.status, sim.one.completed_at.timestamp()) == (PullPhase.COMPLETED, NOW + 17)


def test_a_server_restart_does_not_reset_the_attempt_number(sim):
    one = web()
    events = []
    for number, at in enumerate((-60, -48)):
        events = [one.pulling("app", NOW + at), one.failed("app", NOW + at + 1, f"{NOT_FOUND} {number}")]
    sim.apply(EventsExpected(None), seen(one), at=0)
    assert not sim.shown, "a status does not contain an attempt number"
    sim.apply(*(event(item, fresh=False) for item in events), EventsHeard(None, heard=True), at=0.5)
    assert (sim.one.status, sim.one.attempt) == (PullPhase.FAILED, 2)
    sim.apply(seen(one), at=1)
    sim.apply(event(one.pulling("app", NOW + 2)), at=2)
    assert (sim.one.status, sim.one.attempt) == (PullPhase.QUEUED, 3)
    failures = {"registry": "docker.io", "result": "failed"}
    assert sim.metric("pulls_total", **failures) == 0, "the server before the restart counted the two failures"
    sim.apply(event(one.failed("app", NOW + 3, NOT_FOUND)), at=3)
    assert sim.metric("pulls_total", **failures) == 1


def test_a_container_whose_image_was_already_present_has_no_row(sim):
    one = web()
    sim.report(at=0)
    sim.apply(EventsHeard(None, heard=False), seen(one), at=0)
    one.started("app", NOW + 3)
    sim.apply(seen(one), at=3)
    assert not sim.shown
    sim.at(20)
    assert not sim.shown


def test_a_container_whose_image_name_contains_go_string_escapes_has_only_one_row(sim):
    one = PodEvents(pod("web-1", "node-1", {"app": "nginx\u200b:1"}, at=NOW))
    item = one.invalid("app", NOW)
    item["message"] = 'Failed to apply default image tag "nginx\\u200b:1": couldn\'t parse image name "nginx\\u200b:1"'
    sim.apply(seen(one), event(item), seen(one), at=0)
    assert (sim.one.image_ref, sim.one.attempt) == ("nginx\u200b:1", 1)
