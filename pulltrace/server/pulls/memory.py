"""Estimate the memory that a pull uses in the server. Sans-I/O.

``inventory`` adds up the estimates and compares the sums with ``limits``. The estimates depend only on a pull's state,
so they are cheap to calculate. ``tests/server/pulls/test_memory.py`` compares them with the memory that is actually
used.
"""

from pulltrace.wire import PullState

LIVE_PULL, LIVE_LAYER = 4096, 1536
"""The memory, in bytes, to count for a running pull and for each of its layers. A layer's strings are included. The
strings of the pull itself are counted separately.
"""
ENDED_PULL, ENDED_LAYER = 3584, 512
"""The memory, in bytes, to count for a finished pull and for each of its layers. Strings are counted separately."""


def live_weight(state: PullState) -> int:
    """Estimate how many bytes of memory a running pull uses."""
    return LIVE_PULL + _texts(state) + LIVE_LAYER * len(state.layers or ())


def ended_weight(state: PullState) -> int:
    """Estimate how many bytes of memory a finished pull uses."""
    layers = state.layers or ()
    texts = sum(len(layer.digest) + len(layer.media_type) + len(layer.fetched_by or "") for layer in layers)
    return ENDED_PULL + _texts(state) + ENDED_LAYER * len(layers) + texts


def _texts(state: PullState) -> int:
    names = len(state.id) + len(state.image_ref) + len(state.registry or "") + len(state.repository or "")
    types = len(state.snapshotter or "") + len(state.manifest_digest or "") + len(state.media_type or "")
    return names + types + len(state.error or "") + sum(map(len, state.via or ()))
