"""The query of ``/pulls`` and ``/events``: which pulls, and which of them with their layers. PURE."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pulltrace import images
from pulltrace.wire import ContainerWait, PodStart, PodWait, PullPhase, PullStatus

FILTERS = ("node", "namespace", "pod", "image", "status")
"""Parameters that choose; ``layers`` is the other one."""
_MAX_VALUES = 100


class QueryError(ValueError):
    """The query asks for what there is not; the message says what."""


@dataclass(frozen=True, slots=True)
class Query:
    """Values of one parameter are alternatives, parameters must all fit. An empty one fits all."""

    node: frozenset[str] = frozenset()
    namespace: frozenset[str] = frozenset()
    pod: frozenset[str] = frozenset()
    image: frozenset[str] = frozenset()
    status: frozenset[PullPhase] = frozenset()
    all_layers: bool = True
    layers_of: frozenset[str] = frozenset()
    """Ids of the pulls that come with layers, when not all do."""

    @property
    def is_filtered(self) -> bool:
        """Some pulls do not fit."""
        return bool(self.node or self.namespace or self.pod or self.image or self.status)

    def layers(self, pull_id: str) -> bool:
        """Whether this pull comes with its layers."""
        return self.all_layers or pull_id in self.layers_of

    def fits(self, pull: PullStatus) -> bool:
        """Whether the pull is asked for."""
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
            for pod in pull.pods or ()
        )

    def has_image(self, reference: str, repository: str = "") -> bool:
        """By reference in any form, or by its repository alone."""
        return reference in self.image or (repository or _repository(reference)) in self.image


def parse(parameters: Iterable[tuple[str, str]], others: Sequence[str] = ()) -> Query:
    """Read a query. ``others`` are the route's own parameters. Raises ``QueryError``."""
    values: dict[str, list[str]] = {}
    for name, text in parameters:
        if name == "layers" or name in FILTERS:
            values.setdefault(name, []).extend(part.strip() for part in text.split(",") if part.strip())
            if len(values[name]) > _MAX_VALUES:
                raise QueryError(f"{name} has more than {_MAX_VALUES} values")
        elif name not in others:
            known = ", ".join((*FILTERS, "layers", *others))
            raise QueryError(f"{name[:40]!r} is not a parameter; there are {known}")
    try:
        status = frozenset(PullPhase(value) for value in values.get("status", ()))
    except ValueError as error:
        raise QueryError(f"status: {error}; there are {', '.join(PullPhase)}") from None
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


def pod_fits(pod: PodWait, asked: Query) -> bool:
    """Return whether a waiting pod matches; one container must match both image and status."""
    if asked.node and pod.node_name not in asked.node:
        return False
    if (asked.namespace and pod.namespace not in asked.namespace) or (asked.pod and pod.pod_name not in asked.pod):
        return False
    return any(_container_fits(item, asked) for item in pod.containers)


def start_fits(pod: PodStart, asked: Query) -> bool:
    """Return whether a pod that has started matches; its images are no longer known, so those filters exclude it."""
    if asked.image or asked.status or (asked.node and pod.node_name not in asked.node):
        return False
    return (not asked.namespace or pod.namespace in asked.namespace) and (not asked.pod or pod.pod_name in asked.pod)


def _container_fits(container: ContainerWait, asked: Query) -> bool:
    if asked.status and container.state.value not in asked.status:
        return False
    return not asked.image or asked.has_image(images.normalise(container.image))


def _forms(image: str) -> tuple[str, ...]:
    """As written; as a full reference; and, when no tag was written, as the repository."""
    try:
        ref = images.parse(image)
    except images.InvalidReferenceError:
        return (image,)
    bare = not ref.digest and not image.endswith(f":{ref.tag}")
    return (image, str(ref), _repository(image)) if bare else (image, str(ref))


def _repository(reference: str) -> str:
    """Host without port, and repository, as pulls tell them."""
    try:
        ref = images.parse(reference)
    except images.InvalidReferenceError:
        return reference
    return f"{images.registry_host(ref.registry)}/{ref.repository}"
