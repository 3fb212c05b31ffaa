"""The published figures for one attempt: totals, percentage, rate, remaining time, and whether it has stalled.
Sans-I/O.

Layers that another pull fetches are included in the total and in the downloaded bytes, because their arrival counts as
progress. Shared layers do not count towards the rate, so the sum of all pulls' rates counts each byte only once.
"""

from datetime import datetime
from functools import lru_cache

import msgspec

from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.models import EarlierAttempt, LayerStatus, PercentBasis, PodCorrelation, PullStatus
from pulltrace.server.pulls.analysis import Analysis, Insight, Subject
from pulltrace.server.pulls.node import Pull
from pulltrace.server.pulls.rates import seconds_left
from pulltrace.server.pulls.sums import DONE
from pulltrace.server.pulls.usual import ROUGH
from pulltrace.wire import ErrorReason, LayerPhase, LayerState, PullPhase, to_time

OVERDUE = 1.5
"""If unpacking a layer takes more than this many times as long as expected, the remaining time is no longer estimated.
"""
OVERDUE_SECONDS = 10.0
"""A layer's unpacking is overdue only if it also takes at least this many seconds longer than expected."""

_to_time = lru_cache(4096)(to_time)  # caches start times, which do not change


class ArrivalContext(msgspec.Struct, frozen=True, kw_only=True):
    """All facts about an arrival except its byte counts: the image's name, the pods that are waiting for it, and why
    the pull failed.
    """

    id: str
    image: str
    guessed: bool = False
    attempt: int = 1
    pods: tuple[PodCorrelation, ...] = ()
    waited: tuple[PodCorrelation, ...] = ()
    registry: str | None = None
    repository: str | None = None
    error: str | None = None
    reason: ErrorReason | None = None
    next_retry_at: float | None = None
    ahead: tuple[str, ...] = ()
    """The repositories of the pulls that are or were ahead of this pull in the queue."""
    deleted_ahead: int = 0
    """How many of the pulls ahead in the queue belong only to deleted pods."""
    failing_since: float | None = None
    earlier: tuple[EarlierAttempt, ...] = ()
    queued_at: datetime | None = None


def status_of(pull: Pull, context: ArrivalContext, stall_timeout: float, analysis: Analysis, now: float) -> PullStatus:
    """Return the current status of an attempt that an agent observed."""
    state, node = pull.state, pull.node
    sums = pull.sums
    to_fetch = max(sums.total - sums.cached_bytes - sums.remote_bytes, 0)
    total_known = state.total_known and not sums.exceeded
    downloaded = min(sums.downloaded, to_fetch) if total_known else sums.downloaded
    pull.best_percent = max(pull.best_percent, _percent(pull, to_fetch))
    live = pull.ended_at is None
    reason = context.reason or pull.reason
    registry, repository = state.registry or context.registry, state.repository or context.repository
    subject = Subject(
        image=context.image,
        registry=registry or "",
        repository=repository or "",
        node=node.name,
        size=to_fetch if state.total_known else None,
        ahead=context.ahead,
        reason=reason,
    )
    insight = analysis.of_pull(pull, subject, now)
    usual = insight.usual
    stalled = live and _is_stalled(pull, stall_timeout, now)
    unpacked, is_overdue = _unpacked(pull, now) if live and total_known else (0, False)
    eta = None
    if live and total_known and not (is_overdue and downloaded >= to_fetch):
        eta = _seconds_left(pull, to_fetch - downloaded, unpacked, now)
    if eta is None and live and not downloaded and not stalled:
        eta = _usually_left(insight, now - pull.started_at)
    started_at = _to_time(pull.started_at)
    return PullStatus(
        id=context.id,
        node_name=node.name,
        image_ref=context.image,
        total_bytes=to_fetch,
        downloaded_bytes=downloaded,
        bytes_per_sec=round(pull.bytes_per_second(now), 1),
        percent=pull.best_percent,
        layer_count=len(state.layers or ()),
        layers_done=sums.done,
        started_at=started_at,
        total_known=total_known,
        status=pull.phase,
        image_bytes=sums.total,
        cached_bytes=sums.cached_bytes,
        remote_bytes=sums.remote_bytes,
        percent_basis=PercentBasis.LAYERS if sums.by_snapshotter else PercentBasis.BYTES,
        extracted_bytes=sums.extracted_bytes,
        layers_cached=sums.cached,
        layers_extracted=sums.extracted,
        attempt=context.attempt,
        eta_seconds=eta,
        eta_missing=_why_no_estimate(pull, is_overdue=is_overdue) if live and eta is None else None,
        completed_at=None if pull.ended_at is None else to_time(pull.ended_at),
        error=context.error or pull.error,
        error_reason=reason,
        next_retry_at=None if context.next_retry_at is None else to_time(context.next_retry_at),
        pods=list(context.pods) or None,
        waited=list(context.waited) or None,
        layers=_layers(state.layers, context.id, pull, now) if state.layers else None,
        stalled_since=to_time(pull.arriving.grew_at) if stalled else None,
        ref_guessed=context.guessed,
        registry=registry,
        repository=repository,
        manifest_digest=state.manifest_digest,
        media_type=state.media_type,
        snapshotter=state.snapshotter or node.snapshotter or None,
        imported=state.imported,
        bound=insight.bound,
        usual_seconds=usual.median if usual else None,
        usual_basis=usual.basis if usual else None,
        usual_count=usual.count if usual else None,
        usual_comparable=usual is not None and usual.is_firm,
        slower_than_usual=insight.slower,
        via=state.via,
        failing_since=None if context.failing_since is None else _to_time(context.failing_since),
        earlier_attempts=context.earlier or None,
        queued_at=_before(context.queued_at, started_at),
        downloaded_at=_downloaded_at(pull, now) if pull.phase is PullPhase.COMPLETED else None,
    )


