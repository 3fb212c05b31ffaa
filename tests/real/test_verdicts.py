"""Tests for the verdicts on pulls by a real containerd. Each test limits a pull by a single factor. In the last test,
the limiting factor of ten ordinary pulls must be unknown.

With ``pytest -s``, each test prints its row of the table in ``docs/verdicts.md``.
"""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.models import Bound, Factor
from pulltrace.server.pulls.limiting import CPU_PRESSURE
from tests.real.containerd import Containerd
from tests.real.fixtures import require_containerd
from tests.real.images import MIB, make_image, make_layer
from tests.real.judged import Observed
from tests.real.limits import UnavailableError, slow_disk, starved_cpu
from tests.real.registry import Registry
from tests.server.kubernetes.changes import event, seen

pytestmark = pytest.mark.real

FAST, SLOW = "docker.io", "quay.io"


@pytest.fixture(autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run one of these tests at a time, because the slow disk and the limited CPU of one test would change the
    measurements of the others.
    """
    with (tmp_path_factory.getbasetemp().parent / "verdicts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def binary() -> str:
    return require_containerd("2.4")


@pytest.fixture
async def real(binary: str, registry: Registry) -> AsyncIterator[Containerd]:
    async with Containerd(binary) as node:
        node.trust(FAST, registry.url)
        yield node


def row(limit: str, observed: Observed, repository: str, by: Factor, *, at_first: Factor | None = None) -> Bound:
    """Check that the verdicts during and after the pull contained only the given factor, and print the test's row of
    the table. The first verdicts may also contain the factor ``at_first``.
    """
    pull = observed.status(repository)
    assert pull is not None
    named = [(seconds, bound) for seconds, bound in observed.verdicts(repository) if bound]
    timeline = [(seconds, bound.by.value) for seconds, bound in named]
    assert pull.bound is not None, timeline
    print(*named, *observed.loads, sep="\n")  # noqa: T201 (pytest shows it if the test fails)
    # If other programs keep the CPU busy, unpacking does have to wait for CPU time.
    pressures = [load.cpu_pressure or 0.0 for load in observed.loads if load]
    others = {Factor.CPU} - {by} if max(pressures, default=0.0) >= CPU_PRESSURE else set()
    others |= {bound.by for _, bound in named[:1] if bound.by is at_first}
    assert observed.factors(repository) - others == {by} - {Factor.UNKNOWN}
    assert pull.bound.by in {by, *others}, (timeline, pull.bound)
    took = (pull.completed_at - pull.started_at).total_seconds() if pull.completed_at else 0.0
    after = f"{observed.first(repository, by):.0f} s" if by is not Factor.UNKNOWN else ""
    print(f"\n| {limit} | {took:.0f} s | `{by}` | {after} | {pull.bound.why} |")  # noqa: T201
    return pull.bound


async def pull(node: Containerd, observed: Observed, reference: str) -> None:
    await node.cri.pull(reference)
    repository = reference.partition("/")[2].rpartition(":")[0]
    await observed.until(lambda: observed.ended(repository))


async def test_the_verdict_identifies_a_slow_registry(real: Containerd, registry: Registry) -> None:
    async with Registry() as slow, Observed(real) as observed:
        real.trust(SLOW, slow.url)
        registry.push("team/quick:1", make_image(*(make_layer(40 * MIB) for _ in range(3))))
        registry.limit(30 * MIB)
        await pull(real, observed, f"{FAST}/team/quick:1")
        slow.push("team/slow:1", make_image(*(make_layer(8 * MIB) for _ in range(3))))
        slow.limit(1.5 * MIB)
        await pull(real, observed, f"{SLOW}/team/slow:1")
        bound = row("registry sends 1.5 MiB/s", observed, "team/slow", Factor.REGISTRY)
        assert bound.why.startswith(f"{SLOW} delivers ")


async def test_the_verdict_identifies_one_large_layer(real: Containerd, registry: Registry) -> None:
    small = [make_layer(3 * MIB) for _ in range(2)]
    large = make_layer(18 * MIB)
    registry.push("team/model:1", make_image(*small, large))
    for layer in (*small, large):
        registry.blob(layer.digest).limit(0.5 * MIB)
    async with Observed(real) as observed:
        await pull(real, observed, f"{FAST}/team/model:1")
        row("18 of 24 MiB in one layer, 0.5 MiB/s per connection", observed, "team/model", Factor.LAYER)


@pytest.fixture
def disk() -> Iterator[object]:
    try:
        with slow_disk(2 * MIB) as mount:
            yield mount
    except UnavailableError as error:
        pytest.skip(str(error))


async def test_the_verdict_identifies_a_slow_disk(binary: str, disk, registry: Registry) -> None:
    registry.push("team/wide:1", make_image(*(make_layer(20 * MIB) for _ in range(3))))
    async with Containerd(binary, disk=disk) as node:
        node.trust(FAST, registry.url)
        async with Observed(node) as observed:
            await pull(node, observed, f"{FAST}/team/wide:1")
            row("disk writes 2 MiB/s (a loop device on one that a cgroup limits)", observed, "team/wide", Factor.DISK)


async def test_the_verdict_is_cpu_if_containerd_gets_too_little_cpu_time(real: Containerd, registry: Registry) -> None:
    registry.push("team/dense:1", make_image(make_layer(MIB, zeros=1500 * MIB)))
    async with Observed(real) as observed:
        try:
            with starved_cpu(real.pid, 6):
                await pull(real, observed, f"{FAST}/team/dense:1")
        except UnavailableError as error:
            pytest.skip(str(error))
        row("containerd has 6 % of one CPU", observed, "team/dense", Factor.CPU)


async def test_the_verdict_identifies_the_queue_of_a_kubelet_that_pulls_serially(
    real: Containerd, registry: Registry
) -> None:
    registry.push("team/first:1", make_image(*(make_layer(10 * MIB) for _ in range(3))))
    registry.push("team/second:1", make_image(make_layer(2 * MIB)))
    registry.limit(1.5 * MIB)
    async with Observed(real) as observed:
        pods = {}
        for name in ("first", "second"):
            image = f"{FAST}/team/{name}:1"
            pods[name] = PodEvents(pod(name, "node-1", {"app": image}, at=observed.hub.now()))
            observed.apply(seen(pods[name]), event(pods[name].pulling("app", observed.hub.now())))
        for name, waiting in pods.items():  # by default, kubelets pull one image at a time
            await pull(real, observed, f"{FAST}/team/{name}:1")
            observed.apply(event(waiting.pulled("app", observed.hub.now())))
        await observed.until(lambda: observed.ended("team/second"))
        row("kubelet pulls one image at a time", observed, "team/second", Factor.QUEUE)
        assert observed.factors("team/first") == set()


async def test_the_verdict_identifies_the_download_slots_if_all_of_them_are_in_use(
    real: Containerd, registry: Registry
) -> None:
    busy = [make_layer(14 * MIB) for _ in range(6)]
    registry.push("team/busy:1", make_image(*busy))
    registry.push("team/late:1", make_image(make_layer(2 * MIB)))
    registry.limit(2 * MIB)
    async with Observed(real) as observed:
        first = asyncio.create_task(pull(real, observed, f"{FAST}/team/busy:1"))
        await registry.reached(busy[0].digest)
        late = PodEvents(pod("late", "node-1", {"app": f"{FAST}/team/late:1"}, at=observed.hub.now()))
        observed.apply(seen(late), event(late.pulling("app", observed.hub.now())))
        second = asyncio.create_task(pull(real, observed, f"{FAST}/team/late:1"))
        await asyncio.gather(first, second)
        # Until containerd has created a lease for the second pull, the verdict "queue" is correct.
        row("another pull holds the three slots", observed, "team/late", Factor.SLOTS, at_first=Factor.QUEUE)


async def test_the_verdict_identifies_a_rate_limit(real: Containerd, registry: Registry) -> None:
    registry.push("team/popular:1", make_image(make_layer(MIB)))
    registry.repository("team/popular").answer = 429
    async with Observed(real) as observed:
        waiting = PodEvents(pod("popular", "node-1", {"app": f"{FAST}/team/popular:1"}, at=observed.hub.now()))
        observed.apply(seen(waiting), event(waiting.pulling("app", observed.hub.now())))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await real.cri.pull(f"{FAST}/team/popular:1")
        observed.apply(event(waiting.failed("app", observed.hub.now(), str(refused.value.details()))))
        await observed.until(lambda: observed.ended("team/popular"))
        await observed.until(lambda: observed.verdicts("team/popular")[-1][1])
        row("registry responds 429", observed, "team/popular", Factor.RATE_LIMIT)


async def test_the_limiting_factor_of_ten_ordinary_pulls_is_unknown(real: Containerd, registry: Registry) -> None:
    registry.limit(5 * MIB)
    async with Observed(real) as observed:
        for number in range(10):
            layers = [make_layer((number + 8) * MIB, files=20), make_layer(11 * MIB), make_layer(12 * MIB)]
            registry.push(f"team/ordinary-{number}:1", make_image(*layers))
            await pull(real, observed, f"{FAST}/team/ordinary-{number}:1")
            row("nothing", observed, f"team/ordinary-{number}", Factor.UNKNOWN)
