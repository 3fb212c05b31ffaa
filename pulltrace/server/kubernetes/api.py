"""The parts of the Kubernetes API that the server uses: resources, pages, watch events, errors and the ``Api``
protocol.

``client`` implements this protocol over HTTP; ``watch`` uses it.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from pulltrace.server.kubernetes.objects import Event, Pod


class KubeError(Exception):
    """The API server cannot be used. The message gives the reason in one line."""


class GoneError(KubeError):
    """HTTP status 410: the API server no longer has the version from which a watch should resume. The resource must be
    listed again.
    """


class ForbiddenError(KubeError):
    """HTTP status 403: a permission is missing."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection to watch, and a selector for the relevant objects."""

    name: str
    kind: type[Pod] | type[Event]
    selector: str


# The selectable fields are defined by the API server: pkg/registry/core/{pod,event}/strategy.go, ToSelectableFields.
PODS = Resource("pods", Pod, "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed")
# The selector excludes frequent kubelet events that are unrelated to image pulls. `Cluster` ignores all other unrelated
# events.
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
    """One page of a list. A watch must start from ``version``, the list's resource version."""

    objects: list[Pod | Event]
    version: str


@dataclass(frozen=True, slots=True)
class Watched:
    """One line of a watch response, of type ADDED, MODIFIED, DELETED or BOOKMARK. The ``object`` of a BOOKMARK is None.

    The next watch must start from ``version``.
    """

    type: str
    object: Pod | Event | None
    version: str


@dataclass(frozen=True, slots=True)
class Review:
    """The result of a TokenReview: ``user`` is empty if the token is not valid; ``error`` may contain the reason."""

    user: str
    audiences: list[str]
    extra: dict[str, list[str]]
    error: str


class Api(Protocol):
    """The requests that Pulltrace's server sends to the API server. Each request may raise ``KubeError``."""

    def pages(self, resource: Resource, namespace: str | None) -> AsyncGenerator[Page, None]:
        """Yield all objects, page by page."""

    def changes(self, resource: Resource, namespace: str | None, version: str) -> AsyncGenerator[list[Watched], None]:
        """Yield the changes after ``version``, until the API server ends the watch.

        The first batch is empty, and indicates that the watch has been established. Later batches are empty if nothing
        has changed for a while.
        """

    async def newest_version(self, resource: Resource, namespace: str | None) -> str:
        """Return a collection's newest resource version, read from etcd rather than from a cache."""

    async def review(self, token: str, audience: str) -> Review:
        """Review a token. The result contains the account if the token is valid and was issued for this audience.

        Although this method sends a POST request, the API server does not store anything.
        """

    async def close(self) -> None:
        """Close all connections."""
