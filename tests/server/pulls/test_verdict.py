"""Tests for the verdict on what limits a pull. Each rule is tested with and without the measurement it requires."""

import logging

import pytest
from msgspec import structs

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.objects import PodGone
from pulltrace.server.models import Factor
from pulltrace.server.pulls.verdict import HOLDS
from pulltrace.wire import SNAPSHOTTER, LayerPhase, LayerState, NodeLoad, PullPhase, to_time
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull
from tests.server.kubernetes.changes import event, seen
from tests.server.pulls.joined import Joined

FULL_DISK = NodeLoad(seconds=1.0, io_pressure=63.0, cpu_pressure=5.0, disk="nvme0n1", disk_busy=92.0)
STARVED_CPU = NodeLoad(seconds=1.0, io_pressure=2.0, cpu_pressure=81.0, disk="nvme0n1", disk_busy=3.0)
CALM = NodeLoad(seconds=1.0, io_pressure=2.0, cpu_pressure=5.0, disk="nvme0n1", disk_busy=3.0)
LATER = 30


def other(name: str, registry: str = "docker.io") -> dict[str, str]:
    return {"registry": registry, "repository": name, "image_ref": f"{registry}/{name}"}


def extracting(sim: SimulatedHub, load: NodeLoad | None, seconds: int = 20) -> None:
    done = layer("a", 100 * MIB, state=LayerPhase.EXTRACTING)
    for second in range(1, seconds):
        sim.report(pull("lease-1", done, at=NOW, status=PullPhase.EXTRACTING), at=second, load=load)


def download(
    sim: SimulatedHub, rate: int, seconds: range, *, load: NodeLoad | None = CALM, node="node-1", **facts
) -> None:
    """Report a pull whose only layer is downloaded at ``rate`` MiB/s."""
    began = seconds.start - 1
    for second in seconds:
        done = layer("a", (second - began) * rate * MIB, 4000 * MIB)
        sim.report(pull(f"lease-{began}", done, at=NOW + began, **facts), at=second, load=load, node=node)


def end(sim: SimulatedHub, at: int, began: int, **facts) -> None:
    done = layer("a", 4000 * MIB, 4000 * MIB, state=LayerPhase.EXTRACTED)
    ended = {"status": PullPhase.COMPLETED, "ended_at": NOW + at} | facts
    sim.report(pull(f"lease-{began}", done, at=NOW + began, **ended), at=at)


def newest(sim: SimulatedHub):
    return sim.shown[-1]


def test_a_busy_disk_limits_unpacking() -> None:
    sim = SimulatedHub()
    extracting(sim, FULL_DISK)
    bound = sim.one.bound
    assert bound.by is Factor.DISK
    assert bound.why == "Disk nvme0n1 is 92 % busy, and tasks wait for I/O 63 % of the time."
    assert bound.figures == {"diskBusyPercent": 92.0, "ioPressurePercent": 63.0}


@pytest.mark.parametrize(
    ("pressure", "busy", "by"), [(85, 0, Factor.DISK), (45, 70, Factor.UNKNOWN), (45, 85, Factor.DISK)]
)
def test_a_throttled_disk_limits_unpacking_even_if_it_is_not_busy(pressure: float, busy: float, by: Factor) -> None:
    sim = SimulatedHub()
    extracting(sim, NodeLoad(seconds=1.0, io_pressure=pressure, cpu_pressure=5.0, disk="sda", disk_busy=busy))
    assert sim.one.bound.by is by


def test_a_lack_of_cpu_limits_unpacking() -> None:
    sim = SimulatedHub()
    extracting(sim, STARVED_CPU)
    assert sim.one.bound.by is Factor.CPU
    assert sim.one.bound.why == "Unpacking waits for the CPU 81 % of the time, and for I/O 2 %."


@pytest.mark.parametrize("load", [None, CALM, NodeLoad(seconds=1.0, disk="sda", disk_busy=99.0)])
def test_the_verdict_is_unknown_if_no_measurement_explains_slow_unpacking(load: NodeLoad | None) -> None:
    sim = SimulatedHub()
    extracting(sim, load)
    assert sim.one.bound.by is Factor.UNKNOWN


