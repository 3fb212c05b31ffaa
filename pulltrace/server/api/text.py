"""Format lists as aligned tables for terminals, at most 100 columns wide. Sans-I/O.

``Accept: text/plain`` or ``?format=text`` selects these tables. Each table has one header line, followed by one line
for each object.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from pulltrace.server.models import PullStatus
from pulltrace.server.responses import ContainerWait, ImageRollout, NodeStatus, PodStart, PodWait, WaitState

WIDTH = 100
_GAP = 2
_LEAST = 8
"""The minimum width to which a cell can be shortened."""
_ORDER = list(WaitState)


def pulls(found: Iterable[PullStatus], now: datetime) -> str:
    """Return one line for each pull. For a failed pull, the last column contains the reason and the time since the
    first failure.
    """
    rows = [
        (
            pull.image_ref,
            pull.node_name,
            "stalled" if pull.stalled_since else pull.status.value,
            f"{pull.percent:.0f}%" if pull.total_known or pull.status.ended else "",
            size(pull.total_bytes) if pull.total_known else "",
            f"{size(pull.bytes_per_sec)}/s" if pull.bytes_per_sec else "",
            seconds(pull.eta_seconds) if not pull.status.ended else _took(pull),
            _why(pull, now),
        )
        for pull in found
    ]
    return table(("IMAGE", "NODE", "STATUS", "DONE", "SIZE", "SPEED", "LEFT/TOOK", "LIMITED BY"), rows)


def pods(waiting: Iterable[PodWait], started: Iterable[PodStart], now: datetime) -> str:
    """Return one line for each waiting pod, followed by one line for each pod that started recently."""
    rows = [
        (
            f"{pod.namespace}/{pod.pod_name}",
            pod.node_name,
            _state(slowest := _slowest(pod.containers)),
            slowest.image,
            "" if slowest.percent is None else f"{slowest.percent:.0f}%",
            seconds(pod.eta_seconds),
            seconds((now - pod.waiting_since).total_seconds()),
        )
        for pod in waiting
    ]
    rows += [
        (f"{pod.namespace}/{pod.pod_name}", pod.node_name, "started", "", "", "", seconds(pod.seconds))
        for pod in started
    ]
    return table(("POD", "NODE", "STATE", "IMAGE", "DONE", "LEFT", "SINCE/TOOK"), rows)


def images(found: Iterable[ImageRollout]) -> str:
    """Return one line for each image."""
    rows = [
        (
            image.image_ref,
            str(image.nodes.done),
            str(image.nodes.pulling),
            str(image.nodes.queued),
            str(image.nodes.failed),
            size(image.image_bytes),
            seconds(image.median_seconds),
            seconds(image.worst_seconds),
            image.slowest_node or "",
        )
        for image in found
    ]
    return table(("IMAGE", "DONE", "PULLING", "QUEUED", "FAILED", "SIZE", "MEDIAN", "WORST", "SLOWEST NODE"), rows)


def nodes(found: Iterable[NodeStatus], now: datetime) -> str:
    """Return one line for each node."""
    rows = [
        (
            node.name,
            node.state.value,
            str(node.active_pulls),
            f"{size(node.bytes_per_sec)}/s" if node.bytes_per_sec else "",
            f"{node.load.disk_busy:.0f}%" if node.load and node.load.disk_busy is not None else "",
            node.containerd_version,
            node.agent_version,
            seconds((now - node.last_seen).total_seconds()),
        )
        for node in found
    ]
    return table(("NODE", "STATE", "PULLS", "SPEED", "DISK", "CONTAINERD", "AGENT", "LAST REPORT"), rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align the columns. Shorten the widest columns until each line fits."""
    lines = [tuple(map(_printable, row)) for row in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    excess = sum(widths) + _GAP * (len(widths) - 1) - WIDTH
    while excess > 0:
        widest = max(range(len(widths)), key=widths.__getitem__)
        next_widest = max((width for column, width in enumerate(widths) if column != widest), default=0)
        cut = min(excess, max(widths[widest] - next_widest, 1), widths[widest] - _LEAST)
        if cut <= 0:
            break
        widths[widest] -= cut
        excess -= cut
    gap = " " * _GAP
    text = (
        gap.join(_shorten(cell, width).ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return "\n".join(text) + "\n"


def size(count: float) -> str:
    """Format a number of bytes in decimal units: ``1.2GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.1f}{unit}" if count < 9.95 and unit != "B" else f"{count:.0f}{unit}"
        count /= 1000
    return f"{count:.1f}TB"


def seconds(value: float | None) -> str:
    """Format a duration: ``42s``, ``3m05s``, ``2h10m``."""
    if value is None:
        return ""
    minutes, rest = divmod(max(round(value), 0), 60)
    if not minutes:
        return f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def _why(pull: PullStatus, now: datetime) -> str:
    if pull.error_reason and pull.failing_since:
        return f"{pull.error_reason.value} for {seconds((now - pull.failing_since).total_seconds())}"
    return pull.bound.by.value if pull.bound else ""


def _state(container: ContainerWait) -> str:
    """Return the state of a container. If a pull is queued after a failed attempt, its state is "retry queued"."""
    is_retry = container.state is WaitState.QUEUED and container.attempt > 1
    return "retry queued" if is_retry else container.state.value


def _took(pull: PullStatus) -> str:
    return seconds((pull.completed_at - pull.started_at).total_seconds()) if pull.completed_at else ""


def _slowest(containers: Sequence[ContainerWait]) -> ContainerWait:
    """Return the container that delays the pod: a failed container if there is one, otherwise the container whose image
    is least complete.
    """
    failed = [item for item in containers if item.state is WaitState.FAILED]
    waiting = [item for item in containers if item.state not in (WaitState.WAITING, WaitState.COMPLETED)]
    return min(failed or waiting or containers, key=lambda item: (item.percent or 0.0, _ORDER.index(item.state)))


def _printable(cell: str) -> str:
    """Replace control characters, so that they do not reach a terminal. Names of images and pods come from clusters and
    registries, so they cannot be trusted.
    """
    return "".join(char if char.isprintable() else "?" for char in cell)


def _shorten(cell: str, width: int) -> str:
    """Cut off the beginning of a long cell, because the names of images and pods differ mostly at the end."""
    return cell if len(cell) <= width else "..." + cell[len(cell) - width + 3 :]
