"""PURE: which image a lease is pulling, and what state each of its layers is in.

The layers of a pull come from its manifest, never from its ingests: a layer that another pull is fetching, or that the
node has, may never appear among the lease's own resources. See ``docs/how-it-knows.md``.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from pulltrace.agent.layers import Layer
from pulltrace.agent.manifests import Config, Document, Index, Manifest
from pulltrace.agent.model import Blob, ImageRecord, Lease
from pulltrace.images import InvalidReferenceError, Reference, parse, registry_host

LOCAL_SNAPSHOTTERS = frozenset({"overlayfs", "native", "btrfs", "zfs", "devmapper", "blockfile", "erofs"})
"""They unpack what was fetched. Others (stargz, nydus, soci, …) may mount a layer that is still at the registry."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a lease is pulling. ``targets`` are the digests that the image's record may point at, the index first;
    ``documents`` all index, manifest and config digests."""

    targets: tuple[str, ...]
    documents: tuple[str, ...]
    manifest_digest: str
    media_type: str
    layers: tuple[Layer, ...]
    config_read: bool


def image_of(content: Collection[str], documents: Mapping[str, Document | None]) -> Image | None:
    """The image among a lease's committed blobs; None until its manifest was read.

    A pull of all platforms has several manifests: its layers are those of all of them, each once.
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
    """Committed blobs of a lease that may be documents: neither read yet nor known to be layers."""
    layers = {layer.digest for layer in image.layers} if image else set()
    return {digest for digest in content if digest not in documents and digest not in layers}


def with_children(content: frozenset[str], documents: Mapping[str, Document | None]) -> frozenset[str]:
    """A lease's committed blobs and the documents that those name, whether or not the lease lists them."""
    children: set[str] = set()
    for digest in content:
        match documents.get(digest):
            case Index(manifests=manifests):
                children.update(child.digest for child in manifests)
            case Manifest(config=config):
                children.add(config.digest)
    return content | children


def source_of(documents: Iterable[str], blobs: Mapping[str, Blob]) -> tuple[str, str] | None:
    """Registry host and repository that these documents have in common, if that leaves no doubt.

    A blob lists every repository it ever came from; one that a pull found on the node gets the pull's own added.
    """
    found = [blobs[digest].sources for digest in documents if digest in blobs and blobs[digest].sources]
    common = frozenset.intersection(*found) if found else frozenset()
    return next(iter(common)) if len(common) == 1 else None


class Name(NamedTuple):
    """The reference a pull was for, whether that is a guess, and when its record was made or updated by it."""

    reference: str
    guessed: bool
    written_at: float


def name_of(
    records: Iterable[ImageRecord],
    lease: Lease,
    source: tuple[str, str] | None,
    taken: Mapping[str, float],
    given: Collection[str],
) -> Name | None:
    """What this pull was for, from the image's records; None: it made none, so it did not complete.

    The record that was pulled is made or updated at the pull's end, so only those younger than the lease count; the
    CRI plugin makes one by tag and one by digest for a pull by tag, and one by image id. One of the pull's ``source``
    goes before any other. ``taken`` are the records that ended other pulls, as old as they were then; ``given`` those
    that did in this very poll, of which nobody can tell how often they were updated: two pulls of one image ending in
    one poll may have each other's tag.
    """
    fresh = [
        record
        for record in records
        if record.updated_at >= lease.created_at and record.updated_at > taken.get(record.name, 0.0)
    ]
    fresh.sort(key=lambda record: (record.name not in given, record.updated_at), reverse=True)
    named = [(reference, record) for record in fresh if (reference := _reference(record.name))]
    named = [item for item in named if _source(item[0]) == source] or named
    tags = [item for item in named if item[0].tag]
    for reference, record in tags or named:
        return Name(str(reference), len(tags) > 1, written_at(record, lease, taken, given))
    return None


def written_at(record: ImageRecord, lease: Lease, taken: Mapping[str, float], given: Collection[str]) -> float:
    """When this pull made or updated the record.

    A twin whose lease still stands may have updated it since: then its making was this one's.
    """
    made = record.created_at >= lease.created_at and record.created_at > taken.get(record.name, 0.0)
    return record.created_at if made and record.name not in given else record.updated_at


def _source(reference: Reference) -> tuple[str, str]:
    return registry_host(reference.registry), reference.repository


def made_with_any_tag(record: ImageRecord) -> bool:
    """The CRI plugin makes these names, by digest and by image id, whatever the tag was."""
    return "@" in record.name or record.name.startswith("sha256:")


def _reference(name: str) -> Reference | None:
    if name.startswith("sha256:"):
        return None  # the CRI plugin's record by image id, which would parse as a tag of a repository "sha256"
    try:
        return parse(name)
    except InvalidReferenceError:
        return None
