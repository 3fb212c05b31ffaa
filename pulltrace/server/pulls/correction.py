"""Correct what the agent reported about the end of a pull, based on the kubelet's reports. Sans-I/O."""

from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.kubernetes.errors import FIRST_BACK_OFF
from pulltrace.server.pulls.clocks import REPORT_LATE, WHOLE_SECONDS
from pulltrace.server.pulls.matching import is_later
from pulltrace.server.pulls.node import Pull
from pulltrace.wire import ErrorReason, PullPhase


def correct(pull: Pull, demand: ImageDemand) -> None:
    """Correct a pull based on the kubelet's reports. The agent may have missed the end of the pull, guessed its start,
    or reported a failure even though the image had arrived.
    """
    if pull.ended_at is None:
        return
    if is_later(demand, pull):
        if pull.presumed:
            pull.ended_at = max(min(pull.ended_at, demand.since - FIRST_BACK_OFF), pull.started_at)
        return
    if demand.pulled_at is None:
        return
    if _proves_success(demand, pull):
        pull.succeed(demand.pulled_at if pull.presumed else pull.ended_at)
    took = demand.pull_seconds
    if took is not None and abs(demand.pulled_at - pull.ended_at) <= WHOLE_SECONDS:
        guessed_early = pull.ended_at - pull.started_at > took + 0.3
        pull.started_at = pull.ended_at - took if guessed_early else pull.started_at


def _proves_success(demand: ImageDemand, pull: Pull) -> bool:
    """Return whether the kubelet's reports prove that a pull succeeded even though the agent reported a failure.

    The image may have been removed since the pull.
    """
    if pull.phase is not PullPhase.FAILED or pull.reason not in (None, ErrorReason.UNKNOWN):
        return False
    if demand.pulled_at is None or demand.pulled_at < pull.started_at - WHOLE_SECONDS:
        return False
    return demand.since_exact or pull.presumed or demand.pulled_at <= (pull.ended_at or 0.0) + REPORT_LATE
