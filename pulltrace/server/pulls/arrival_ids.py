"""The ids of arrivals. Sans-I/O.

The API and the dashboard identify an arrival by its id. The id is derived from a seed: the agent's id for the first
pull or, if the kubelet's request arrived earlier, the image and the time of that request. When the server restarts, its
sources report the same values again, so an arrival usually keeps its id. Clients must not depend on the format of the
id.
"""

import base64
import hashlib
from collections.abc import Container

from pulltrace.server.kubernetes.demand import ImageDemand


def seed_of(demand: ImageDemand) -> str:
    """Return the seed from which the id of the demand's arrival is derived. The seed stays the same if the demand's
    pods are deleted.
    """
    # If no event reported the start of a failed attempt, `since` may be the time of an earlier failure, possibly one
    # that belongs to a previous arrival of the image.
    began = demand.failure.at if demand.failure and not demand.pulling else demand.since
    return f"{demand.image} {began}"


def free_id(used: Container[str], node: str, seed: str) -> str:
    """Derive a URL-safe id from a node and a seed. ``used`` contains the ids of the node's arrivals.

    If the id is already in use, derive another id. An id may already be in use if its arrival was reassigned to a
    different image or has lost the pull from which the id was derived.
    """
    digest = hashlib.blake2b(f"{node}\n{seed}".encode(), digest_size=9).digest()
    id_ = base64.urlsafe_b64encode(digest).decode()
    return free_id(used, node, f"{seed} again") if id_ in used else id_
