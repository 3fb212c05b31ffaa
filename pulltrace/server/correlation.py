"""A node's pulls and its kubelet's wants → the node's stories. PURE.

People see stories. Without Kubernetes there are no wants, and of an image that cannot be resolved no agent may ever
see a pull. ``join`` works anew through what is open on one node: attempts that run or ended a moment ago, wants, and
failed stories that a next attempt may continue. Who belongs together is decided here, what is told in ``stories``.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pulltrace.server.naming import Name, names_of
from pulltrace.server.nodes import Pull
from pulltrace.server.pods import Want
from pulltrace.server.stories import Place, Story
from pulltrace.wire import PullPhase, PullStatus

SETTLES_AFTER = 120.0
"""Seconds after a pull's end in which its story may still change: Kubernetes tells late who waited and what failed."""


@dataclass(slots=True)
class Joined:
    """What is new of a node's stories since the last join."""

    changed: list[tuple[Story, PullStatus | None]] = field(default_factory=list)
    """In the order in which it is to be told; of one story perhaps an end and the next beginning.

    None for a story that is no more: nobody waits any longer, or it turned out to be another.
    """


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
        for pull in ordered:
            self._place(stories, pull, names[pull.key], now, joined)
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

    def _place(self, stories: dict[str, Story], pull: Pull, name: Name, now: float, joined: Joined) -> None:
        """Give a pull its story: the one it had, one that waits for it, or a new one; none while that is open."""
        own = stories.get(pull.story_id)
        if pull.story_id and (not own or own.pull is not pull):
            return  # settled, or continued by a later attempt
        if own and own.name.image == name.image:
            own.name = name
            return
        if own and _knows_more(own.name, name):
            return
        others = [story for story in stories.values() if story is not own and name.is_same_image(story.name)]
        for story in others:
            self._tell(story, now, joined)  # how the attempt before it ended
        found, place = _best(others, own, pull, name)
        if not found and own:
            own.name = name  # it turned out to be another image than was thought
            return
        if own:
            _drop(stories, own, joined)
        pull.superseded, pull.supposed, pull.story_id = place is Place.PAST, "", ""
        if place is Place.OPEN:
            pull.supposed = name.image
        elif place is not Place.PAST:
            found = found or Story(_free_id(stories, pull.node.name, pull.key), name)
            stories[found.id] = found
            found.attach(pull, name)

    def _tell(self, story: Story, now: float, joined: Joined) -> None:
        while status := story.tell(self._stall_timeout, now):
            joined.changed.append((story, status))
            if not status.status.ended:  # after an end there may be a beginning
                return


def _best(stories: Iterable[Story], own: Story | None, pull: Pull, name: Name) -> tuple[Story | None, Place]:
    """Whom such a pull belongs to. It leaves its own story for one of exactly its name, or when nothing was known."""
    best: tuple[Story | None, Place] = None, Place.NONE
    for story in sorted(stories, key=lambda story: (story.name.image == name.image, story.recency)):
        place = story.place_of(pull)
        if place is not Place.NONE and (not own or own.name.is_unknown or story.name.image == name.image):
            best = story, place
    return best


def _knows_more(known: Name, name: Name) -> bool:
    """The same image under a fuller name: who asked for it may be gone, or ask again."""
    return known.is_full and not name.is_full and (name.is_unknown or name.is_same_image(known))


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
            # A failure whose beginning was missed has the time of an earlier one, and perhaps of a story that is over.
            began = want.failure.at if want.failure and not want.pulling else want.since
            found = Story(_free_id(stories, node, f"{want.image} {began}"), Name.of(want.image))
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
        joined.changed.append((story, None))


def _free_id(stories: Mapping[str, Story], node: str, seed: str) -> str:
    """Opaque, URL-safe, and the same after a restart of the server.

    One is taken where a pull was an attempt of a story that goes on without it, or has kept another image's story.
    """
    digest = hashlib.blake2b(f"{node}\n{seed}".encode(), digest_size=9).digest()
    id_ = base64.urlsafe_b64encode(digest).decode()
    return _free_id(stories, node, f"{seed} again") if id_ in stories else id_
