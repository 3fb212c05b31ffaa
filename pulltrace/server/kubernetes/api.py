"""The parts of the API server that the server uses: resources, pages, watch events, errors and the ``Api`` protocol.

``client`` implements this protocol over HTTP; ``watch`` uses it.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from pulltrace.server.kubernetes.objects import Event, Pod


class KubeError(Exception):
    """The API server cannot be used; the message states the reason in one line."""


class GoneError(KubeError):
    """410: the API server no longer knows the version from which to continue. A new list is needed."""


class ForbiddenError(KubeError):
    """403: a permission is missing."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection to watch, and a selector for the objects that matter."""

    name: str
    kind: type[Pod] | type[Event]
    selector: str


# The selectable fields are defined by the API server: pkg/registry/core/{pod,event}/strategy.go, ToSelectableFields.
PODS = Resource("pods", Pod, "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed")
# Frequent kubelet events that are not about pulls: the selector excludes them. `Cluster` ignores the rarer ones.
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
    """Part of a list; ``version`` is the list's resource version, from which to watch."""

    objects: list[Pod | Event]
    version: str


@dataclass(frozen=True, slots=True)
class Watched:
    """One line of a watch: ADDED, MODIFIED, DELETED, or BOOKMARK (without an object).

    ``version`` is the version from which to watch next.
    """

    type: str
    object: Pod | Event | None
    version: str


@dataclass(frozen=True, slots=True)
class Review:
    """The result of a TokenReview: ``user`` is empty if the token is not valid; ``error`` may state the reason."""

    user: str
    audiences: list[str]
    extra: dict[str, list[str]]
    error: str


class Api(Protocol):
    """The requests that the server sends to the API server. Each may raise ``KubeError``."""

    def pages(self, resource: Resource, namespace: str | None) -> AsyncGenerator[Page, None]:
        """Yield all objects, a page at a time."""

    def changes(self, resource: Resource, namespace: str | None, version: str) -> AsyncGenerator[list[Watched], None]:
        """Yield changes after ``version`` until the API server ends the watch.

        The first batch is empty and means that the watch is connected; later batches are empty if nothing has changed
        for a while.
        """

    async def newest_version(self, resource: Resource, namespace: str | None) -> str:
        """Return the newest resource version of a collection, read from etcd instead of a cache."""

    async def review(self, token: str, audience: str) -> Review:
        """Return the account that this token belongs to, if the token was issued for this audience.

        The API server stores nothing, although the request is a POST.
        """

    async def close(self) -> None:
        """Close all connections."""
