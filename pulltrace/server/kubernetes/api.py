"""The API server as the server uses it: resources, pages, watch events, errors and the ``Api`` protocol.

``client`` implements the protocol over HTTP; ``watch`` uses it.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from pulltrace.server.kubernetes.objects import Event, Pod


class KubeError(Exception):
    """The API server cannot be used; the message states why, in one line."""


class GoneError(KubeError):
    """410: the version to continue from is not known to the API server. A new list is needed."""


class ForbiddenError(KubeError):
    """403: a permission is missing."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection to follow, and a selector of the objects that are used."""

    name: str
    kind: type[Pod] | type[Event]
    selector: str


# Both sets of fields are the API server's: pkg/registry/core/{pod,event}/strategy.go, ToSelectableFields.
PODS = Resource("pods", Pod, "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed")
# What kubelets report apart from pulls, the most frequent first; `Cluster` ignores the rest.
_NOT_ABOUT_PULLS = [
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
    ",".join(("involvedObject.kind=Pod", "source=kubelet", *(f"reason!={reason}" for reason in _NOT_ABOUT_PULLS))),
)


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list; ``version`` is that of the list, from which to watch."""

    objects: list[Pod | Event]
    version: str


@dataclass(frozen=True, slots=True)
class Watched:
    """One line of a watch: ADDED, MODIFIED, DELETED, or BOOKMARK (without an object). Watch next from ``version``."""

    type: str
    object: Pod | Event | None
    version: str


@dataclass(frozen=True, slots=True)
class Review:
    """The result of a TokenReview: ``user`` is empty if the token is not valid; ``error`` may state why."""

    user: str
    audiences: list[str]
    extra: dict[str, list[str]]
    error: str


class Api(Protocol):
    """The requests to the API server. All of them raise ``KubeError``."""

    def pages(self, resource: Resource, namespace: str | None) -> AsyncGenerator[Page, None]:
        """Yield all objects, a page at a time."""

    def changes(self, resource: Resource, namespace: str | None, version: str) -> AsyncGenerator[list[Watched], None]:
        """Yield changes after ``version`` until the API server ends the watch.

        The first batch is empty and means that the watch is connected; later ones are empty while nothing changes.
        """

    async def newest_version(self, resource: Resource, namespace: str | None) -> str:
        """Return the newest resource version of a collection, read from etcd and not from a cache."""

    async def review(self, token: str, audience: str) -> Review:
        """Return whose token this is, if it was issued for this audience. Nothing is stored, although it is a POST."""

    async def close(self) -> None:
        """Close all connections."""
