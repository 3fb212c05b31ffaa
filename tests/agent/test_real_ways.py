"""Tests for each way in which a real node can obtain an image from a slow registry.

`make snapshotters` sets PULL_SECONDS to 60, which is longer than the time after which a server usually reports a stall.
"""

import asyncio
import logging
import math
import os
import time
from contextlib import AsyncExitStack
from typing import NamedTuple

import pytest

from pulltrace.agent.soci_root import SociRoot
from pulltrace.server.models import PercentBasis
from pulltrace.wire import SNAPSHOTTER, LayerPhase, PullPhase
from tests.agent.follow import Follow
from tests.agent.observer import Observer, outcome
from tests.patience import PATIENCE
from tests.real.archives import CTR, Ctr, feed, oci_archive
from tests.real.images import MIB, make_image, make_layer
from tests.real.ways import CHUNKS, IMPORT, WAYS, Progress, Way

pytestmark = pytest.mark.real

SECONDS = float(os.environ.get("PULL_SECONDS", "8"))
IS_LONG = SECONDS >= 60
PACE = {"every": 1.0 if IS_LONG else 0.55, "stall": 30.0 if IS_LONG else 5.0}
AFTER_THE_LIMIT = 330.0  # longer than the 300 s after which an agent abandons a lease without visible progress

SHAPES = {"dominant": (1, 2, 1, 2, 12), "even": (3, 3, 3, 3, 3, 3)}  # layer sizes in MiB

_log = logging.getLogger(__name__)

BY_TITLE = {way.title: way for way in WAYS}


class Case(NamedTuple):
    """A test case: how the image is pulled, the version of containerd, and how the image's bytes are distributed among
    its layers.
    """

    way: Way
    line: str
    shape: str


def cases(progress, shapes):
    return [
        pytest.param(Case(way, line, shape), id=f"{way.title}, {line}, {shape}")
        for way in WAYS
        for line in way.lines
        for shape in shapes
        if way.progress in progress
    ]


@pytest.fixture
async def begin(registry, tmp_path):
    """Return a function that starts a node that obtains images in the given way."""
    async with AsyncExitStack() as stack:
        yield lambda way, line: way.start(line, registry, stack)


def sent_of(registry, image):
    """Return a function that counts how many bytes of the image's layers the registry has sent since this call."""
    before = {layer.digest: registry.sent[layer.digest] for layer in image.layers}
    return lambda: sum(registry.sent[digest] - count for digest, count in before.items())


def check_rows(observer, way, *bases):
    """Check that a pull's row never disappears, never stalls while bytes are arriving, and never counts more bytes than
    the registry has sent. Return the states of the row in which the pull was live and its size was known.
    """
    assert observer.counts == sorted(observer.counts), "a row does not disappear"
    assert observer.counts[-1] == 1, "one pull is one row"
    assert PullPhase.FAILED not in {seen.row.status for seen in observer.rows}
    check_stalls(observer)
    if way.progress is Progress.LAYERS:
        assert not any(seen.row.stalled_since for seen in observer.rows), "the snapshotter was working"
    live = [seen for seen in observer.rows if seen.row.total_known and not seen.row.status.ended]
    # Some snapshotters briefly examine a layer before leaving it to containerd.
    assert {seen.row.percent_basis for seen in live if not way.plain or seen.row.downloaded_bytes} <= {*bases}
    assert {seen.row.snapshotter for seen in live} <= {way.snapshotter}
    for seen in live:
        assert seen.row.cached_bytes + seen.row.remote_bytes + seen.row.total_bytes == seen.row.image_bytes
        assert seen.row.downloaded_bytes <= seen.sent + 64 * 1024
    return live


def check_stalls(observer):
    """Check that no pull was shown as stalled while its bytes were arriving. A pull that actually paused because the
    machine was busy is not an error.
    """
    for stalled in observer.rows:
        if stalled.row.stalled_since:
            since = stalled.row.stalled_since.timestamp()
            before = max((seen.sent for seen in observer.rows if seen.at <= since), default=0)
            assert stalled.sent <= before + 64 * 1024, f"bytes arrived since {stalled.row.stalled_since}"


def excess_of(way):
    """Return the maximum number of bytes that the registry sends in addition to the bytes that the node stores."""
    if way.settings.get("transfer") == CHUNKS:
        # For each chunk, containerd requests the rest of the layer, and closes the response when it has the chunk. On a
        # busy machine, the registry has then already sent part of the next chunks.
        return math.inf
    return MIB if way.plain else 0  # the bytes that a snapshotter reads before it declines the image