def test_a_lack_of_cpu_does_not_limit_a_download() -> None:
    sim = SimulatedHub()
    download(sim, 10, range(1, 20), load=STARVED_CPU)
    assert sim.one.bound.by is Factor.UNKNOWN


def test_a_verdict_changes_only_after_a_new_limiting_factor_has_lasted_several_seconds() -> None:
    sim = SimulatedHub()
    verdicts = []
    done = layer("a", 100 * MIB, state=LayerPhase.EXTRACTING)
    for second in range(1, 40):
        load = FULL_DISK if second in range(12, 25) else CALM
        sim.report(pull("lease-1", done, at=NOW, status=PullPhase.EXTRACTING), at=second, load=load)
        verdicts.append(sim.one.bound and sim.one.bound.by)
    first = verdicts.index(Factor.DISK) + 1
    assert HOLDS <= first - 11 <= HOLDS + 3
    assert verdicts[0] is None, "there is no verdict in the first seconds"
    assert set(verdicts[: first - 1]) <= {None, Factor.UNKNOWN}
    assert verdicts[-1] is Factor.UNKNOWN


def test_the_registry_is_the_limiting_factor_if_this_node_fetches_faster_from_a_different_registry() -> None:
    sim = SimulatedHub()
    download(sim, 50, range(1, 12), **other("fast", "ghcr.io"))
    end(sim, 13, 0, **other("fast", "ghcr.io"))
    download(sim, 1, range(21, 40), **other("slow"))
    bound = newest(sim).bound
    assert bound.by is Factor.REGISTRY
    assert bound.why == "docker.io delivers 1.0 MB/s per connection; ghcr.io reached 52 MB/s on this node."
    end(sim, 41, 20, **other("slow"))
    bound = newest(sim).bound
    assert bound.by is Factor.REGISTRY
    assert bound.why.endswith("This held for 86 % of 21 s.")
    assert bound.figures["percentOfTime"] == 85.7


def test_the_verdict_on_a_slow_download_is_unknown_if_there_is_no_other_download_to_compare_it_with() -> None:
    sim = SimulatedHub()
    download(sim, 1, range(1, 30))
    assert sim.one.bound.by is Factor.UNKNOWN


def test_a_rate_that_was_measured_half_an_hour_ago_is_not_used_for_comparison() -> None:
    sim = SimulatedHub()
    download(sim, 50, range(1, 12), **other("fast", "ghcr.io"))
    end(sim, 13, 0, **other("fast", "ghcr.io"))
    sim.at(2000)
    download(sim, 1, range(2001, 2020), **other("slow"))
    assert newest(sim).bound.by is Factor.UNKNOWN


def test_the_network_is_the_limiting_factor_if_other_nodes_fetch_faster_from_the_same_registry() -> None:
    sim = SimulatedHub()
    for second in range(1, 12):
        for number in range(4):
            fast = pull("lease-0", layer("a", second * 40 * MIB, 4000 * MIB), at=NOW)
            sim.report(fast, at=second, load=CALM, node=f"fast-{number}")
    download(sim, 3, range(13, 24), **other("small", "quay.io"))
    end(sim, 25, 12, **other("small", "quay.io"))
    download(sim, 3, range(31, 50))
    bound = newest(sim).bound
    assert bound.by is Factor.NETWORK
    assert bound.why == "docker.io delivers 3.1 MB/s per connection here, 42 MB/s to other nodes."


def test_the_network_is_the_limiting_factor_if_two_registries_share_a_saturated_connection() -> None:
    sim = SimulatedHub()
    for began, registry in ((0, "docker.io"), (20, "ghcr.io")):
        download(sim, 40, range(began + 1, began + 15), **other("alone", registry))
        end(sim, began + 16, began, **other("alone", registry))
    for second in range(41, 60):
        done = layer("a", (second - 40) * 18 * MIB, 4000 * MIB)
        one = pull("one", done, at=NOW + 40, **other("one"))
        two = pull("two", done, at=NOW + 40, **other("two", "ghcr.io"))
        sim.report(one, two, at=second, load=CALM)
    assert {status.bound.by for status in sim.shown if not status.status.ended} == {Factor.NETWORK}


