"""Determine which image a pull is for: the agent knows the repository and digest, and the kubelet's image request
contains the tag. Sans-I/O.

containerd reports the full reference only once a pull has completed. While the pull is running, a demand with the same
digest is an exact match. If an earlier pull on this node had the same digest, the pull is assigned to the demand for
that image. In all other cases, the pull is assigned to the best matching demand. If several demands match equally well,
the earliest pull gets the earliest request, because leases are created in the order of the kubelet's requests. A match
is rated as follows:

==================================================  ================  =================
the demand, compared with the pull                  repository known  nothing known
==================================================  ================  =================
it failed when the pull failed                      FAILED            FAILED
the kubelet began pulling it before the pull        PULLING           PULLING
its last attempt was running when the pull started  OVER              OVER
the kubelet began pulling it shortly after          PULLING_SINCE     PULLING_SINCE
it failed, and a retry is due                       EXPECTED          cannot match
the kubelet has not requested it yet                EXPECTED          cannot match
the node already has it, and another pod waits      EXPECTED          cannot match
the node already has it, and no other pod waits     RESTART           cannot match
no bytes, and a pull completed since the request    ANOTHER_POD       ANOTHER_POD
it failed, and no retry is due                      cannot match      cannot match
the kubelet never pulls it                          cannot match      cannot match
==================================================  ================  =================

``OVER`` counts as ``PULLING`` if the pull began before the kubelet's attempt ended and may have been reported late.

A ``RESTART`` is possible only for a pull without bytes: a restarted container pulls its image again if its pull policy
is Always.

A live pull loses its name only in one of these cases:

- The agent reports a different repository for the pull.
- The agent reports this name for another pull that ran at the same time.
- The pull is still running some time after the kubelet's attempt has ended.
- The pull began after the image had already arrived.

An assumed name is wrong if, at the time of the pull's failure, the kubelet reports a failure for a different image but
not for the assumed one. In that case, two pulls have been mixed up.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from operator import itemgetter
from typing import TypeAlias

from pulltrace import images
from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.pulls.clocks import REPORT_LATE, WHOLE_SECONDS
from pulltrace.server.pulls.node import Pull
from pulltrace.wire import UNKNOWN_IMAGE, PullPhase

ORDER_TOLERANCE = 5.0
"""Maximum number of seconds by which the kubelet's ``Pulling`` event can appear to be later than the pull's lease. The
clocks may differ, and the event's time is in whole seconds.
"""


Taken: TypeAlias = dict[str, list[float]]
"""For each image, the start times of its live pulls whose names are already known."""


@dataclass(frozen=True, slots=True)
class Name:
    """The name of an image: a full reference, only a repository, or nothing if the image is unknown."""

    image: str
    registry: str | None = None
    """The registry's host without its port, because containerd's labels omit the port."""
    repository: str | None = None
    digest: str | None = None
    is_full: bool = False
    guessed: bool = False

    @classmethod
    @lru_cache(4096)  # called for each pull on each tick
    def of(cls, image: str, *, guessed: bool = False) -> "Name":
        """Parse a reference. If the text is not a reference, use the text itself as the name."""
        try:
            ref = images.parse(image)
        except images.InvalidReferenceError:
            return cls(image, is_full=True, guessed=guessed)
        host = images.registry_host(ref.registry)
        return cls(str(ref), host, ref.repository, ref.digest, is_full=True, guessed=guessed)

    @property
    def is_unknown(self) -> bool:
        """Return whether nothing is known about the image."""
        return self.image == UNKNOWN_IMAGE

    def is_same_image(self, other: "Name") -> bool:
        """Return whether the two names may refer to the same image. If one of the names has no tag yet, the
        repositories and the digests are compared.
        """
        if UNKNOWN_IMAGE in (self.image, other.image):
            return False
        if self.is_full and other.is_full:
            return self.image == other.image
        same = (self.registry, self.repository) == (other.registry, other.repository)
        return same and (not self.digest or not other.digest or self.digest == other.digest)

    def is_less_precise(self, known: "Name") -> bool:
        """Return whether this name is less precise than the known name. Names can become less precise after pods have
        been deleted or have started to wait again.
        """
        return known.is_full and not self.is_full and (self.is_unknown or self.is_same_image(known))


def names_of(pulls: Sequence[Pull], demands: Sequence[ImageDemand]) -> dict[str, Name]:
    """Return the names of one node's pulls, by pull key. ``pulls`` must be sorted by start time. A live pull that has a
    name usually keeps it.
    """
    names = {pull.key: _reported(pull) for pull in pulls}
    if not demands:
        return {pull.key: _kept(pull, names[pull.key], None) or names[pull.key] for pull in pulls}
    by_image = {demand.image: (demand, Name.of(demand.image)) for demand in demands}
    completed = _completed(pulls, names)
    taken: Taken = defaultdict(list)
    for pull in pulls:
        if pull.ended_at is None and names[pull.key].is_full:
            taken[names[pull.key].image].append(pull.started_at)
    by_digest = {pull.state.manifest_digest: name for pull in pulls if (name := names[pull.key]).image in by_image}
    confused = _confused(pulls, names, by_image)
    open_ = []
    for pull in pulls:
        name = names[pull.key]
        if name.is_full:
            continue
        exact = next((wanted for _, wanted in by_image.values() if name.digest and wanted.digest == name.digest), None)
        exact = exact or _of_same_digest(pull, name, by_digest, by_image)
        known = exact or _kept(pull, name, by_image.get(pull.supposed, (None,))[0])
        if known is None or (not exact and (pull.key in confused or _is_of_another(pull, known, pulls))):
            open_.append(pull)
            continue
        if known.guessed and name.repository is not None:
            fits = [
                wanted
                for demand, wanted in by_image.values()
                if fit(pull, name, demand, wanted)
                and (wanted.image == known.image or not _has_arrived(demand, wanted, completed))
            ]
            known = Name.of(known.image, guessed=fits != [Name.of(known.image)])
        names[pull.key] = known
        if pull.ended_at is None:
            taken[known.image].append(pull.started_at)
    _assign_by_order(open_, names, list(by_image.values()), taken, completed)
    return names


def _completed(pulls: Iterable[Pull], names: Mapping[str, Name]) -> dict[str, float]:
    """Return when each image's last pull completed. An agent may report the end of a pull before it knows the tag. The
    pull then keeps the tag that it was assigned while it was running.
    """
    found = {}
    for pull in pulls:
        if pull.phase is PullPhase.COMPLETED and pull.ended_at is not None:
            name = names[pull.key]
            known = name if name.is_full else _kept(pull, name, None)
            if known:
                found[known.image] = pull.ended_at
    return found


def _assign_by_order(
    pulls: Iterable[Pull],
    names: dict[str, Name],
    demands: Sequence[tuple[ImageDemand, Name]],
    taken: Taken,
    completed: Mapping[str, float],
) -> None:
    explained: set[str] = set()  # images whose failures have already been assigned to a pull
    for pull in pulls:
        name = names[pull.key]
        fits: dict[Fit, list[tuple[float, Name, ImageDemand]]] = {}
        for demand, candidate in demands:
            how = fit(pull, name, demand, candidate)
            if how is Fit.OVER and _may_be_late(pull, demand) and candidate.image not in explained:
                how = Fit.PULLING
            if how and pull.ended_at is None and _has_arrived(demand, candidate, completed):
                how = None if pull.has_fetched else Fit.ANOTHER_POD
            since = _available_since(pull, demand, taken[candidate.image])
            if how and since is not None and (pull.ended_at is None or candidate.image not in explained):
                fits.setdefault(how, []).append((since, candidate, demand))
        if not fits:
            continue
        best = fits[min(fits)]
        _, candidate, demand = min(best, key=itemgetter(0))
        # A kubelet event may report the end of a pull before the agent does.
        may_be_over = pull.ended_at is None and Fit.OVER in fits
        guessed = len(best) > 1 or (may_be_over and len(fits) > 1) or name.repository is None
        names[pull.key] = Name.of(candidate.image, guessed=guessed)
        # A failed pull does not occupy its demand, so the next attempt can be assigned to that demand.
        if pull.ended_at is None:
            taken[candidate.image].append(pull.started_at)
        elif demand.since <= pull.ended_at + WHOLE_SECONDS:  # the kubelet has not begun a later attempt
            explained.add(candidate.image)


def _has_arrived(demand: ImageDemand, name: Name, completed: Mapping[str, float]) -> bool:
    """Return whether an agent has reported that a pull of this image completed after the kubelet's request."""
    return demand.since <= completed.get(name.image, -math.inf) + WHOLE_SECONDS


