"""The query parameters for lists and the stream: filters, layers and pages. Sans-I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pulltrace import images
from pulltrace.server.models import PullStatus
from pulltrace.server.responses import ContainerWait, PodStart, PodWait
from pulltrace.wire import PullPhase

FILTERS = ("node", "namespace", "pod", "image", "status")
"""The filter parameters."""
PAGE = ("limit", "cursor")
"""The parameters for requesting a list page by page."""
_MAX_VALUES = 100
_MAX_LIMIT = 100_000


class QueryError(ValueError):
    """The request has an unknown parameter or an invalid value. The error message names the parameter."""


@dataclass(frozen=True, slots=True)
class Query:
    """The filters of one request. For every parameter, an item must match at least one of the given values.

    A parameter without a value matches every item.
    """

    node: frozenset[str] = frozenset()
    namespace: frozenset[str] = frozenset()
    pod: frozenset[str] = frozenset()
    image: frozenset[str] = frozenset()
    status: frozenset[PullPhase] = frozenset()
    all_layers: bool = True
    layers_of: frozenset[str] = frozenset()
    """The ids of the pulls whose layers are included in the response. If ``all_layers`` is true, this field is ignored.
    """

    @property
    def is_filtered(self) -> bool:
        """Return whether any filter is set. If no filter is set, every pull matches."""
        return bool(self.node or self.namespace or self.pod or self.image or self.status)

    def layers(self, pull_id: str) -> bool:
        """Return whether the response includes the layers of this pull."""
        return self.all_layers or pull_id in self.layers_of

    def fits(self, pull: PullStatus) -> bool:
        """Return whether the pull matches the filters."""
        if self.node and pull.node_name not in self.node:
            return False
        if self.status and pull.status not in self.status:
            return False
        if self.image and not self.has_image(pull.image_ref, f"{pull.registry}/{pull.repository}"):
            return False
        if not self.namespace and not self.pod:
            return True
        return any(
            (not self.namespace or pod.namespace in self.namespace) and (not self.pod or pod.pod_name in self.pod)
            for pod in (*(pull.pods or ()), *(pull.waited or ()))
        )

    def has_image(self, reference: str, repository: str = "") -> bool:
        """Return whether the reference or the repository of an image matches the filter."""
        return reference in self.image or (repository or _repository(reference)) in self.image


def parse(parameters: Iterable[tuple[str, str]], others: Sequence[str] = ()) -> Query:
    """Parse the filters and ``layers``. ``others`` contains the additional parameters that the calling route accepts.
    Raises ``QueryError``.
    """
    given: dict[str, list[str]] = {}
    for name, text in parameters:
        if name == "layers" or name in FILTERS:
            given.setdefault(name, []).extend(part.strip() for part in text.split(","))
            if len(given[name]) > _MAX_VALUES:
                raise QueryError(f"{name} has more than {_MAX_VALUES} values")
        elif name not in others:
            known = ", ".join((*FILTERS, "layers", *others))
            raise QueryError(f"{name[:40]!r} is not a parameter; the parameters are {known}")
    values = {name: [value for value in parts if value] for name, parts in given.items()}
    try:
        status = frozenset(PullPhase(value) for value in values.get("status", ()))
    except ValueError as error:
        raise QueryError(f"status: {error}; the values are {', '.join(PullPhase)}") from None
    layers = values.get("layers", ["true"] if "layers" not in values else [])
    return Query(
        node=frozenset(values.get("node", ())),
        namespace=frozenset(values.get("namespace", ())),
        pod=frozenset(values.get("pod", ())),
        image=frozenset(form for value in values.get("image", ()) for form in _forms(value)),
        status=status,
        all_layers=layers == ["true"],
        layers_of=frozenset() if layers in (["true"], ["false"]) else frozenset(layers),
    )


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. ``cursor`` is the position of the last item on the previous page."""

    limit: int = _MAX_LIMIT
    cursor: str = ""

    def of(self, found: Sequence[tuple[str, str]]) -> tuple[list[str], str]:
        """Return the ids of this page and the cursor of the next page. On the last page, the cursor is empty.

        ``found`` contains (cursor, id) pairs in descending order. If items are added or removed between two
        requests, all other items are still listed exactly once.
        """
        start = next((at for at, (cursor, _) in enumerate(found) if cursor < self.cursor), len(found))
        page = found[start if self.cursor else 0 :][: self.limit]
        is_last = not page or page[-1] == found[-1]
        return [id_ for _, id_ in page], "" if is_last else page[-1][0]


def parse_page(parameters: Iterable[tuple[str, str]]) -> Page:
    """Parse ``limit`` and ``cursor``. Raises ``QueryError``."""
    values = {name: value for name, value in parameters if name in PAGE}
    limit = values.get("limit", str(_MAX_LIMIT))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and 0 < int(limit) <= _MAX_LIMIT):
        raise QueryError(f"limit is not a number from 1 to {_MAX_LIMIT}")
    return Page(int(limit), values.get("cursor", ""))


def cursor(pull: PullStatus) -> str:
    """Return a pull's position in the list, which is sorted by start time."""
    return f"{pull.started_at.replace(tzinfo=None).isoformat(timespec='microseconds')}~{pull.id}"


def pod_fits(pod: PodWait, wanted: Query) -> bool:
    """Return whether a waiting pod matches the filters. The image and status filters must match the same container."""
    if wanted.node and pod.node_name not in wanted.node:
        return False
    if (wanted.namespace and pod.namespace not in wanted.namespace) or (wanted.pod and pod.pod_name not in wanted.pod):
        return False
    return any(_container_fits(item, wanted) for item in pod.containers)


def start_fits(pod: PodStart, wanted: Query) -> bool:
    """Return whether a pod that has started matches the filters. A filter by image excludes the pod, because the images
    of started pods are no longer known.
    """
    if wanted.image or wanted.status or (wanted.node and pod.node_name not in wanted.node):
        return False
    return (not wanted.namespace or pod.namespace in wanted.namespace) and (
        not wanted.pod or pod.pod_name in wanted.pod
    )


def _container_fits(container: ContainerWait, wanted: Query) -> bool:
    if wanted.status and container.state.value not in wanted.status:
        return False
    return not wanted.image or wanted.has_image(images.normalise(container.image))


def _forms(image: str) -> tuple[str, ...]:
    """Return the image's name as written and as a full reference. If the name has neither a tag nor a digest, also
    return the repository.
    """
    try:
        ref = images.parse(image)
    except images.InvalidReferenceError:
        return (image,)
    bare = not ref.digest and not image.endswith(f":{ref.tag}")
    return (image, str(ref), _repository(image)) if bare else (image, str(ref))


def _repository(reference: str) -> str:
    """Return the registry's host (without the port) and the repository, as they appear in a pull's fields."""
    try:
        ref = images.parse(reference)
    except images.InvalidReferenceError:
        return reference
    return f"{images.registry_host(ref.registry)}/{ref.repository}"
