"""Convert reports from the Pulltrace v0.1.0 agent, which was written in Go. Sans-I/O.

The Go agent reports each ingest as a pull without an id, whose ``imageRef`` is the ingest's ref (``layer-sha256:…``).
The Go agent does not know which ingests belong together, so all of a node's ingests become one pull of an unknown
image. When an ingest is no longer reported, its layer counts as downloaded. When no ingests are left, the pull has
completed.
"""

import re
from collections.abc import Iterable

import msgspec

from pulltrace.wire import UNKNOWN_IMAGE, LayerPhase, LayerState, PullPhase, PullState

_INGEST = re.compile(r"(layer|manifest|index|config|attestation|unknown)-(sha256:[0-9a-f]{64})")


def is_from_go_agent(pulls: Iterable[PullState]) -> bool:
    """Return whether the report is from the Go agent, the only agent that sends pulls without ids."""
    return any(not pull.id for pull in pulls)


def merge_ingests(pulls: Iterable[PullState], before: PullState | None) -> list[PullState]:
    """Convert one node's ingests to pulls: one pull for each image name, and one pull of an unknown image for all
    unnamed ingests.

    ``before`` is the state of the pull of an unknown image after the previous report, or None if there was no such
    pull.
    """
    named: dict[str, PullState] = {}
    layers = {layer.digest: _gone(layer) for layer in (before and before.layers) or ()}
    started = before.started_at if before else None
    ingests = 0
    for pull in pulls:
        ref = _INGEST.fullmatch(pull.image_ref)
        if not ref and pull.image_ref != UNKNOWN_IMAGE:
            named[pull.image_ref] = msgspec.structs.replace(pull, id=pull.image_ref, status=PullPhase.DOWNLOADING)
            continue
        ingests += 1
        started = min(filter(None, (started, pull.started_at)), default=None)
        if ref is None or ref[1] == "layer":
            for layer in pull.layers or ():
                # The Go agent sends the ingest's ref instead of the digest.
                digest = ref[2] if ref else layer.digest.removeprefix("layer-")
                layers[digest] = msgspec.structs.replace(layer, digest=digest, state=LayerPhase.DOWNLOADING)
    if ingests:
        named[UNKNOWN_IMAGE] = PullState(
            id=UNKNOWN_IMAGE,
            layers=list(layers.values()),
            started_at=started,
            total_known=bool(layers) and all(layer.total_known for layer in layers.values()),
            status=PullPhase.DOWNLOADING,
        )
    return list(named.values())


def _gone(layer: LayerState) -> LayerState:
    return msgspec.structs.replace(layer, downloaded_bytes=layer.total_bytes, state=LayerPhase.DOWNLOADED)