def one_large_layer(sim: SimulatedHub, small: int, large: int, seconds: int = 40) -> None:
    """Download three small layers at ``small`` MiB/s each, and a large layer at ``large`` MiB/s."""
    for second in range(1, seconds):
        state = LayerPhase.DOWNLOADING if second * small < 30 else LayerPhase.DOWNLOADED
        layers = [layer(name, min(second * small, 30) * MIB, 30 * MIB, state=state) for name in "abc"]
        big = layer("big", second * large * MIB, 300 * MIB)
        sim.report(pull("lease-1", *layers, big, at=NOW), at=second, load=CALM)


def test_one_large_layer_is_the_limiting_factor_when_several_connections_have_been_faster_than_one() -> None:
    sim = SimulatedHub()
    one_large_layer(sim, small=4, large=4)
    bound = sim.one.bound
    assert bound.by is Factor.LAYER
    assert bound.why.startswith("One layer holds 315 MB of 409 MB and is fetched over one connection at 4.2 MB/s; ")


def test_one_large_layer_is_not_the_limiting_factor_if_one_connection_is_as_fast_as_several() -> None:
    sim = SimulatedHub()
    for second in range(1, 40):
        state = LayerPhase.DOWNLOADING if second < 15 else LayerPhase.DOWNLOADED
        small = layer("a", min(second, 15) * 2 * MIB, 30 * MIB, state=state)
        big = layer("big", (second * 2 + max(second - 15, 0) * 2) * MIB, 300 * MIB)
        sim.report(pull("lease-1", small, big, at=NOW), at=second, load=CALM)
    assert sim.one.bound.by is Factor.UNKNOWN


BUSY_ELSEWHERE = NodeLoad(
    seconds=1.0, io_pressure=90.0, cpu_pressure=5.0, disk="sda", disk_busy=99.0, disk_written_per_sec=100 * MIB
)


def fetch_on_four_nodes(sim: SimulatedHub, *, slow: int, busy: NodeLoad = CALM) -> set[Factor]:
    """Fetch an image from ghcr.io at 40 MiB/s on node-1. Then fetch an image with a small and a large layer from
    docker.io, first on three other nodes at ``slow`` MiB/s per connection, and later on node-1 at 1 MiB/s. During the
    last pull, node-1 has the load ``busy``. Return all verdicts on that pull.
    """
    verdicts = set()
    download(sim, 40, range(1, 12), **other("fast", "ghcr.io"))
    end(sim, 13, 0, **other("fast", "ghcr.io"))
    for second in range(21, 40):
        for number in range(3):
            layers = two_layers(second - 20, slow)
            sim.report(pull("peer", *layers, at=NOW + 20), at=second, load=CALM, node=f"peer-{number}")
    for second in range(41, 80):
        sim.report(pull("judged", *two_layers(second - 40, 1), at=NOW + 40, **other("slow")), at=second, load=busy)
        (status,) = (status for status in sim.shown if status.repository == "slow")
        verdicts |= {status.bound.by} if status.bound else set()
    return verdicts


def two_layers(second: int, rate: int) -> tuple[LayerState, LayerState]:
    state = LayerPhase.DOWNLOADING if second < 12 else LayerPhase.DOWNLOADED
    return layer("small", min(second, 12) * rate * MIB, 12 * rate * MIB, state=state), layer(
        "large", second * rate * MIB, 300 * rate * MIB
    )


def test_a_slow_registry_remains_the_limiting_factor_when_only_one_large_layer_is_left() -> None:
    assert fetch_on_four_nodes(SimulatedHub(), slow=1) == {Factor.REGISTRY}


@pytest.mark.parametrize(
    ("slow", "written", "by"),
    [
        (1, 100 * MIB, Factor.REGISTRY),
        (10, 100 * MIB, Factor.DISK),  # other nodes fetch much faster, so the disk may slow down this pull
        (1, 5 * MIB, Factor.DISK),  # the disk is busy with this pull
        (1, None, Factor.DISK),
    ],
)
def test_a_disk_that_other_programs_keep_busy_does_not_limit_a_pull_from_a_slow_registry(slow, written, by) -> None:
    sim = SimulatedHub()
    busy = structs.replace(BUSY_ELSEWHERE, disk_written_per_sec=written)
    assert fetch_on_four_nodes(sim, slow=slow, busy=busy) == {by}


