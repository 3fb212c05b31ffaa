"""How much the server holds at most. What goes beyond is refused or dropped, and counted, never kept. PURE."""

from dataclasses import dataclass

from pulltrace.wire import MAX_LAYERS, MAX_PULLS, MAX_REPORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one server; the defaults are those of every installation. Durations in seconds, sizes in bytes."""

    nodes: int = 10_000
    active_per_node: int = MAX_PULLS
    layers_per_pull: int = MAX_LAYERS
    history_per_node: int = 200
    history: int = 20_000
    tombstones: int = 20_000
    """Removed pulls and superseded ends that the feed remembers for readers that are behind."""
    body: int = MAX_REPORT
    report_interval: float = 0.5
    readers: int = 256
    client_timeout: float = 30.0
    """A reader that takes nothing for so long is dropped."""
    keep_alive: float = 15.0
    """A quiet stream has a comment at least this often."""
    tick: float = 0.25
    """Between two frames of the stream."""
