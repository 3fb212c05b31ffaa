"""The limits on what the server stores. Data that exceeds a limit is rejected or dropped, and counted. Sans-I/O."""

from dataclasses import dataclass

from pulltrace.wire import MAX_LAYERS, MAX_PULLS, MAX_REPORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one server; every installation uses the defaults. Durations are in seconds, sizes in bytes.

    Where clients share a resource, each address is guaranteed the amount in ``…_per_address`` (see ``api.fair_share``).
    """

    nodes: int = 10_000
    active_per_node: int = MAX_PULLS
    layers_per_pull: int = MAX_LAYERS
    history_per_node: int = 200
    live_bytes: int = 8 * 2**20
    """Maximum memory for one node's running pulls, as estimated by ``pulls.memory.live_weight``."""
    history_bytes: int = 4 * 2**20
    """Maximum memory for one node's finished pulls."""
    all_bytes: int = 256 * 2**20
    """Maximum memory for the pulls of all nodes."""
    history: int = 20_000
    tombstones: int = 20_000
    """Maximum number of removed pulls and finished attempts that the feed keeps for clients that have fallen behind."""
    report_interval: float = 0.5
    readers: int = 256
    readers_per_address: int = 32
    client_timeout: float = 30.0
    """How long a client may go without accepting data before it is disconnected, in seconds."""
    keep_alive: float = 15.0
    """Maximum interval between keep-alive comments while a stream has no changes to send."""
    tick: float = 0.25
    """The interval between stream frames."""

    connections: int = 12_288
    connections_per_address: int = 64
    metrics_connections: int = 256
    metrics_connections_per_address: int = 16
    head: int = 16 << 10
    """Maximum size of a request's target and headers, and of a body's chunk framing and trailers."""
    headers: int = 100
    open_requests: int = 8 << 20
    """Maximum total size of all unfinished request heads."""
    idle_timeout: float = 30.0
    """Maximum time from the opening of a connection to the start of its first request."""
    head_timeout: float = 10.0
    body: int = MAX_REPORT
    body_timeout: float = 10.0
    bodies: int = 64 << 20
    """Maximum total size of all large reports that are being received at the same time."""
    bodies_per_address: int = 2 << 20
    lists: int = 16
    """Maximum number of lists to send at once; additional requests receive 503."""
    lists_per_address: int = 4
    response_timeout: float = 120.0
    """Maximum time for sending a list."""
