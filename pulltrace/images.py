"""Parse, normalise and compare image references the way containerd's CRI plugin does. Sans-I/O.

The grammar and its limits are defined by https://github.com/distribution/reference (``reference.go`` and
``normalize.go``). If a reference has both a tag and a digest, the tag is dropped. ``ParseDockerRef``, which containerd
calls for every CRI pull, does the same.
"""

import re
from dataclasses import dataclass

DEFAULT_REGISTRY = "docker.io"

_REGISTRY = re.compile(
    r"(?:\[[0-9a-fA-F:]+\]|(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*)"
    r"(?::[0-9]+)?"
)
_REPOSITORY_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")  # a bare image id is never a repository name
_MAX_NAME = 255


class InvalidReferenceError(ValueError):
    """The text is not a valid image reference. The message explains why."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A fully qualified image reference, with either a tag or a digest, never both."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """The registry and repository, without tag or digest."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def parse(text: str) -> Reference:
    """Parse a reference as written in a pod spec. Raises ``InvalidReferenceError``."""
    rest, has_digest, digest = text.partition("@")
    if has_digest and not _DIGEST.fullmatch(digest):
        raise InvalidReferenceError(f"{text!r}: the digest is not <algorithm>:<hex>")
    registry, rest = _split_registry(rest)
    repository, has_tag, tag = rest.partition(":")
    if has_tag and not _TAG.fullmatch(tag):
        raise InvalidReferenceError(f"{text!r}: the tag has characters that are not allowed, or is too long")
    if _IMAGE_ID.fullmatch(text) or not all(map(_REPOSITORY_PART.fullmatch, repository.split("/"))):
        raise InvalidReferenceError(f"{text!r}: the repository may contain only lower-case letters, digits and . _ - /")
    if not _REGISTRY.fullmatch(registry):
        raise InvalidReferenceError(f"{text!r}: the registry is not host[:port]")
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    if len(registry) + 1 + len(repository) > _MAX_NAME:
        raise InvalidReferenceError(f"{text[:40]!r}…: the name is longer than {_MAX_NAME} characters")
    return Reference(registry, repository, None if digest else tag or "latest", digest or None)


def _split_registry(name: str) -> tuple[str, str]:
    """Split an image name into the registry and the rest. The first component is the registry if it is ``localhost`` or
    contains a dot, a port or a capital letter.
    """
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return (DEFAULT_REGISTRY if first == "index.docker.io" else first), rest
    return DEFAULT_REGISTRY, name


def normalise(text: str) -> str:
    """Return the fully qualified reference, or the text unchanged if it is not a valid reference."""
    try:
        return str(parse(text))
    except InvalidReferenceError:
        return text


def registry_host(registry: str) -> str:
    """Return the registry without its port, as in containerd's content labels."""
    return re.sub(r":[0-9]+\Z", "", registry)