def status_without_pull(
    demand: ImageDemand, context: ArrivalContext, analysis: Analysis, now: float, *, observed: bool
) -> PullStatus:
    """Return the status of an image whose pull no agent is observing. The pull is queued, has ended, or is on a node
    without an agent.
    """
    phase, ended_at, started_at = PullPhase.QUEUED if observed else PullPhase.UNOBSERVED, None, demand.since
    if demand.pulled_at is not None:
        phase, ended_at = PullPhase.COMPLETED, demand.pulled_at
        if demand.pull_seconds is not None:
            started_at = ended_at - demand.pull_seconds
    elif demand.failure and not demand.pulling:
        phase, ended_at = PullPhase.FAILED, max(demand.failure.at, demand.since)
    subject = Subject(
        image=context.image,
        registry=context.registry or "",
        repository=context.repository or "",
        node=demand.node,
        size=None,
        ahead=context.ahead,
        deleted_ahead=context.deleted_ahead,
        reason=context.reason,
    )
    insight = analysis.of_demand(demand, subject, now)
    usual = insight.usual
    start = to_time(started_at)
    return PullStatus(
        id=context.id,
        node_name=demand.node,
        image_ref=context.image,
        total_bytes=0,
        downloaded_bytes=0,
        bytes_per_sec=0.0,
        percent=100.0 if phase is PullPhase.COMPLETED else 0.0,
        layer_count=0,
        layers_done=0,
        started_at=start,
        total_known=False,
        status=phase,
        image_bytes=demand.image_bytes or 0 if phase is PullPhase.COMPLETED else 0,
        cached_bytes=0,
        extracted_bytes=0,
        layers_cached=0,
        layers_extracted=0,
        attempt=context.attempt,
        completed_at=None if ended_at is None else to_time(ended_at),
        error=context.error,
        error_reason=context.reason,
        next_retry_at=None if context.next_retry_at is None else to_time(context.next_retry_at),
        pods=list(context.pods) or None,
        waited=list(context.waited) or None,
        registry=context.registry,
        repository=context.repository,
        bound=insight.bound,
        usual_seconds=usual.median if usual else None,
        usual_basis=usual.basis if usual else None,
        usual_count=usual.count if usual else None,
        usual_comparable=usual is not None and usual.is_firm,
        failing_since=None if context.failing_since is None else _to_time(context.failing_since),
        earlier_attempts=context.earlier or None,
        queued_at=_before(context.queued_at, start),
    )


def _before(queued_at: datetime | None, started_at: datetime) -> datetime | None:
    """Return the time of the request if it is earlier than the start of the pull, otherwise None."""
    return queued_at if queued_at and queued_at < started_at else None


def _downloaded_at(pull: Pull, now: float) -> datetime | None:
    """Return when the last byte of a completed pull arrived, or None if it downloaded nothing or this is unknown."""
    times = [layer.completed_at for layer in pull.state.layers or () if layer.downloaded_bytes]
    known = [time for time in times if time]
    return pull.node.clock.wire_time(max(known), now) if known and len(known) == len(times) else None


def _usually_left(insight: Insight, elapsed: float) -> float | None:
    """Return the number of seconds until the image is ready, assuming that the pull takes as long as usual. Return None
    if the pull has already taken longer, or if the usual duration is only a rough estimate.
    """
    usual = insight.usual
    left = usual.median - elapsed if usual and usual.basis not in ROUGH else 0.0
    return round(left, 1) if left > 0.0 else None


