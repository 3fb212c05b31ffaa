"""A node's pulls and its kubelet's wants → the node's stories. PURE.

A *story* is one image arriving on one node: queued, then pulled, perhaps in several attempts. People see stories;
a ``Pull`` is one attempt, as the agent tells it, and a ``Want`` is what the kubelet is after. Either may be missing:
without Kubernetes there are no wants, and of an image that cannot be resolved no agent may ever see a pull.

``join`` works anew through what is open on one node: attempts that run or ended a moment ago, wants, and failed
stories that a next attempt may continue. What was told before is remembered only for ids, attempts and pods.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pulltrace.server.naming import Name, names_of
from pulltrace.server.nodes import Pull
from pulltrace.server.pods import Failure, Want
from pulltrace.server.status import Told, status_of, status_without_pull
from pulltrace.wire import ErrorReason, PodCorrelation, PullPhase, PullStatus

SETTLES_AFTER = 120.0
"""Seconds after a pull's end in which its story may still change: Kubernetes tells late who waited and what failed."""

NEXT_ATTEMPT = 2.0
"""A kubelet's word so many seconds after a pull's start is of the next attempt: it backs off 10 s at least."""


@dataclass(slots=True, eq=False)
class Story:
    """One image arriving on one node. Ids outlive a restart of the server where an agent knows the pull."""

    id: str
    name: Name
    pull: Pull | None = None
    """The newest attempt that an agent saw."""
    want: Want | None = None
    attempt: int = 1
    pull_attempt: int = 0
    """Which attempt ``pull`` was told as."""
    pods: tuple[PodCorrelation, ...] = ()
    """Who waits; of an ended story, who waited."""
    failure: Failure | None = None
    """What the kubelet said of the newest attempt's failure."""
    status: PullStatus | None = None
    """As last told."""
    basis: Any = None
    """What ``status`` was made from, while nothing of it moves by itself."""

    @property
    def history(self) -> bool:
        """All of it had ended before this server began."""
        return self.pull is not None and self.pull.history

    @property
    def ended_by_kubelet(self) -> bool:
        """People were told how this attempt ended, before an agent had shown it."""
        told = self.status
        ended = told is not None and told.status.ended and told.attempt == self.attempt
        return ended and self.pull_attempt != self.attempt


@dataclass(slots=True)
class Joined:
    """What is new of a node's stories since the last join."""

    changed: list[Story] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    """Ids of stories that are no more: nobody waits any longer, or one turned out to be another."""


class Correlation:
    """The open stories of all nodes. Owned by the hub."""

    def __init__(self, stall_timeout: float) -> None:
        self._stall_timeout = stall_timeout
        self._nodes: dict[str, dict[str, Story]] = {}  # node → id → story

    def join(self, node: str, pulls: Iterable[Pull], wants: Sequence[Want], now: float) -> Joined:
        """Bring one node's stories up to date. ``pulls`` are those that run and those that ended lately."""
        stories = self._nodes.setdefault(node, {})
        joined = Joined()
        ordered = sorted((pull for pull in pulls if not pull.superseded), key=lambda pull: pull.started_at)
        names = names_of(ordered, wants)
        _place_pulls(stories, node, ordered, names)
        _place_wants(stories, node, wants)
        for story in list(stories.values()):
            if story.pull is None and (story.want is None or (story.want.pulled_at and not story.status)):
                _drop(stories, story, joined)
                continue
            self._tell(story, now, joined)
            if story.want is None and _is_settled(story, now):
                del stories[story.id]
                if story.pull:
                    story.pull.settle()
        if not stories:
            del self._nodes[node]
        return joined

    def forget(self, pull: Pull) -> str | None:
        """The pull's time is over. Answers the id of the story that ends with it; None when it goes on without."""
        if pull.superseded:
            return None
        story = self._nodes.get(pull.node.name, {}).get(pull.story_id)
        if story and story.want:
            story.pull = None
            return None
        if story:
            del self._nodes[pull.node.name][story.id]
        return pull.story_id or None

    def _tell(self, story: Story, now: float, joined: Joined) -> None:
        pull, want = story.pull, story.want
        live = pull is not None and pull.ended_at is None
        basis = (pull, pull and pull.ended_at, pull and pull.reason, want, story.name, story.attempt)
        if not live and basis == story.basis:
            return
        story.basis = basis
        if pull and want and want.pulled_at is not None and _came_unseen(pull, want):
            pull.came(want.pulled_at)
        if pull and live and story.ended_by_kubelet:
            if _is_late(story, pull, want):
                return
            story.attempt += 1  # the kubelet's word on it has not come yet
        if pull and not (want and _is_next(pull, want)):
            _note_failure(story, pull, want)
            failed = pull.phase is PullPhase.FAILED
            if live or not (want and want.pulling):  # else the kubelet counts the next one already
                story.pull_attempt = story.attempt
            told = _told(story, story.failure if failed else None, story.pull_attempt or story.attempt)
            status = status_of(pull, told, self._stall_timeout, now)
        elif want:
            story.attempt = max(story.attempt, story.pull_attempt + 1)
            status = status_without_pull(want, _told(story, None if want.pulling else want.failure, story.attempt))
        else:
            return
        if status != story.status:
            story.status = status
            joined.changed.append(story)


