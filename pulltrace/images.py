"""Image references: parse, normalise and compare them in the same way as containerd's CRI plugin.

The grammar and its limits are defined by https://github.com/distribution/reference (``reference.go`` and
``normalize.go``). A reference with both a tag and a digest loses its tag. ``ParseDockerRef``, which containerd uses for
every CRI pull, does the same.
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
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")  # a bare image id is never the name of a repository
_MAX_NAME = 255


class InvalidReferenceError(ValueError):
    """The text is not an image reference. The message states the reason."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A complete image reference, with either a tag or a digest, but never both."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Registry and repository, without tag or digest."""
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
    """Split off the registry. The first part of the name is the registry if it contains a dot, a port or a capital
    letter, or is ``localhost``.
    """
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return (DEFAULT_REGISTRY if first == "index.docker.io" else first), rest
    return DEFAULT_REGISTRY, name


def normalise(text: str) -> str:
    """Return the complete reference, or the text unchanged if it is not a reference."""
    try:
        return str(parse(text))
    except InvalidReferenceError:
        return text


def registry_host(registry: str) -> str:
    """Return the registry without its port. containerd's content labels have this form."""
    return re.sub(r":[0-9]+\Z", "", registry)
