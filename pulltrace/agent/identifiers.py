"""Interpret containerd's identifiers: ingest refs, lease ids, lease labels and digests. Sans-I/O."""

import re
from collections.abc import Mapping
from datetime import datetime

from pulltrace.agent.model import ARCHIVE, Lease

EXPIRE_LABEL = "containerd.io/gc.expire"

# The pattern matches any algorithm, because containerd supports sha256, sha384 and sha512.
_DIGEST = re.compile(r"[a-z0-9]+:[0-9a-f]{32,128}")
_REF = re.compile(rf"(?:\A|[-@])({_DIGEST.pattern})\Z")
_ARCHIVED_BLOB = re.compile(r"blobs/([a-z0-9]+)/([0-9a-f]{32,128})\Z")

# By default, containerd's client creates leases with ids of this form and with this lifetime (``WithRandomID``,
# ``WithExpiration``). The CRI plugin and the transfer service use the client's defaults for every pull.
_RANDOM_ID = re.compile(r"\d{1,9}-[\w-]{4}", re.ASCII)
_LIFETIME = 24 * 3600.0
_TOLERANCE = 60.0


def is_digest(text: str) -> bool:
    """Return whether the whole text is a digest."""
    return _DIGEST.fullmatch(text) is not None


def digest_of(ref: str) -> str | None:
    """Return the digest in an ingest's ref; None if the ref contains no digest.

    ``layer-sha256:…`` and ``layer-<name>@sha256:…`` are downloads. ``tar-blobs/sha256/…`` is a file in an OCI archive.
    A file in a Docker archive has no digest until it is committed, so the ref itself is returned.
    """
    if ref.startswith(ARCHIVE):
        found = _ARCHIVED_BLOB.search(ref)
        return f"{found[1]}:{found[2]}" if found else ref
    found = _REF.search(ref)
    return found[1] if found else None


def lease_of(lease_id: str, created_at: float, labels: Mapping[str, str]) -> Lease:
    """Create a ``Lease`` from a lease's id, creation time and labels."""
    expires = labels.get(EXPIRE_LABEL)
    if expires is None:
        return Lease(lease_id, created_at, expires=False, is_default=False)
    is_default = len(labels) == 1 and _RANDOM_ID.fullmatch(lease_id) is not None and _lasts_a_day(created_at, expires)
    return Lease(lease_id, created_at, is_default=is_default)


def _lasts_a_day(created_at: float, expires: str) -> bool:
    try:
        lifetime = datetime.fromisoformat(expires).timestamp() - created_at
    except ValueError:
        return False
    return abs(lifetime - _LIFETIME) < _TOLERANCE