def test_a_disk_saturated_by_pulls_from_a_fast_registry_limits_the_pull_of_another_fast_registry() -> None:
    sim = SimulatedHub()
    assert fetch_on_four_nodes(sim, slow=40, busy=BUSY_ELSEWHERE) == {Factor.DISK}


def test_the_rate_per_connection_does_not_rise_when_layers_are_complete() -> None:
    sim = SimulatedHub()
    for second in range(1, 30):
        sim.report(pull("lease-1", *two_layers(second, 1), at=NOW), at=second, load=CALM)
    pace = sim.hub._analysis.paces.of("node-1", "docker.io", sim.now)
    assert pace.per_connection <= 1.1 * MIB


def test_a_pull_is_limited_by_the_queue_if_it_waits_for_layers_that_another_pull_is_fetching() -> None:
    sim = SimulatedHub()
    for second in range(1, 20):
        shared = layer("s", second * MIB)
        first = pull("first", shared, **other("first"))
        second_ = pull("second", layer("s", second * MIB, fetched_by="first"), at=NOW + 0.5, **other("second"))
        sim.report(first, second_, at=second, load=CALM)
    assert newest(sim).bound.by is Factor.QUEUE
    assert newest(sim).bound.why == "Waits for 1 of its layers, which first is fetching."


@pytest.mark.parametrize(
    ("version", "by"), [("v2.2.1", Factor.SLOTS), ("1.7.29", Factor.UNKNOWN), ("", Factor.UNKNOWN)]
)
def test_since_containerd_2_1_all_pulls_on_a_node_share_the_download_slots(version: str, by: Factor) -> None:
    sim = SimulatedHub()
    for second in range(1, 20):
        busy = pull("busy", *(layer(name, second * MIB) for name in "abc"), **other("busy"))
        waits = pull("waits", layer("z", 0, state=LayerPhase.WAITING), at=NOW + 0.5, **other("waits"))
        sim.report(busy, waits, at=second, load=CALM, containerd_version=version)
    assert newest(sim).bound.by is by
    if by is Factor.SLOTS:
        assert newest(sim).bound.why.startswith("busy occupies the download slots")


def test_the_verdict_on_a_queued_image_still_identifies_the_pull_ahead_after_both_pulls_have_ended() -> None:
    sim = Joined()
    first, second = (
        PodEvents(pod(name, "node-1", {"app": image}, at=NOW))
        for name, image in (("a", "nginx:1.27"), ("b", "redis:7"))
    )
    sim.apply(seen(first), seen(second), at=1)
    sim.apply(event(first.pulling("app", NOW)), event(second.pulling("app", NOW + 1)), at=1)
    for moment in range(2, LATER):
        sim.report(pull("lease-1", layer("a", moment * MIB), at=NOW), at=moment)
    queued = newest(sim)
    assert (queued.status, queued.bound.by) == (PullPhase.QUEUED, Factor.QUEUE)
    assert queued.bound.why == "Queued behind library/nginx on this node."
    done = layer("a", 100 * MIB, state=LayerPhase.EXTRACTED)
    ended = {"status": PullPhase.COMPLETED, "ended_at": NOW + LATER, "image_ref": "docker.io/library/nginx:1.27"}
    sim.report(pull("lease-1", done, at=NOW, **ended), at=LATER)
    redis = other("library/redis")
    sim.report(pull("lease-2", layer("r", 50 * MIB), at=NOW + LATER, **redis), at=LATER + 2)
    ended = {"status": PullPhase.COMPLETED, "ended_at": NOW + LATER + 6, "image_ref": "docker.io/library/redis:7"}
    full = layer("r", 100 * MIB, state=LayerPhase.EXTRACTED)
    sim.report(pull("lease-2", full, at=NOW + LATER, **(redis | ended)), at=LATER + 7)
    bound = next(status.bound for status in sim.shown if status.repository == "library/redis")
    assert bound.by is Factor.QUEUE
    assert bound.why == "Queued behind library/nginx on this node. This held for 83 % of 35 s."
    assert sim.metric("pull_bound_seconds_total", by="queue", registry="docker.io") == 29.0
    assert sim.metric("pulls_bound_total", by="queue", registry="docker.io") == 1