def _told(story: Story, failure: Failure | None, attempt: int) -> Told:
    name = story.name
    return Told(
        id=story.id,
        image=name.image,
        guessed=name.guessed,
        attempt=attempt,
        pods=story.pods,
        registry=name.registry,
        repository=name.repository,
        error=failure.message if failure else None,
        reason=failure.reason if failure else None,
        next_retry_at=failure.next_retry_at if failure else None,
    )


def _place_pulls(stories: dict[str, Story], node: str, pulls: Sequence[Pull], names: Mapping[str, Name]) -> None:
    """Give each pull its story: the one it had, one that waits for such a pull, or a new one."""
    renamed: dict[str, Story] = {}
    names = dict(names)
    for pull in pulls:  # first all let go, so that two that were taken for each other can change places
        own = stories.get(pull.story_id)
        if not own or own.pull is not pull or own.name.image == names[pull.key].image:
            continue
        new = names[pull.key]
        if own.name.is_full and not new.is_full and (new.is_unknown or new.is_same_image(own.name)):
            names[pull.key] = own.name  # who asked for it is gone, or asks again: it is still what it was
        else:
            renamed[pull.key] = own
            own.pull = None
    for pull in pulls:
        name, before = names[pull.key], renamed.get(pull.key)
        own = stories.get(pull.story_id)
        if own and own.pull is pull:
            own.name = name
        elif before or not pull.story_id:  # otherwise settled, or continued by a later attempt
            _attach(_find(stories, node, pull, name, before), pull, name, stories)


def _find(stories: dict[str, Story], node: str, pull: Pull, name: Name, before: Story | None) -> Story:
    """Whom such a pull belongs to. ``before`` was its story until it came to be called otherwise."""
    waiting = [story for story in stories.values() if _continues(story, pull, name)]
    exact = next((story for story in waiting if story is not before and story.name.image == name.image), None)
    if exact:
        return exact
    id_ = _story_id(node, pull.key)
    if before and before.pull is None and (before.id == id_ or not before.name.is_full):
        return before
    return waiting[0] if waiting else Story(id_, name)


def _attach(story: Story, pull: Pull, name: Name, stories: dict[str, Story]) -> None:
    if story.pull:  # it failed, and this is the next attempt
        story.pull.superseded = True
        story.pull.settle()
        # A kubelet counts anew for each pod; the story goes on.
        story.attempt = max(story.attempt, story.pull_attempt + 1)
    stories[story.id] = story
    story.pull, story.name, pull.story_id = pull, name, story.id
    story.failure = None


def _continues(story: Story, pull: Pull, name: Name) -> bool:
    """The story waits for this image: nobody has begun, or who began has failed."""
    if not name.is_same_image(story.name):
        return False
    before, want = story.pull, story.want
    if before is None:  # unless its kubelet had the image before this pull began
        return want is None or want.pulled_at is None or pull.started_at <= want.pulled_at + NEXT_ATTEMPT
    return before.phase is PullPhase.FAILED and before.ended_at is not None and before.ended_at <= pull.started_at + 1


