"""Determine which image a pull fetches: the agent knows the repository and digest, and the kubelet's demand contains
the tag. Sans-I/O.

containerd reports the full reference only once a pull has completed. Until then, a demand with the same digest is an
exact match. Otherwise the pull is for the demand that fits best. If several demands fit equally well, the order of the
pulls decides. Leases are created in the order of the kubelet's requests:

==================================================  ================  =================
the demand, compared with the pull                  repository known  nothing known
==================================================  ================  =================
the kubelet began pulling it before the pull        PULLING           PULLING
its last attempt was running when the pull started  OVER              OVER
the kubelet began pulling it shortly after          PULLING_SINCE     PULLING_SINCE
it failed, and a retry is due                       EXPECTED          cannot be for it
the kubelet has not requested it yet                EXPECTED          cannot be for it
the node already has it, and another pod waits      EXPECTED          cannot be for it
the node already has it, and no other pod waits     RESTART           cannot be for it
no bytes, and a pull completed since the request    ANOTHER_POD       ANOTHER_POD
it failed, and no retry is due                      cannot be for it  cannot be for it
the kubelet never pulls it                          cannot be for it  cannot be for it
==================================================  ================  =================

A ``RESTART`` is possible only for a pull without bytes: a container that restarts pulls its image again if its policy
is Always. A live pull keeps its name until the pull has continued for a while after the end of the kubelet's attempt.
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
from pulltrace.server.pulls.node import REPORT_LATE, WHOLE_SECONDS, Pull
from pulltrace.wire import UNKNOWN_IMAGE, PullPhase

ORDER_TOLERANCE = 5.0
"""How much later than the resulting lease the kubelet's Pulling event may seem, in seconds. The clocks differ, and the
event's time is in whole seconds.
"""


Taken: TypeAlias = dict[str, list[float]]
"""The start times of the live pulls of each image, as far as the names of these pulls are known."""


@dataclass(frozen=True, slots=True)
class Name:
    """The name of an image: a full reference, a repository if nothing more is known, or nothing."""

    image: str
    registry: str | None = None
    """The host without a port, because containerd's labels omit the port."""
    repository: str | None = None
    digest: str | None = None
    is_full: bool = False
    guessed: bool = False

    @classmethod
    @lru_cache(4096)  # called for each pull on each tick
    def of(cls, image: str, *, guessed: bool = False) -> "Name":
        """Return the name in a reference, or the text itself if it is not a reference."""
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
        """Return whether the two names may refer to the same image. If one of them has no tag yet, the repository and
        the digest decide.
        """
        if UNKNOWN_IMAGE in (self.image, other.image):
            return False
        if self.is_full and other.is_full:
            return self.image == other.image
        same = (self.registry, self.repository) == (other.registry, other.repository)
        return same and (not self.digest or not other.digest or self.digest == other.digest)


def names_of(pulls: Sequence[Pull], demands: Sequence[ImageDemand]) -> dict[str, Name]:
    """Return the name of each pull of one node by pull key; ``pulls`` begins with the oldest pull. A live pull keeps
    its name once it has one.
    """
    names = {pull.key: _reported(pull) for pull in pulls}
    if not demands:
        return {pull.key: _kept(pull, names[pull.key], None) or names[pull.key] for pull in pulls}
    by_image = {demand.image: (demand, Name.of(demand.image)) for demand in demands}
    completed = {
        names[pull.key].image: pull.ended_at
        for pull in pulls
        if pull.phase is PullPhase.COMPLETED and pull.ended_at is not None and names[pull.key].is_full
    }
    taken: Taken = defaultdict(list)
    for pull in pulls:
        if pull.ended_at is None and names[pull.key].is_full:
            taken[names[pull.key].image].append(pull.started_at)
    open_ = []
    for pull in pulls:
        name = names[pull.key]
        if name.is_full:
            continue
        exact = next((wanted for _, wanted in by_image.values() if name.digest and wanted.digest == name.digest), None)
        known = exact or _kept(pull, name, by_image.get(pull.supposed, (None,))[0])
        if known is None or (not exact and _is_of_another(pull, known, pulls)):
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


def _assign_by_order(
    pulls: Iterable[Pull],
    names: dict[str, Name],
    demands: Sequence[tuple[ImageDemand, Name]],
    taken: Taken,
    completed: Mapping[str, float],
) -> None:
    explained: set[str] = set()  # images whose failure already belongs to a pull
    for pull in pulls:
        name = names[pull.key]
        fits: dict[Fit, list[tuple[float, Name, ImageDemand]]] = {}
        for demand, candidate in demands:
            how = fit(pull, name, demand, candidate)
            if how and pull.ended_at is None and _has_arrived(demand, candidate, completed):
                how = None if pull.has_fetched else Fit.ANOTHER_POD
            since = _available_since(pull, demand, taken[candidate.image])
            if how and since is not None and (pull.ended_at is None or candidate.image not in explained):
                fits.setdefault(how, []).append((since, candidate, demand))
        if not fits:
            continue
        best = fits[min(fits)]
        _, candidate, demand = min(best, key=itemgetter(0))
        # The kubelet's event about an end may precede the report of that pull.
        may_be_over = pull.ended_at is None and Fit.OVER in fits
        guessed = len(best) > 1 or (may_be_over and len(fits) > 1) or name.repository is None
        names[pull.key] = Name.of(candidate.image, guessed=guessed)
        # The next attempt of a failed pull is for the same demand.
        if pull.ended_at is None:
            taken[candidate.image].append(pull.started_at)
        elif demand.since <= pull.ended_at + WHOLE_SECONDS:  # no later attempt has requested the image
            explained.add(candidate.image)