def _may_be_late(pull: Pull, demand: ImageDemand) -> bool:
    """Return whether a pull that is reported as live may be the pull whose end the kubelet has already reported."""
    ended_at = demand.ended_at
    return ended_at is not None and pull.started_at < ended_at and (pull.seen_at or 0.0) <= ended_at + REPORT_LATE


def _available_since(pull: Pull, demand: ImageDemand, taken: Sequence[float]) -> float | None:
    """Return the time of the kubelet's earliest request for the image, ignoring requests that other live pulls are
    serving. Return None if no such request was made before this pull started.

    A kubelet that pulls in parallel calls the runtime for all pods at the same time, even for pods that are waiting for
    the same image. ``taken`` contains the start times of the image's other live pulls.
    """
    if not taken:
        return demand.since
    if pull.ended_at is not None or not demand.starts:
        return None
    # A pull that began before ``demand.starts[0]`` belongs to a pod that was deleted.
    used = sum(start >= demand.starts[0] - ORDER_TOLERANCE for start in taken)
    since = demand.starts[used] if used < len(demand.starts) else math.inf
    return since if since <= pull.started_at + ORDER_TOLERANCE else None


class Fit(IntEnum):
    """How well a pull matches a demand. A lower value means a better match."""

    FAILED = 1
    PULLING = 2
    OVER = 3
    PULLING_SINCE = 4
    EXPECTED = 5
    ANOTHER_POD = 6
    RESTART = 7


