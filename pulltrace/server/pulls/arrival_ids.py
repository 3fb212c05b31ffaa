"""The ids of arrivals. Sans-I/O."""

import base64
import hashlib
from collections.abc import Mapping

from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.pulls.arrival import Arrival


def seed_of(demand: ImageDemand) -> str:
    """Return a seed for the id of a demand's arrival. The seed stays the same if the demand's pods are deleted."""
    # If no event reported the start of a failed attempt, `since` can be the time of an earlier failure, even in an
    # arrival that has already ended.
    began = demand.failure.at if demand.failure and not demand.pulling else demand.since
    return f"{demand.image} {began}"


def free_id(arrivals: Mapping[str, Arrival], node: str, seed: str) -> str:
    """Return an opaque, URL-safe id that stays the same when the server restarts.

    If the id is already in use, derive another id. An id may be in use because an arrival continued with another image,
    or without the pull from which its id was derived.
    """
    digest = hashlib.blake2b(f"{node}\n{seed}".encode(), digest_size=9).digest()
    id_ = base64.urlsafe_b64encode(digest).decode()
    return free_id(arrivals, node, f"{seed} again") if id_ in arrivals else id_
