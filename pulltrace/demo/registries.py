"""Simulated registries, with their images, their speeds, and their errors in containerd's wording. Sans-I/O."""

from dataclasses import dataclass, field
from enum import StrEnum

from pulltrace.demo.images import Blob, Image
from pulltrace.images import normalise, parse


class Refusal(StrEnum):
    """A registry's reasons for refusing an image. Each value is the suffix of containerd's error message."""

    NOT_FOUND = "{ref}: not found"
    UNAUTHORIZED = (
        "failed to authorize: failed to fetch oauth token: unexpected status from GET request to "
        "https://{host}/token?scope=repository%3A{repository}%3Apull&service={host}: 401 Unauthorized"
    )
    RATE_LIMITED = (
        "unexpected status from HEAD request to https://{host}/v2/{repository}/manifests/{tag}: 429 Too Many Requests\n"
        "toomanyrequests: You have reached your unauthenticated pull rate limit. "
        "https://www.docker.com/increase-rate-limit"
    )
    TIMEOUT = (
        'failed to do request: Head "https://{host}/v2/{repository}/manifests/{tag}": '
        "dial tcp 10.0.0.9:443: i/o timeout"
    )
    TLS = (
        'failed to do request: Head "https://{host}/v2/{repository}/manifests/{tag}": tls: failed to verify '
        "certificate: x509: certificate signed by unknown authority"
    )
    SERVER_ERROR = (
        "unexpected status from HEAD request to https://{host}/v2/{repository}/manifests/{tag}: 503 Service Unavailable"
    )

    @property
    def code(self) -> str:
        """The gRPC status that the CRI plugin returns."""
        return {Refusal.NOT_FOUND: "NotFound"}.get(self, "Unknown")

    def message(self, reference: str) -> str:
        """Return the complete error message that the kubelet receives from the CRI's ``PullImage``."""
        ref = parse(reference)
        host = "registry-1.docker.io" if ref.registry == "docker.io" else ref.registry
        end = self.format(ref=ref, host=host, repository=ref.repository, tag=ref.digest or ref.tag)
        return (
            f'rpc error: code = {self.code} desc = failed to pull and unpack image "{ref}": '
            f'failed to resolve reference "{ref}": {end}'
        )


@dataclass(slots=True)
class Manner:
    """The speed and latency of a registry. ``speed`` is in bytes per second on each connection, and ``latency`` is the
    time, in seconds, before the registry starts to respond.
    """

    speed: float = 50e6
    latency: float = 0.12


@dataclass(slots=True)
class Registries:
    """All registries that a node can reach. Changes take effect immediately, even for downloads in progress.

    ``holds`` maps a blob's digest to the offset at which its download stops. ``silent`` contains repositories
    (``host/name``) whose manifest requests get no response. ``limits`` maps a blob's digest to the maximum speed of its
    download, in bytes per second.
    """

    images: dict[str, Image] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    manners: dict[str, Manner] = field(default_factory=dict)
    holds: dict[str, int] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    limits: dict[str, float] = field(default_factory=dict)

    def push(self, reference: str, image: Image) -> str:
        """Serve an image by tag and by digest. Return the normalised reference."""
        ref = parse(reference)
        for name in (str(ref), f"{ref.name}@{image.target.digest}"):
            self.images[name] = image
        return str(ref)

    def refuse(self, reference: str, why: Refusal | None) -> None:
        """Make the registry refuse an image for the given reason. If ``why`` is None, serve the image again."""
        self.refusals.pop(normalise(reference), None)
        if why:
            self.refusals[normalise(reference)] = why

    def resolve(self, reference: str) -> Image | Refusal:
        """Return the image that a reference names, or the reason why the registry refuses it."""
        name = normalise(reference)
        return self.refusals.get(name) or self.images.get(name) or Refusal.NOT_FOUND

    def manner(self, host: str) -> Manner:
        """Return a registry's speed and latency."""
        return self.manners.setdefault(host, Manner())

    def sends(self, blob: Blob, received: float, count: float) -> float:
        """Return how many bytes of the blob the registry sends next, given that the node can receive ``count``
        bytes.
        """
        hold = self.holds.get(blob.digest)
        return count if hold is None else min(count, max(0.0, hold - received))

    def speed(self, host: str, blob: Blob) -> float:
        """Return the speed at which a single connection downloads the blob, in bytes per second."""
        return min(self.manner(host).speed, self.limits.get(blob.digest, float("inf")))