def _percent(pull: Pull, to_fetch: int) -> float:
    """Return the percentage to one decimal place. The percentage is 100 only if every byte has arrived. For example,
    99.96 becomes 99.9.
    """
    downloaded = pull.sums.downloaded
    if pull.phase is PullPhase.COMPLETED:
        return 100.0
    if not pull.state.total_known:
        return 0.0
    if downloaded >= to_fetch and not pull.sums.exceeded:
        return 100.0
    return min(downloaded * 1000 // max(to_fetch, 1) / 10, 99.9)


def _seconds_left(pull: Pull, to_download: int, unpacked: int, now: float) -> float | None:
    if pull.sums.by_snapshotter:
        return None
    # The v0.1.0 agent does not observe unpacking.
    to_unpack = 0 if pull.node.go_agent else pull.sums.to_unpack - unpacked
    rate = pull.arriving.rate(now) if pull.arriving.is_measured(now) else 0.0
    return seconds_left(to_download, rate, to_unpack, _unpack_rate(pull))


def _unpack_rate(pull: Pull) -> float | None:
    return pull.node.unpacking.rate or pull.node.fleet_unpacking.rate


def _unpacked(pull: Pull, now: float) -> tuple[int, bool]:
    """Return estimates for the layers that are being unpacked: how many bytes have already been unpacked, and whether
    any layer is taking much longer than expected.

    Unpacking cannot be observed. The estimates are therefore derived from the time since each layer's unpacking began.
    """
    unpacked, is_overdue = 0, False
    if not pull.sums.unpacking or pull.sums.by_snapshotter or pull.node.go_agent:
        return unpacked, is_overdue
    rate = _unpack_rate(pull)
    if not rate:
        return unpacked, is_overdue
    for layer in pull.state.layers or ():
        if layer.state is LayerPhase.EXTRACTING:
            elapsed = max(now - pull.node.clock.to_server(layer.extract_started_at, now), 0.0)
            usual = layer.total_bytes / rate
            is_overdue |= elapsed > max(OVERDUE * usual, usual + OVERDUE_SECONDS)
            unpacked += min(int(rate * elapsed), layer.total_bytes)
    return unpacked, is_overdue


def _why_no_estimate(pull: Pull, *, is_overdue: bool) -> str:
    """Return the reason why a running pull has no estimate of the remaining time."""
    sums = pull.sums
    if sums.by_snapshotter:
        return "the snapshotter fetches the layers, so their bytes are not known"
    if not pull.state.total_known:
        return "the size of the image is not known yet"
    if sums.exceeded:
        return "the sizes in the manifest are wrong"
    if is_overdue and pull.phase is PullPhase.EXTRACTING:
        return "unpacking takes longer than usual on this node"
    if pull.arriving.total and sums.to_unpack and not _unpack_rate(pull):
        return "no node with this snapshotter has unpacked a layer yet"
    return "too few bytes have arrived so far"


def _is_stalled(pull: Pull, timeout: float, now: float) -> bool:
    """Return whether the pull should be receiving bytes but has received none for ``timeout`` seconds."""
    if pull.phase not in (PullPhase.RESOLVING, PullPhase.DOWNLOADING) or pull.sums.unpacking or pull.sums.elsewhere:
        return False
    return now - pull.arriving.grew_at >= timeout


def _layers(layers: list[LayerState], pull_id: str, pull: Pull, now: float) -> list[LayerStatus]:
    """Return the status of each layer. The statuses of unchanged layers are reused, because most layers are waiting or
    complete.
    """
    known = pull.published_layers
    if pull.published_as != pull_id:
        known.clear()
        pull.published_as = pull_id
    return [
        before[1] if (before := known.get(layer.digest)) and before[0] is layer else _layer(layer, pull_id, pull, now)
        for layer in layers
    ]


def _layer(layer: LayerState, pull_id: str, pull: Pull, now: float) -> LayerStatus:
    status = _layer_now(layer, pull_id, pull, now)
    stands = layer.state not in (None, LayerPhase.DOWNLOADING) and not layer.fetched_by and not pull.node.clock.skew
    if stands and pull.ended_at is None:
        pull.published_layers[layer.digest] = layer, status
    return status


def _layer_now(layer: LayerState, pull_id: str, pull: Pull, now: float) -> LayerStatus:
    clock = pull.node.clock
    to_fetch = max(layer.total_bytes - layer.cached_bytes, 0)
    speed = pull.layer_speeds.get(layer.digest) if layer.state is LayerPhase.DOWNLOADING else None
    downloaded = min(layer.downloaded_bytes, to_fetch) if layer.total_known else layer.downloaded_bytes
    if layer.state in DONE or (layer.total_known and downloaded >= to_fetch):
        percent = 100.0
    else:
        percent = min(downloaded * 1000 // to_fetch / 10, 99.9) if to_fetch else 0.0
    return LayerStatus(
        pull_id=pull_id,
        digest=layer.digest,
        media_type=layer.media_type,
        total_bytes=layer.total_bytes,
        downloaded_bytes=downloaded,
        bytes_per_sec=round(speed.rate(now), 1) if speed else 0.0,
        percent=percent,
        total_known=layer.total_known,
        state=layer.state,
        cached_bytes=layer.cached_bytes,
        fetched_by=layer.fetched_by and pull.node.arrival_of(layer.fetched_by),
        started_at=clock.wire_time(layer.started_at, now),
        completed_at=clock.wire_time(layer.completed_at, now),
        extract_started_at=clock.wire_time(layer.extract_started_at, now),
        extracted_at=clock.wire_time(layer.extracted_at, now),
    )