def check_end(observer, ended, ref, *, fetched, cached=0, remote=0, excess=0):
    """Check the byte counts in the last row and in the metrics. ``excess`` is the result of ``excess_of``."""
    row = ended.row
    assert (row.status, row.image_ref) == (PullPhase.COMPLETED, ref)
    assert (row.downloaded_bytes, row.cached_bytes, row.remote_bytes) == (fetched, cached, remote)
    tolerance = max(0.01 * fetched, 128 * 1024)
    assert fetched - tolerance <= ended.sent <= fetched + tolerance + excess
    counted = [observer.metric(name, row.registry) for name in ("bytes", "cached_bytes", "remote_bytes")]
    before = observer.rows[0].row.downloaded_bytes  # byte counters start at 0 when the server starts
    assert counted == [fetched - before, cached, remote]


def check_exact(rows, finished_at, size, *, is_steady):
    """Check the percentage and the estimated remaining time of a pull whose bytes are visible.

    ``is_steady`` is true if the registry maintained its speed throughout the pull. An estimate cannot anticipate that a
    busy machine will slow the registry down.
    """
    assert len(rows) > 3
    off = max(
        max(seen.row.percent - 100 * seen.sent / size, 100 * seen.sent_before / size - seen.row.percent)
        for seen in rows
    )
    _log.info("percentage off by %.2f points at most", off)
    assert off <= (2 if IS_LONG else 20), "a short pull advances by several percentage points per poll"
    for seen in rows:
        if seen.row.percent < 50 or seen.row.status is not PullPhase.DOWNLOADING:
            continue
        estimate, left = seen.row.eta_seconds, finished_at - seen.at
        _log.info("estimate %s s, real %.1f s", estimate, left)
        if estimate is None:
            assert "has unpacked a layer yet" in seen.row.eta_missing
        elif IS_LONG and is_steady:
            assert estimate == pytest.approx(left, rel=0.2, abs=2)


@pytest.mark.parametrize("case", cases([Progress.EXACT, Progress.LAYERS], SHAPES if IS_LONG else ["dominant"]))
async def test_agents_report_every_fetched_byte_no_matter_when_they_start(begin, registry, tmp_path, case: Case):
    way = case.way
    node = await begin(way, case.line)
    ref, image = way.push(
        "team/app:1", make_image(*(make_layer(size * MIB) for size in SHAPES[case.shape])), registry, tmp_path
    )
    registry.limit(image.size / SECONDS)
    sent = sent_of(registry, image)
    basis = PercentBasis.LAYERS if way.progress is Progress.LAYERS else PercentBasis.BYTES
    async with AsyncExitStack() as stack:

        async def observe(**more):
            return await stack.enter_async_context(Observer(node.socket, sent, **PACE, **more))

        steady, restarted = await observe(), await observe()
        await steady.follow.after_polls(1)
        begun = time.monotonic()
        pulling = asyncio.create_task(node.cri.pull(ref))
        observers, exact = [steady, restarted], None
        if way.progress is Progress.LAYERS:
            exact = await observe(soci_root=SociRoot(str(node.proxy_root)))
        await steady.follow.until(lambda: sent() > 0.4 * image.size, seconds=SECONDS + PATIENCE)
        await restarted.restart()
        if way.progress is Progress.LAYERS:
            observers.append(await observe(ahead=AFTER_THE_LIMIT))
        await pulling
        pulled_at, took = time.monotonic(), time.monotonic() - begun
        ends = [await observer.completed() for observer in observers]
        _log.info(
            "%s, %s: %.1f s, completion shown after %.2f s", way.title, case[1:], took, time.monotonic() - pulled_at
        )
        for observer, ended in zip(observers, ends, strict=True):
            live = check_rows(observer, way, basis)
            assert live
            check_end(observer, ended, ref, fetched=image.size, excess=excess_of(way))
            assert outcome(ended.row) == outcome(ends[0].row), "agents agree"
            by = {SNAPSHOTTER} if way.progress is Progress.LAYERS else {None}
            assert {layer.fetched_by for layer in ended.row.layers} == by
        if exact:
            ended = await exact.completed()
            live = check_rows(exact, way, PercentBasis.BYTES)
            check_end(exact, ended, ref, fetched=image.size)
            finished_at = ended.at
            check_exact(live, finished_at, image.size, is_steady=took < 1.1 * SECONDS)