def test_the_verdict_is_a_rate_limit_even_if_no_agent_observed_the_pull() -> None:
    sim = Joined()
    waiting = PodEvents(pod("a", "node-1", {"app": "nginx:1.27"}, at=NOW))
    url = "https://registry-1.docker.io/v2/library/nginx/manifests/1.27"
    error = f"unexpected status from HEAD request to {url}: 429 Too Many Requests"
    sim.apply(seen(waiting), event(waiting.pulling("app", NOW)), event(waiting.failed("app", NOW + 1, error)), at=2)
    assert sim.one.bound.by is Factor.RATE_LIMIT
    assert sim.one.bound.why.startswith("docker.io limits how many pulls it serves")
    assert sim.metric("pulls_bound_total", by="rate_limit", registry="docker.io") == 1


def test_the_verdict_on_a_rate_limit_identifies_the_owner_with_the_most_pulls_including_cached_pulls() -> None:
    sim = Joined()
    for number in range(4):
        owner = ("ReplicaSet", "web-5d4f7c9b8d") if number else ("Job", "nightly")
        waiting = PodEvents(pod(f"p{number}", "node-1", {"app": "nginx:1.27"}, at=NOW, owner=owner))
        at = 10 * number
        sim.apply(seen(waiting), event(waiting.pulling("app", NOW + at)), at=at + 1)
        cached = layer("a", 0, state=LayerPhase.CACHED, cached_bytes=100 * MIB)
        ended = {"status": PullPhase.COMPLETED, "ended_at": NOW + at + 2, "image_ref": "docker.io/library/nginx:1.27"}
        sim.report(pull(f"lease-{number}", cached, at=NOW + at + 1, **ended), at=at + 3)
        sim.apply(event(waiting.pulled("app", NOW + at + 2)), PodGone(waiting.pod["metadata"]["uid"]), at=at + 4)
    refused = PodEvents(pod("refused", "node-1", {"app": "redis:7"}, at=NOW))
    error = "unexpected status from GET request to https://x/v2/library/redis/manifests/7: 429 Too Many Requests"
    sim.apply(seen(refused), event(refused.pulling("app", NOW + 50)), at=50)
    sim.apply(event(refused.failed("app", NOW + 51, error)), at=52)
    bound = newest(sim).bound
    assert bound.why.endswith(
        "In the last hour, this cluster pulled from it 4 times, most often for Deployment/web in default (3)."
    )
    assert bound.figures == {"pullsLastHour": 4.0, "pullsOfOwner": 3.0}
    (registry,) = sim.hub.registries()
    assert (registry.registry, registry.active_pulls, registry.pulls_last_hour) == ("docker.io", 0, 5)
    assert (registry.owners[0].owner, registry.owners[0].pulls) == ("Deployment/web in default", 3)
    sim.at(3700)
    assert sim.hub.registries() == []


def test_a_pull_whose_layers_the_snapshotter_fetches_is_limited_by_the_snapshotter() -> None:
    sim = SimulatedHub()
    for second in range(1, 20):
        hidden = [layer(name, 0, state=LayerPhase.WAITING, fetched_by=SNAPSHOTTER) for name in "ab"]
        sim.report(pull("lease-1", *hidden, at=NOW, snapshotter="soci"), at=second, load=CALM)
    assert sim.one.bound.by is Factor.SNAPSHOTTER
    assert sim.one.bound.why == "The snapshotter soci fetches 2 layers itself; their bytes cannot be observed."