def fit(pull: Pull, name: Name, demand: ImageDemand, candidate: Name) -> Fit | None:
    """Return how well a demand fits a pull that the agent reported as ``name``. Return None if the pull cannot belong
    to this demand.
    """
    if demand.failure and demand.failure.retry is None and not demand.pulling and demand.pulled_at is None:
        return None  # the kubelet does not pull this image
    if name.repository is not None:
        same = (candidate.registry, candidate.repository) == (name.registry, name.repository)
        if not same or candidate.digest is not None:
            return None
    if pull.ended_at is None or pull.presumed:
        return _fit_live(pull, name, demand)
    if ended_together(pull, demand):
        return Fit.FAILED
    return _fit_ended(pull, pull.ended_at, demand) if name.repository is not None else None


def _fit_live(pull: Pull, name: Name, demand: ImageDemand) -> Fit | None:
    if demand.pulling and demand.since <= pull.started_at + 1.0:
        return Fit.PULLING
    if was_running(pull, demand):
        return Fit.OVER
    if name.repository is None or demand.pulling:
        is_late = demand.pulling and demand.since <= pull.started_at + ORDER_TOLERANCE
        return Fit.PULLING_SINCE if is_late else None
    if demand.failure and demand.failure.retry:
        return Fit.EXPECTED if pull.started_at >= demand.failure.retry.earliest_at - WHOLE_SECONDS else None
    if demand.pulled_at is None or demand.awaited:
        return Fit.EXPECTED
    return None if pull.has_fetched else Fit.RESTART


def _fit_ended(pull: Pull, ended_at: float, demand: ImageDemand) -> Fit | None:
    if demand.pulling and demand.since <= ended_at + WHOLE_SECONDS:
        return Fit.PULLING
    if was_running(pull, demand):
        return Fit.OVER
    requested_after = demand.since_exact and demand.requested and demand.since > ended_at + WHOLE_SECONDS
    return None if requested_after and not demand.failure else Fit.EXPECTED