def _has_arrived(demand: ImageDemand, name: Name, completed: Mapping[str, float]) -> bool:
    """Return whether an agent has reported that a pull of this image completed after the kubelet requested it."""
    return demand.since <= completed.get(name.image, -math.inf) + WHOLE_SECONDS


def _available_since(pull: Pull, demand: ImageDemand, taken: Sequence[float]) -> float | None:
    """Return when the kubelet requested an image that no other live pull fetches. Return None if there is no such
    request.

    A kubelet that pulls in parallel calls the runtime for all pods at the same time, even if they wait for the same
    image. ``taken`` contains the start times of the other live pulls of the image.
    """
    if not taken:
        return demand.since
    if pull.ended_at is not None or not demand.starts:
        return None
    # A pull that began earlier belongs to a pod that was deleted.
    used = sum(start >= demand.starts[0] - ORDER_TOLERANCE for start in taken)
    since = demand.starts[used] if used < len(demand.starts) else math.inf
    return since if since <= pull.started_at + ORDER_TOLERANCE else None


class Fit(IntEnum):
    """How well a pull fits a demand; the lowest value is best."""

    PULLING = 1
    OVER = 2
    PULLING_SINCE = 3
    EXPECTED = 4
    ANOTHER_POD = 5
    RESTART = 6


def fit(pull: Pull, name: Name, demand: ImageDemand, candidate: Name) -> Fit | None:
    """Return how well a pull, which an agent reported as ``name``, fits a demand; None if the pull cannot be for this
    demand.
    """
    if demand.failure and demand.failure.next_retry_at is None and not demand.pulling and demand.pulled_at is None:
        return None  # the kubelet does not pull this image
    if name.repository is not None:
        same = (candidate.registry, candidate.repository) == (name.registry, name.repository)
        if not same or candidate.digest is not None:
            return None
    if pull.ended_at is None or pull.presumed:
        return _fit_live(pull, name, demand)
    if name.repository is None:
        return Fit.OVER if ended_together(pull, demand) else None
    return _fit_ended(pull, pull.ended_at, demand)


def _fit_live(pull: Pull, name: Name, demand: ImageDemand) -> Fit | None:
    if demand.pulling and demand.since <= pull.started_at + 1.0:
        return Fit.PULLING
    if was_running(pull, demand):
        return Fit.OVER
    if name.repository is None or demand.pulling:
        is_late = demand.pulling and demand.since <= pull.started_at + ORDER_TOLERANCE
        return Fit.PULLING_SINCE if is_late else None
    if demand.failure and demand.failure.next_retry_at is not None:
        return Fit.EXPECTED if pull.started_at >= demand.failure.next_retry_at - WHOLE_SECONDS else None
    if demand.pulled_at is None or demand.awaited:
        return Fit.EXPECTED
    return None if pull.has_fetched else Fit.RESTART


def _fit_ended(pull: Pull, ended_at: float, demand: ImageDemand) -> Fit | None:
    if demand.pulling and demand.since <= ended_at + WHOLE_SECONDS:
        return Fit.PULLING
    if was_running(pull, demand):
        return Fit.OVER
    asked_after = demand.since_exact and demand.requested and demand.since > ended_at + WHOLE_SECONDS
    return None if asked_after and not demand.failure else Fit.EXPECTED


def was_running(pull: Pull, demand: ImageDemand) -> bool:
    """Return whether the kubelet's attempt, which has ended, was still running when the pull started. The agent then
    reported the pull late.
    """
    ended_at, began = demand.pulled_at, demand.since if demand.since_exact else None
    if demand.failure:
        ended_at, began = demand.failure.at, demand.failure.started_at
    if ended_at is None:
        return False
    return (-math.inf if began is None else began - 1.0) <= pull.started_at <= ended_at + 1.0


def ended_together(pull: Pull, demand: ImageDemand) -> bool:
    """Return whether an unnamed pull failed at the same time as the kubelet's attempt.

    An image that cannot be resolved leaves nothing in containerd, so the pull and the attempt can only be matched by
    time.
    """
    failure = demand.failure
    if failure is None or pull.ended_at is None or pull.phase is not PullPhase.FAILED:
        return False
    began = failure.started_at
    started = began is None or pull.started_at >= began - WHOLE_SECONDS
    return started and abs(failure.at - pull.ended_at) <= ORDER_TOLERANCE


def _kept(pull: Pull, name: Name, demand: ImageDemand | None) -> Name | None:
    """Return the pull's previous name. Return None if that name has been disproved."""
    if not pull.supposed:
        return None
    given = Name.of(pull.supposed, guessed=pull.supposed_guessed)
    if name.repository is not None and (given.registry, given.repository) != (name.registry, name.repository):
        return None
    if demand is None or pull.ended_at is not None or demand.pulling:
        return given
    ended_at = demand.failure.at if demand.failure else demand.pulled_at
    lives = ended_at is not None and (pull.seen_at or 0.0) > ended_at + REPORT_LATE
    return None if lives else given


def _is_of_another(pull: Pull, name: Name, pulls: Sequence[Pull]) -> bool:
    """Return whether containerd reports this pull's name for another pull that ran at the same time."""
    others = [other for other in pulls if other is not pull and _reported(other).image == name.image]
    return any(other.ended_at is None or other.ended_at > pull.started_at for other in others)


def _reported(pull: Pull) -> Name:
    """Return the name that the agent reports."""
    state = pull.state
    name = f"{state.registry}/{state.repository}"
    if state.image_ref not in ("", UNKNOWN_IMAGE, name):
        return Name.of(state.image_ref, guessed=state.ref_guessed)
    if state.registry and state.repository:
        return Name(name, state.registry, state.repository, state.manifest_digest)
    return Name(UNKNOWN_IMAGE)
