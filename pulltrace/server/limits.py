"""Sans-I/O. How much the server holds at most. Anything beyond is rejected or dropped, and counted."""

from dataclasses import dataclass

from pulltrace.wire import MAX_LAYERS, MAX_PULLS, MAX_REPORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one server; every installation has the defaults. Durations in seconds, sizes in bytes.

    Where clients share something, ``…_per_address`` is what each address is sure of (see ``api.fair_share``).
    """

    nodes: int = 10_000
    active_per_node: int = MAX_PULLS
    layers_per_pull: int = MAX_LAYERS
    history_per_node: int = 200
    live_bytes: int = 8 * 2**20
    """Of the running pulls of one node, as ``node.weight`` counts them."""
    history_bytes: int = 4 * 2**20
    """Of the ended pulls of one node."""
    all_bytes: int = 256 * 2**20
    """Of the pulls of all nodes."""
    history: int = 20_000
    tombstones: int = 20_000
    """Removed pulls and superseded ends that the feed keeps for clients that are behind."""
    report_interval: float = 0.5
    readers: int = 256
    readers_per_address: int = 32
    client_timeout: float = 30.0
    """A client that accepts no data for this long is dropped."""
    keep_alive: float = 15.0
    """A quiet stream receives a comment at least this often."""
    tick: float = 0.25
    """Time between two frames of the stream."""

    connections: int = 12_288
    connections_per_address: int = 64
    metrics_connections: int = 256
    metrics_connections_per_address: int = 16
    head: int = 16 << 10
    """A request's target and headers; also the chunk sizes and trailers of a body."""
    headers: int = 100
    open_requests: int = 8 << 20
    """All unfinished heads together."""
    idle_timeout: float = 30.0
    """A connection must begin its first request within this time."""
    head_timeout: float = 10.0
    body: int = MAX_REPORT
    body_timeout: float = 10.0
    bodies: int = 64 << 20
    bodies_per_address: int = 2 << 20
    """Bytes of all large reports that are arriving."""
    lists: int = 16
    """Lists that are sent at once; the others receive 503."""
    lists_per_address: int = 4
    response_timeout: float = 120.0
    """The longest time that a list may take."""