def was_running(pull: Pull, demand: ImageDemand) -> bool:
    """Return whether the kubelet's attempt was still running when the pull started. That attempt has since ended, so
    the agent reported the pull late.
    """
    ended_at, began = demand.pulled_at, demand.since if demand.since_exact else None
    if demand.failure:
        ended_at, began = demand.failure.at, demand.failure.started_at
    if ended_at is None:
        return False
    return (-math.inf if began is None else began - 1.0) <= pull.started_at <= ended_at + 1.0


def ended_together(pull: Pull, demand: ImageDemand) -> bool:
    """Return whether an unnamed pull failed at the same time as the kubelet's attempt.

    An image that cannot be resolved leaves no trace in containerd, so the pull and the attempt can be matched only by
    time.
    """
    failure = demand.failure
    if failure is None or pull.ended_at is None or pull.phase is not PullPhase.FAILED:
        return False
    began = failure.started_at
    started = began is None or pull.started_at >= began - WHOLE_SECONDS
    return started and abs(failure.at - pull.ended_at) <= ORDER_TOLERANCE


def _kept(pull: Pull, name: Name, demand: ImageDemand | None) -> Name | None:
    """Return the pull's previous name, or None if later reports have disproved it."""
    if not pull.supposed:
        return None
    given = Name.of(pull.supposed, guessed=pull.supposed_guessed)
    if name.repository is not None and (given.registry, given.repository) != (name.registry, name.repository):
        return None
    if demand is None or pull.ended_at is not None or demand.pulling:
        return given
    ended_at = demand.ended_at
    if ended_at is None:
        return given
    # After a failure, a later pull may be a retry whose Pulling event has not arrived yet.
    began_later = demand.failure is None and pull.started_at > ended_at + WHOLE_SECONDS
    outlived = (pull.seen_at or 0.0) > ended_at + REPORT_LATE
    return None if began_later or outlived else given


def _of_same_digest(
    pull: Pull, name: Name, by_digest: Mapping[str | None, Name], by_image: Mapping[str, tuple[ImageDemand, Name]]
) -> Name | None:
    """If the agent does not know the pull's repository yet, return the name of an image that the kubelet needs and that
    the node has already pulled with the same manifest digest. The name is a guess, because several tags may have the
    same digest.

    The agent learns the repository of a cached image only in the poll after the one that found the image's manifest.
    """
    known = by_digest.get(pull.state.manifest_digest) if pull.state.manifest_digest else None
    if known is None or name.repository is not None:
        return None
    demand, wanted = by_image[known.image]
    return Name.of(wanted.image, guessed=True) if fit(pull, known, demand, wanted) else None


def _confused(
    pulls: Sequence[Pull], names: Mapping[str, Name], by_image: Mapping[str, tuple[ImageDemand, Name]]
) -> set[str]:
    """Return the keys of the pulls whose assumed names contradict the kubelet's reports. When such a pull failed,
    the kubelet reported a failure for a different image but not for the assumed one.
    """
    found = set[str]()
    for pull in pulls:
        own, _ = by_image.get(pull.supposed, (None, None))
        if pull.phase is not PullPhase.FAILED or own is None:
            continue
        if own.since > (pull.ended_at or 0.0) or ended_together(pull, own):
            continue
        for demand, wanted in by_image.values():
            if demand is not own and fit(pull, names[pull.key], demand, wanted) is Fit.FAILED:
                others = [other for other in pulls if other.supposed == wanted.image]
                if not any(ended_together(other, demand) for other in others):
                    found |= {pull.key, *(other.key for other in others if other.ended_at is None)}
    return found


def _is_of_another(pull: Pull, name: Name, pulls: Sequence[Pull]) -> bool:
    """Return whether the agent reports this name for another pull that ran at the same time."""
    others = [other for other in pulls if other is not pull and _reported(other).image == name.image]
    return any(other.ended_at is None or other.ended_at > pull.started_at for other in others)


def _reported(pull: Pull) -> Name:
    """Return the name that the agent reports for a pull."""
    state = pull.state
    name = f"{state.registry}/{state.repository}"
    if state.image_ref not in ("", UNKNOWN_IMAGE, name):
        return Name.of(state.image_ref, guessed=state.ref_guessed)
    if state.registry and state.repository:
        return Name(name, state.registry, state.repository, state.manifest_digest)
    return Name(UNKNOWN_IMAGE)