def test_a_layer_completed_by_the_snapshotter_does_not_count_towards_the_throughput() -> None:
    sim = SimulatedHub()
    for at, plain, soci in ((1, 0, 0), (3, 50 * MIB, 5000 * MIB)):
        first = pull("plain", layer("a", plain, 5000 * MIB), at=NOW, **other("plain", "plain"))
        second = pull("soci", layer("b", soci, 5000 * MIB, fetched_by=SNAPSHOTTER), at=NOW, **other("soci", "soci"))
        sim.report(first, second, at=at)
    assert sim.metric("pull_bytes_total", registry="soci") == 5000 * MIB
    _, rates = sim.hub.throughput.series(NOW + 20)
    assert max(rates["plain"]) == 10 * MIB
    assert "soci" not in rates, "nobody knows when these bytes arrived"


VIA = {"via": ["http://10.0.0.9:5000"]}


@pytest.mark.parametrize(
    ("via", "resolved", "first_byte", "by"),
    [
        (VIA, 31, 63, Factor.MIRROR),
        (VIA, 62, 93, Factor.MIRROR),
        ({}, 31, 63, Factor.UNKNOWN),
        (VIA, 31, 50, Factor.UNKNOWN),
        (VIA, 10, 20, Factor.UNKNOWN),
    ],
)
def test_a_mirror_is_the_limiting_factor_if_each_request_to_it_times_out(via, resolved, first_byte, by) -> None:
    sim = SimulatedHub()
    for second in range(1, first_byte + 30):
        if second < resolved:
            state = pull("lease-1", at=NOW, status=PullPhase.RESOLVING, total_known=False, **via)
        elif second < first_byte:
            state = pull("lease-1", layer("a", 0, state=LayerPhase.WAITING), at=NOW, **via)
        else:
            state = pull("lease-1", layer("a", (second - first_byte + 1) * MIB), at=NOW, **via)
        sim.report(state, at=second, load=CALM)
    ended = {"status": PullPhase.COMPLETED, "ended_at": NOW + first_byte + 30}
    sim.report(
        pull("lease-1", layer("a", 100 * MIB, state=LayerPhase.EXTRACTED), at=NOW, **(via | ended)), at=first_byte + 30
    )
    assert sim.one.bound.by is by
    if by is Factor.MIRROR:
        assert sim.one.bound.why.startswith("Mirror http://10.0.0.9:5000 does not respond: requests wait 30 s")
        assert sim.one.via == VIA["via"]


def test_the_verdict_is_unknown_for_a_short_pull_and_for_a_pull_without_an_explanation() -> None:
    sim = SimulatedHub()
    sim.report(pull("short", layer("a", 10 * MIB)), at=1)
    sim.report(pull("short", layer("a", 100 * MIB), status=PullPhase.COMPLETED, ended_at=NOW + 2), at=2)
    assert sim.one.bound.why == "Took less than 5 s, which is too short for a verdict."
    download(sim, 10, range(11, 30))
    end(sim, 31, 10)
    assert newest(sim).bound.why == "No measured factor explains most of the time."
    assert sim.metric("pulls_bound_total", by="unknown", registry="docker.io") == 2


def test_the_verdict_on_a_finished_pull_says_how_long_no_data_arrived() -> None:
    sim = SimulatedHub()
    for second in range(1, 61):
        sim.report(pull("lease-1", layer("a", min(second, 10) * MIB), at=NOW), at=second)
    done = {"status": PullPhase.COMPLETED, "ended_at": NOW + 62}
    sim.report(pull("lease-1", layer("a", 100 * MIB, state=LayerPhase.EXTRACTED), at=NOW, **done), at=62)
    assert sim.one.bound.by is Factor.UNKNOWN
    assert sim.one.bound.why == "No data arrived for 64 % of 1 min 2 s; the cause is not known."


def test_the_log_line_of_a_finished_pull_contains_the_verdict(caplog: pytest.LogCaptureFixture) -> None:
    sim = SimulatedHub()
    extracting(sim, FULL_DISK)
    done = layer("a", 100 * MIB, state=LayerPhase.EXTRACTED, extracted_at=to_time(NOW + 20))
    with caplog.at_level(logging.INFO):
        sim.report(pull("lease-1", done, at=NOW, status=PullPhase.COMPLETED, ended_at=NOW + 20), at=21)
    (line,) = [record for record in caplog.records if record.getMessage() == "pull.completed"]
    assert line.fields["bound"] == "disk"
    assert "92 % busy" in line.fields["why"]
