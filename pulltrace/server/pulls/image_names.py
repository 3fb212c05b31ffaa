"""Which image is this? The agent knows repository and digest; the tag stands in what the kubelet wants. PURE.

Only when a pull has ended well does containerd tell its full reference. Until then: a want by the pull's digest is it
exactly; a single want of its repository is it; of several, the order in which the kubelet asked is that of the leases.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pulltrace import images
from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.pulls.node import Pull
from pulltrace.wire import UNKNOWN_IMAGE, PullPhase

WHOLE_SECONDS = 2.0
"""Kubelets tell times in whole seconds: what is no further apart may be one moment."""

ORDER_TOLERANCE = 5.0
"""Seconds by which a kubelet's Pulling may seem later than the lease it made: another clock, in whole seconds."""


@dataclass(frozen=True, slots=True)
class Name:
    """What an image is called: a full reference, a repository while that is all, or nothing known."""

    image: str
    registry: str | None = None
    """Host without port: all that containerd's labels keep."""
    repository: str | None = None
    digest: str | None = None
    is_full: bool = False
    guessed: bool = False

    @classmethod
    @lru_cache(4096)  # asked for each pull at each tick
    def of(cls, image: str, *, guessed: bool = False) -> "Name":
        """The name in a reference; of a text that is none, the text."""
        try:
            ref = images.parse(image)
        except images.InvalidReferenceError:
            return cls(image, is_full=True, guessed=guessed)
        host = images.registry_host(ref.registry)
        return cls(str(ref), host, ref.repository, ref.digest, is_full=True, guessed=guessed)

    @property
    def is_unknown(self) -> bool:
        """Nothing is known but that something is pulled."""
        return self.image == UNKNOWN_IMAGE

    def is_same_image(self, other: "Name") -> bool:
        """The same reference; or where one has no tag yet, the same repository and nothing that tells them apart."""
        if UNKNOWN_IMAGE in (self.image, other.image):
            return False
        if self.is_full and other.is_full:
            return self.image == other.image
        same = (self.registry, self.repository) == (other.registry, other.repository)
        return same and (not self.digest or not other.digest or self.digest == other.digest)


def names_of(pulls: Sequence[Pull], demands: Sequence[ImageDemand]) -> dict[str, Name]:
    """One node's pulls, oldest first, by key. Those that ended keep what they were called."""
    names = {pull.key: _told(pull) for pull in pulls}
    if not demands:
        return names
    wanted = [Name.of(demand.image) for demand in demands]
    open_ = [pull for pull in pulls if not names[pull.key].is_full]
    taken = {name.image for name in names.values() if name.is_full}
    for pull in open_:
        name = names[pull.key]
        exact = next((demand for demand in wanted if name.digest and demand.digest == name.digest), None)
        if exact:
            names[pull.key] = exact
            taken.add(exact.image)
    _assign_by_order([pull for pull in open_ if not names[pull.key].is_full], names, demands, wanted, taken)
    return names


def _assign_by_order(
    pulls: Iterable[Pull],
    names: dict[str, Name],
    demands: Sequence[ImageDemand],
    wanted: Sequence[Name],
    taken: set[str],
) -> None:
    explained: set[str] = set()  # each failure is one pull's
    for pull in pulls:
        name = names[pull.key]
        fits = [
            (demand, candidate)
            for demand, candidate in zip(demands, wanted, strict=True)
            if candidate.image not in (taken if pull.ended_at is None else taken | explained)
            and _fits(pull, name, demand, candidate)
        ]
        if fits:
            demand, candidate = fits[0]
            names[pull.key] = Name.of(candidate.image, guessed=len(fits) > 1 or name.repository is None)
            # The next attempt of a failed one is for the same want.
            if pull.ended_at is None:
                taken.add(candidate.image)
            elif demand.since <= pull.ended_at + WHOLE_SECONDS:  # not of an attempt after it
                explained.add(candidate.image)


def _fits(pull: Pull, name: Name, demand: ImageDemand, candidate: Name) -> bool:
    if demand.since > pull.started_at + ORDER_TOLERANCE and pull.ended_at is None and demand.pulling:
        return False  # asked for after this pull began
    if name.repository is None:
        if pull.ended_at is not None and not pull.presumed:
            return _fell_together(pull, demand)
        return demand.pulling or _may_be_over(pull, demand)
    return candidate.digest is None and (candidate.registry, candidate.repository) == (name.registry, name.repository)


def _fell_together(pull: Pull, demand: ImageDemand) -> bool:
    """An image that cannot be resolved leaves no trace in containerd: then only the time of its end tells."""
    failed_at = demand.failure.at if demand.failure and pull.phase is PullPhase.FAILED else None
    return failed_at is not None and pull.ended_at is not None and abs(failed_at - pull.ended_at) <= ORDER_TOLERANCE


def _may_be_over(pull: Pull, demand: ImageDemand) -> bool:
    """The report was long under way, and the kubelet knows already how the attempt ended that began then."""
    ended_at = demand.failure.at if demand.failure else demand.pulled_at
    began = demand.since - 1.0 if demand.heard else 0.0
    return ended_at is not None and began <= pull.started_at <= ended_at + 1.0


def _told(pull: Pull) -> Name:
    """The name as the agent tells it."""
    state = pull.state
    name = f"{state.registry}/{state.repository}"
    if state.image_ref not in ("", UNKNOWN_IMAGE, name):
        return Name.of(state.image_ref, guessed=state.ref_guessed)
    if state.registry and state.repository:
        return Name(name, state.registry, state.repository, state.manifest_digest)
    return Name.of(pull.supposed, guessed=True) if pull.supposed else Name(UNKNOWN_IMAGE)