@pytest.mark.parametrize("case", cases([Progress.NONE_NEEDED], ["two layers"]))
async def test_streamed_layers_do_not_count_as_downloaded_or_cached(begin, registry, tmp_path, case: Case):
    way = case.way
    node = await begin(way, case.line)
    ref, image = way.push("team/lazy:1", make_image(make_layer(4 * MIB), make_layer(6 * MIB)), registry, tmp_path)
    async with (
        Observer(node.socket, lambda: 0, **PACE) as first,
        Observer(node.socket, lambda: 0, **PACE) as second,
    ):
        await first.follow.after_polls(1)
        await node.cri.pull(ref)
        ends = [await observer.completed() for observer in (first, second)]
        for observer, ended in zip((first, second), ends, strict=True):
            check_rows(observer, way, *PercentBasis)
            check_end(observer, ended, ref, fetched=0, remote=image.size)
            assert outcome(ended.row) == outcome(ends[0].row), "agents agree"
            assert {layer.state for layer in ended.row.layers} == {LayerPhase.REMOTE}


async def test_two_layers_are_unpacked_at_the_same_time_if_containerd_unpacks_in_parallel(begin, registry):
    node = await begin(BY_TITLE["overlayfs with parallel unpacking"], "2.4")
    layers = [make_layer(MIB, zeros=500 * MIB) for _ in range(2)]
    ref = registry.push("team/zeros:1", make_image(*layers))
    async with Follow(node.socket) as follow:
        await node.cri.pull(ref)
        await follow.until(lambda: follow.ended)
        history = follow.history[follow.ended_as(ref).id]
    extracting = [[layer.state for layer in seen.layers or ()].count(LayerPhase.EXTRACTING) for seen in history]
    assert max(extracting) == 2


SHARING = [
    "containerd's transfer service, overlayfs",
    "overlayfs with `discard_unpacked_layers`",
    "SOCI, parallel mode",
    "stargz",
    "SOCI with an index",
]


@pytest.mark.parametrize("way", [pytest.param(BY_TITLE[title], id=title) for title in SHARING])
async def test_only_the_fifth_layer_is_downloaded_if_the_other_four_were_pulled_with_another_image(
    begin, registry, tmp_path, way: Way
):
    node = await begin(way, "2.4")
    shared, own = [make_layer(MIB) for _ in range(4)], make_layer(3 * MIB)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, _ = way.push("team/one:1", make_image(*shared, make_layer(MIB)), registry, tmp_path / "first")
    ref, image = way.push("team/two:1", make_image(*shared, own), registry, tmp_path / "second")
    await node.cri.pull(first)
    sent = sent_of(registry, image)
    registry.limit(own.size / SECONDS * 2)
    new = image.layers[-1].size
    streams = way.progress is Progress.NONE_NEEDED
    async with Observer(node.socket, sent, **PACE) as observer:
        await observer.follow.after_polls(1)
        await node.cri.pull(ref)
        ended = await observer.completed()
        row = ended.row
        assert (row.cached_bytes, row.downloaded_bytes, row.remote_bytes) == (
            image.size - new,
            0 if streams else new,
            new if streams else 0,
        )
        check_stalls(observer)


@pytest.mark.skipif(not CTR, reason="ctr is needed: `make parts` installs it")
@pytest.mark.parametrize("line", IMPORT.lines)
async def test_an_import_has_no_registry_and_is_not_shown_as_stalled_while_its_archive_is_arriving(begin, line):
    node = await begin(IMPORT, line)
    image = make_image(*(make_layer(size * MIB) for size in (2, 3, 4)))
    name = "registry.test/team/imported:1"
    archive = oci_archive({name: image})
    written = 0
    async with Observer(node.socket, lambda: written, **PACE) as observer:
        await observer.follow.after_polls(1)
        process = await Ctr(node.socket).start_import("--no-unpack")
        step = len(archive) // (int(SECONDS) * 8)
        for start in range(0, len(archive) - step, step):
            await feed(process, archive[start : start + step], hold_at=step)
            written += step
            await asyncio.sleep(1 / 8)
        await feed(process, archive[start + step :])
        ended = await observer.completed()
        check_stalls(observer)
        row = ended.row
        assert (row.status, row.image_ref, row.imported) == (PullPhase.COMPLETED, name, True)
        assert (row.downloaded_bytes, row.cached_bytes) == (image.size, 0)
        registries = {seen.row.registry or "unknown" for seen in observer.rows}
        assert not any(observer.metric("bytes", registry) for registry in registries)
