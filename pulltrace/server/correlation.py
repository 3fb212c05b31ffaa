"""A node's pulls and its kubelet's wants → the node's stories. PURE.

People see stories. Without Kubernetes there are no wants, and of an image that cannot be resolved no agent may ever
see a pull. ``join`` works anew through what is open on one node: attempts that run or ended a moment ago, wants, and
failed stories that a next attempt may continue. Who belongs together is decided here, what is told in ``stories``.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pulltrace.server.naming import Name, names_of
from pulltrace.server.nodes import Pull
from pulltrace.server.pods import Want
from pulltrace.server.stories import Story
from pulltrace.wire import PullPhase, PullStatus

SETTLES_AFTER = 120.0
"""Seconds after a pull's end in which its story may still change: Kubernetes tells late who waited and what failed."""


@dataclass(slots=True)
class Joined:
    """What is new of a node's stories since the last join."""

    changed: list[tuple[Story, PullStatus]] = field(default_factory=list)
    """In the order in which it is to be told; of one story perhaps an end and the next beginning."""
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
        for story, pull, name in _place_pulls(stories, node, ordered, names):
            self._tell(story, now, joined)  # how the attempt before it ended
            story.attach(pull, name)
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
        while status := story.tell(self._stall_timeout, now):
            joined.changed.append((story, status))
            if not status.status.ended:  # after an end there may be a beginning
                return


def _place_pulls(
    stories: dict[str, Story], node: str, pulls: Sequence[Pull], names: Mapping[str, Name]
) -> Iterator[tuple[Story, Pull, Name]]:
    """Pulls that are new to their story: one that waits for such a pull, or a new one. To be attached one by one."""
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
            story = _find(stories, node, pull, name, before)
            stories[story.id] = story
            yield story, pull, name


def _find(stories: dict[str, Story], node: str, pull: Pull, name: Name, before: Story | None) -> Story:
    """Whom such a pull belongs to. ``before`` was its story until it came to be called otherwise."""
    waiting = [story for story in stories.values() if name.is_same_image(story.name) and story.continues_with(pull)]
    waiting.sort(key=lambda story: story.recency, reverse=True)
    exact = [story for story in waiting if story is not before and story.name.image == name.image]
    if exact and name.is_full:
        return exact[0]
    id_ = _story_id(node, pull.key)
    if before and before.pull is None and (before.id == id_ or not before.name.is_full):
        return before
    return waiting[0] if waiting else Story(id_, name)


def _place_wants(stories: dict[str, Story], node: str, wants: Sequence[Want]) -> None:
    """Give each want its story; one that has none is new."""
    by_image: dict[str, list[Story]] = {}
    for story in stories.values():
        story.want = None
        by_image.setdefault(story.name.image, []).append(story)
    for want in wants:
        of_image = by_image.get(want.image, [])
        found = max(of_image, key=lambda story: (story.is_end_of(want), *story.recency), default=None)
        if found is None or found.is_over_for(want):
            if want.pulled_at is not None or not want.asked:
                continue
            found = Story(_story_id(node, f"{want.image} {want.since}"), Name.of(want.image))
            stories[found.id] = found
        found.want = want
        found.pods = want.pods or found.pods
        for story in of_image:
            if want.failure:
                story.explain(want.failure)
        if found.pull and want.pulling:
            # The kubelet counts in whole seconds: a pull that never queued may seem to have, for less than one.
            found.pull.phases.setdefault(PullPhase.QUEUED, max(found.pull.started_at - want.since, 0.0))


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
