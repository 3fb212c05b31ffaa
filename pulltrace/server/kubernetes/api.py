"""The API server as the server uses it: resources, pages, watch events, errors and the ``Api`` protocol.

``client`` implements the protocol over HTTP; ``watch`` uses it.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from pulltrace.server.kubernetes.objects import Event, Pod


class KubeError(Exception):
    """The API server cannot be used as wanted; the message says why, in one line."""


class GoneError(KubeError):
    """410: the version to continue from is no longer known. Only a new list helps."""


class ForbiddenError(KubeError):
    """403: a permission is missing."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection to follow, and the part of it that matters."""

    name: str
    kind: type[Pod] | type[Event]
    selector: str


# Both sets of fields are the API server's: pkg/registry/core/{pod,event}/strategy.go, ToSelectableFields.
PODS = Resource("pods", Pod, "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed")
# What a kubelet says of pods apart from pulls, most often first; `Cluster` sorts out the rest.
_NOT_OF_PULLS = [
    "Created",
    "Started",
    "Killing",
    "Unhealthy",
    "FailedMount",
    "FailedCreatePodSandBox",
    "SandboxChanged",
]
EVENTS = Resource(
    "events",
    Event,
    ",".join(("involvedObject.kind=Pod", "source=kubelet", *(f"reason!={reason}" for reason in _NOT_OF_PULLS))),
)


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list; ``version`` is the list's, to watch from."""

    objects: list[Pod | Event]
    version: str


@dataclass(frozen=True, slots=True)
class Watched:
    """One line of a watch: ADDED, MODIFIED, DELETED, or BOOKMARK (without an object). Watch on from ``version``."""

    type: str
    object: Pod | Event | None
    version: str


@dataclass(frozen=True, slots=True)
class Review:
    """What the API server makes of a token: ``user`` is empty when it vouches for nobody; ``error`` may say why."""

    user: str
    audiences: list[str]
    extra: dict[str, list[str]]
    error: str


class Api(Protocol):
    """What is asked of the API server. Everything raises ``KubeError``."""

    def pages(self, resource: Resource, namespace: str | None) -> AsyncGenerator[Page, None]:
        """All objects, a page at a time."""

    def changes(self, resource: Resource, namespace: str | None, version: str) -> AsyncGenerator[list[Watched], None]:
        """Changes after ``version`` as they come, first an empty batch once connected, until the server has enough."""

    async def review(self, token: str, audience: str) -> Review:
        """Whose token this is, if it was made for this audience. Stores nothing, though it is a POST."""

    async def close(self) -> None:
        """Let go of connections."""