def _place_wants(stories: dict[str, Story], node: str, wants: Sequence[Want]) -> None:
    """Give each want its story; one that has none is new."""
    by_image: dict[str, Story] = {}
    for story in stories.values():
        story.want = None
        best = by_image.get(story.name.image)
        if best is None or _newer(story, best):
            by_image[story.name.image] = story
    for want in wants:
        found = by_image.get(want.image)
        if found is None or _is_over(found, want):
            if want.pulled_at is not None or not want.asked:
                continue
            found = Story(_story_id(node, f"{want.image} {want.since}"), Name.of(want.image))
            stories[found.id] = found
        found.want = want
        if found.pull and want.pulling:
            # The kubelet counts in whole seconds: a pull that never queued may seem to have, for less than one.
            found.pull.phases.setdefault(PullPhase.QUEUED, max(found.pull.started_at - want.since, 0.0))
        found.pods = want.pods or found.pods
        if found.pull is None or found.pull.ended_at is not None or not _is_later(found.pull, want):
            found.attempt = max(found.attempt, want.attempt)


def _newer(story: Story, other: Story) -> bool:
    return other.pull is not None and (story.pull is None or story.pull.started_at > other.pull.started_at)


def _is_over(story: Story, want: Want) -> bool:
    """The story has come to a good end, and this want is for the image once more."""
    pull = story.pull
    if pull is None and story.status and story.status.status is PullPhase.COMPLETED:
        return want.pulling
    if pull is None or pull.phase is not PullPhase.COMPLETED or pull.ended_at is None:
        return False
    return want.pulling and want.since > pull.ended_at + NEXT_ATTEMPT


def _is_next(pull: Pull, want: Want) -> bool:
    """The pull failed and the kubelet has begun to ask again, or has failed again without a pull."""
    if pull.phase is not PullPhase.FAILED or pull.ended_at is None:
        return False
    began = want.pulling and _is_later(pull, want)
    return began or (want.pulled_at is not None and want.pulled_at > pull.ended_at + NEXT_ATTEMPT)


def _is_later(pull: Pull, want: Want) -> bool:
    """The kubelet speaks of an attempt after this pull, whose end its agent has perhaps not told yet."""
    return want.since > pull.started_at + NEXT_ATTEMPT


def _is_late(story: Story, pull: Pull, want: Want | None) -> bool:
    """The report was long under way: the attempt's end is told already, and the pull's own will follow."""
    told = story.status
    if told is None or told.completed_at is None or told.status is PullPhase.COMPLETED:
        return True
    return not (want and want.pulling) and pull.started_at <= told.completed_at.timestamp() + NEXT_ATTEMPT


def _came_unseen(pull: Pull, want: Want) -> bool:
    """Its agent missed the end, we took it for a failure, and the kubelet says that this very attempt went well."""
    return pull.presumed and pull.phase is PullPhase.FAILED and not _is_later(pull, want)


def _note_failure(story: Story, pull: Pull, want: Want | None) -> None:
    """Why the newest attempt failed stays known when those who waited are gone; only nobody will try again then."""
    if want and want.failure and _explains(pull, want.failure):
        story.failure = want.failure
    elif want is None and story.failure:
        story.failure = replace(story.failure, next_retry_at=None)


def _explains(pull: Pull, failure: Failure) -> bool:
    """The kubelet's word on why this very attempt failed; agents cannot know it."""
    return (
        pull.phase is PullPhase.FAILED
        and pull.reason in (None, ErrorReason.UNKNOWN)
        and failure.at >= pull.started_at - NEXT_ATTEMPT
    )


def _is_settled(story: Story, now: float) -> bool:
    """Nothing can change it: it ended well a while ago. A failed one waits for its next attempt until forgotten."""
    pull = story.pull
    return (
        pull is not None
        and pull.phase is PullPhase.COMPLETED
        and pull.learned_at is not None
        and now - pull.learned_at > SETTLES_AFTER
    )


def _drop(stories: dict[str, Story], story: Story, joined: Joined) -> None:
    stories.pop(story.id, None)
    if story.status:
        joined.removed.append(story.id)


def _story_id(node: str, seed: str) -> str:
    """Opaque, URL-safe, and the same after a restart of the server."""
    digest = hashlib.blake2b(f"{node}\n{seed}".encode(), digest_size=9).digest()
    return base64.urlsafe_b64encode(digest).decode()
