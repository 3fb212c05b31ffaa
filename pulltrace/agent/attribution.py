"""Determine the image that a pull is fetching, and the registry and repository that the image comes from. Sans-I/O.

A pull's layers are read from its manifest, never from its ingests. If a layer is already on the node, or if another
pull is fetching it, it may never appear among the lease's resources. See ``docs/how-it-knows.md``.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from pulltrace.agent.layers import Layer
from pulltrace.agent.manifests import Config, Document, Index, Manifest
from pulltrace.agent.model import Blob


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is being pulled.

    The image record may point to any digest in ``targets``, which lists indexes before manifests. ``documents``
    contains the digests of all indexes, manifests and configs.
    """

    targets: tuple[str, ...]
    documents: tuple[str, ...]
    manifest_digest: str
    media_type: str
    layers: tuple[Layer, ...]
    config_read: bool


def image_of(content: Collection[str], documents: Mapping[str, Document | None]) -> Image | None:
    """Return the image whose manifest is among a lease's committed blobs; None until the manifest has been read.

    A pull for all platforms fetches several manifests, and the returned image contains each of their layers once.
    """
    known = {digest: document for digest in content if (document := documents.get(digest))}
    indexes = {digest: item for digest, item in known.items() if isinstance(item, Index)}
    manifests = {digest: item for digest, item in known.items() if isinstance(item, Manifest)}
    children = [child.digest for index in indexes.values() for child in index.manifests]
    ordered = [digest for digest in children if digest in manifests] or sorted(manifests)
    if not ordered:
        return None
    layers: dict[str, Layer] = {}
    configs = []
    for digest in dict.fromkeys(ordered):
        manifest = manifests[digest]
        configs.append(manifest.config.digest)
        config = known.get(manifest.config.digest)
        chains = config.chain_ids if isinstance(config, Config) else []
        for number, layer in enumerate(manifest.layers):
            chain = (chains[number],) if len(chains) == len(manifest.layers) else ()
            first = layers.get(layer.digest) or Layer(layer.digest, layer.media_type, layer.size)
            layers[layer.digest] = replace(first, chain_ids=first.chain_ids + chain)
    return Image(
        targets=(*indexes, *dict.fromkeys(ordered)),
        documents=(*indexes, *dict.fromkeys(ordered), *configs),
        manifest_digest=ordered[0],
        media_type=manifests[ordered[0]].media_type,
        layers=tuple(layers.values()),
        config_read=all(config in documents for config in configs),
    )


def unread(content: Collection[str], documents: Mapping[str, Document | None], image: Image | None) -> set[str]:
    """Return those of the lease's committed blobs that may be documents: they have not been read, and are not known to
    be layers.
    """
    layers = {layer.digest for layer in image.layers} if image else set()
    return {digest for digest in content if digest not in documents and digest not in layers}


def with_children(content: frozenset[str], documents: Mapping[str, Document | None]) -> frozenset[str]:
    """Return a lease's committed blobs and all documents that these blobs refer to, even if the lease does not list
    them.
    """
    children: set[str] = set()
    for digest in content:
        match documents.get(digest):
            case Index(manifests=manifests):
                children.update(child.digest for child in manifests)
            case Manifest(config=config):
                children.add(config.digest)
    return content | children


def source_of(documents: Iterable[str], blobs: Mapping[str, Blob]) -> tuple[str, str] | None:
    """Return the registry host and repository from which all these documents were pulled; None unless there is exactly
    one such pair.

    A blob's labels list every repository from which it has been pulled. Each pull adds its own repository to the
    labels, even if the blob was already on the node.
    """
    found = [blobs[digest].sources for digest in documents if digest in blobs and blobs[digest].sources]
    common = frozenset.intersection(*found) if found else frozenset()
    return next(iter(common)) if len(common) == 1 else None
