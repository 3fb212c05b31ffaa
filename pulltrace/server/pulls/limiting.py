"""The rules that determine a pull's limiting factor at a given time. Sans-I/O. ``docs/verdicts.md`` explains the rules.

Each rule requires a measurement as proof: the node's load, or a comparison with a different registry or node, or with
an earlier time. Without such a measurement, the factor remains unknown.
"""

from pulltrace.server.models import Factor
from pulltrace.server.pulls.node import Pull
from pulltrace.server.pulls.paces import Paces
from pulltrace.server.pulls.rates import WINDOW
from pulltrace.server.pulls.verdict import NO_DATA, NOTHING, Moment
from pulltrace.wire import SNAPSHOTTER, LayerPhase, LayerState, NodeLoad, PullPhase

BUSY_DISK, DISK_PRESSURE = 80.0, 40.0
"""The disk is the limiting factor if it was busy at least ``BUSY_DISK`` percent of the time and tasks waited for I/O at
least ``DISK_PRESSURE`` percent of the time.
"""
HIGH_DISK_PRESSURE = 60.0
"""If tasks wait for I/O at least this percentage of the time, the disk is the limiting factor. The disk itself does not
have to be busy, because a cgroup may be throttling I/O.
"""
CPU_PRESSURE, IDLE_DISK = 60.0, 20.0
"""The CPU is the limiting factor if tasks wait for the CPU at least ``CPU_PRESSURE`` percent of the time, but for I/O
at most ``IDLE_DISK`` percent of the time.
"""
FASTER = 3.0
"""A comparison of two rates proves a limit only if one rate is at least this many times the other."""
SIMILAR = 2.0
"""A node fetches about as fast as the other nodes if their median rate is at most this many times its rate."""
FEW_BYTES = 0.1
"""If the bytes that arrive from a registry are at most this fraction of the disk's traffic, something else keeps the
disk busy. A pull writes each byte several times, because layers are larger once they are unpacked.
"""
LARGE_LAYER = 0.5
"""A layer is dominant if it contains at least this fraction of the bytes that must be fetched for the image."""
DROPPED = 0.67
"""If the rate falls to this fraction or less when only the last layer remains, the pull is limited by its single
connection.
"""
FULL_LINE = 0.85
"""A node's network is considered saturated if its total rate is at least this fraction of the highest total rate so
far.
"""
DIAL_TIMEOUT = 30.0
"""How long, in seconds, containerd tries to connect to a host before it tries the next one."""
DIAL_TOLERANCE = 5.0
"""Maximum deviation from ``DIAL_TIMEOUT``, in seconds, at which a wait still counts as a connection timeout. The
tolerance covers the polling interval and the duration of the request itself.
"""
MIRROR_WAITS = 2
"""Minimum number of waits of about ``DIAL_TIMEOUT`` each before a mirror is considered unreachable."""
SLOTS = 3
"""containerd's default number of concurrent downloads."""

_WAITING, _DOWNLOADING = LayerPhase.WAITING, LayerPhase.DOWNLOADING


def limiting_factor(pull: Pull, paces: Paces, now: float) -> Moment:
    """Return the limiting factor (the bottleneck) of a live pull at the given time. The factor is ``unknown`` unless
    the measurements prove a specific factor.
    """
    layers = pull.state.layers or []
    load = pull.node.load_at(now)
    dead_mirror = _dead_mirror(pull, now)
    if pull.phase is PullPhase.EXTRACTING:
        return _disk(load) or _cpu(load) or NOTHING
    missing = [layer for layer in layers if layer.state is _WAITING or layer.state is _DOWNLOADING]
    mine = [layer for layer in missing if not layer.fetched_by]
    downloading = [layer for layer in mine if layer.state is _DOWNLOADING]
    if missing and not mine:
        return _snapshotter(pull, missing, load) or _fetched_elsewhere(pull, missing)
    if not downloading:
        return dead_mirror or _no_slot(pull) or NOTHING
    rate = pull.arriving.rate(now)
    if rate <= 0.0:
        return _disk(load) or NO_DATA
    if len(downloading) > 1:
        pull.verdict.best_rate = max(pull.verdict.best_rate, rate)
    pull.verdict.connections = max(pull.verdict.connections, len(downloading))
    per_connection = _per_connection(pull, downloading, now) or rate / len(downloading)
    # A slow connection is the cause of a slow last layer, so the comparison takes precedence over `_one_layer`.
    compared = _compared(pull, per_connection, rate, paces, now)
    moment = compared or _one_layer(pull, mine, rate, paces, now) or NOTHING
    disk = _disk(load)
    if disk and not (moment.by is Factor.REGISTRY and _is_disk_irrelevant(pull, per_connection, load, paces, now)):
        moment = disk
    if pull.state.registry:
        is_sustained = pull.arriving.total >= rate * WINDOW
        paces.record(pull.node.name, pull.state.registry, per_connection, rate, now, is_sustained=is_sustained)
    return moment


def unexplained(pull: Pull, now: float) -> str:
    """Return a sentence that explains why the limiting factor of a live pull is unknown."""
    registry = pull.state.registry or "The registry"
    if pull.phase is PullPhase.RESOLVING:
        return f"{registry} has not returned the manifest yet."
    if pull.phase is PullPhase.EXTRACTING:
        return "Everything is downloaded; the measurements do not show that the disk or the CPU limits unpacking."
    if pull.arriving.rate(now) <= 0.0:
        return "No data arrives; the measurements on the node do not explain why."
    return "The measurements do not identify one limit for this download."


def _disk(load: NodeLoad | None) -> Moment | None:
    if load is None or load.io_pressure is None:
        return None
    figures = {"ioPressurePercent": load.io_pressure}
    if load.disk_written_per_sec is not None:
        figures["diskBytesPerSec"] = load.disk_written_per_sec
    if load.disk_busy is not None and load.disk_busy >= BUSY_DISK and load.io_pressure >= DISK_PRESSURE:
        sentence = "Disk {} is {diskBusyPercent} busy, and tasks wait for I/O {ioPressurePercent} of the time."
        return Moment(Factor.DISK, sentence, (load.disk,), figures | {"diskBusyPercent": load.disk_busy})
    if load.io_pressure >= HIGH_DISK_PRESSURE:
        return Moment(Factor.DISK, "Tasks wait for I/O {ioPressurePercent} of the time.", (), figures)
    return None


def _cpu(load: NodeLoad | None) -> Moment | None:
    """Return ``Factor.CPU`` with its figures if the CPU limits unpacking, otherwise None. Unpacking is the only part of
    a pull that needs a lot of CPU time.
    """
    if load is None or load.cpu_pressure is None or load.io_pressure is None:
        return None
    if load.cpu_pressure < CPU_PRESSURE or load.io_pressure > IDLE_DISK:
        return None
    sentence = "Unpacking waits for the CPU {cpuPressurePercent} of the time, and for I/O {ioPressurePercent}."
    figures = {"cpuPressurePercent": load.cpu_pressure, "ioPressurePercent": load.io_pressure}
    return Moment(Factor.CPU, sentence, (), figures)


def _snapshotter(pull: Pull, missing: list[LayerState], load: NodeLoad | None) -> Moment | None:
    """Return None unless the snapshotter is fetching some of the missing layers. If it is, return ``Factor.DISK`` if
    the disk limits the pull, otherwise ``Factor.SNAPSHOTTER``. The agent cannot observe the snapshotter's downloads.
    """
    count = sum(layer.fetched_by == SNAPSHOTTER for layer in missing)
    if not count:
        return None
    sentence = "The snapshotter {} fetches {layersMissing} layers itself; their bytes cannot be observed."
    name = pull.state.snapshotter or pull.node.snapshotter
    return _disk(load) or Moment(Factor.SNAPSHOTTER, sentence, (name,), {"layersMissing": float(count)})


def _dead_mirror(pull: Pull, now: float) -> Moment | None:
    """Return ``Factor.MIRROR`` with its figures if the pull's first mirror seems to be unreachable, otherwise None. A
    mirror is assumed to be unreachable if the pull is making no progress and has waited for containerd's connection
    timeout at least ``MIRROR_WAITS`` times.
    """
    verdict, via = pull.verdict, pull.state.via
    if not via:
        return None
    progress = (pull.phase, len(pull.state.layers or ()), pull.state.total_known, pull.arriving.total)
    waited = now - (verdict.progress_at or pull.started_at)
    figures = {"secondsPerRequest": DIAL_TIMEOUT}
    sentence = "Mirror {} does not respond: requests wait {secondsPerRequest} s until containerd tries the next host."
    moment = Moment(Factor.MIRROR, sentence, (via[0],), figures)
    if progress != verdict.progress:
        first = verdict.progress is None
        verdict.progress, verdict.progress_at = progress, pull.started_at if first else now
        if not first and _is_dial_timeout(waited):
            verdict.waits.append(waited)
            if len(verdict.waits) == MIRROR_WAITS:
                verdict.credit(moment, sum(verdict.waits))
        return None
    return moment if len(verdict.waits) >= MIRROR_WAITS else None


def _is_dial_timeout(seconds: float) -> bool:
    """Return whether a wait lasted about as long as containerd's connection timeout, or about a multiple of it."""
    beyond = (seconds + DIAL_TOLERANCE / 2) % DIAL_TIMEOUT
    return seconds >= DIAL_TIMEOUT - DIAL_TOLERANCE / 2 and beyond <= DIAL_TOLERANCE * max(seconds // DIAL_TIMEOUT, 1.0)


def _fetched_elsewhere(pull: Pull, missing: list[LayerState]) -> Moment:
    other = pull.node.active.get(missing[0].fetched_by or "")
    sentence = "Waits for {layersWaiting} of its layers, which {} is fetching."
    image = _image(other) if other else "another pull"
    return Moment(Factor.QUEUE, sentence, (image,), {"layersWaiting": float(len(missing))})


def _no_slot(pull: Pull) -> Moment | None:
    """Return ``Factor.SLOTS`` with its figures if other pulls occupy all download slots, otherwise None. Call this only
    for a pull that is not downloading any layers itself.

    Since containerd 2.1, all pulls on a node share the download slots.
    """
    if not _shares_slots(pull.node.containerd_version):
        return None
    busy = {other: count for other in pull.node.active.values() if other is not pull and (count := _connections(other))}
    if sum(busy.values()) < SLOTS:
        return None
    sentence = "{} occupies the download slots, which all pulls of this node share; {slotsInUse} are in use."
    image = _image(max(busy, key=lambda other: busy[other]))
    return Moment(Factor.SLOTS, sentence, (image,), {"slotsInUse": float(sum(busy.values()))})


def _shares_slots(version: str) -> bool:
    major, _, rest = version.removeprefix("v").partition(".")
    minor = rest.partition(".")[0]
    return major.isdecimal() and minor.isdecimal() and (int(major), int(minor)) >= (2, 1)


def _connections(pull: Pull) -> int:
    return sum(layer.state is _DOWNLOADING and not layer.fetched_by for layer in pull.state.layers or ())


def _per_connection(pull: Pull, downloading: list[LayerState], now: float) -> float:
    """Return the mean rate of the layers that are being downloaded, or zero if it is not known yet.

    The rate of the whole pull still includes the layers that have just been completed, so it would be too high.
    """
    speeds = (pull.layer_speeds.get(layer.digest) for layer in downloading)
    rates = [rate for speed in speeds if speed and (rate := speed.rate(now)) > 0.0]
    return sum(rates) / len(rates) if rates else 0.0


def _is_disk_irrelevant(pull: Pull, per_connection: float, load: NodeLoad | None, paces: Paces, now: float) -> bool:
    """Return whether a busy disk does not slow down this pull: the registry is about as slow on other nodes, and almost
    all of the disk's traffic has other causes than the pulls from this registry.
    """
    registry = pull.state.registry
    if not registry or load is None or load.disk_written_per_sec is None:
        return False
    peers = paces.peers(registry, now)
    if peers.nodes < 3 or peers.per_connection > SIMILAR * per_connection:
        return False
    rate = sum(other.speed.rate(now) for other in pull.node.active.values() if other.state.registry == registry)
    return rate <= FEW_BYTES * (load.disk_written_per_sec + (load.disk_read_per_sec or 0.0))


def _one_layer(pull: Pull, left: list[LayerState], rate: float, paces: Paces, now: float) -> Moment | None:
    """Return ``Factor.LAYER`` with its figures if a single large layer limits the pull, otherwise None. A layer limits
    the pull if no other layer is being downloaded and the pull was faster when it used several connections.
    """
    if len(left) != 1 or not left[0].total_known:
        return None
    size = left[0].total_bytes - left[0].cached_bytes
    total = sum(layer.total_bytes - layer.cached_bytes for layer in pull.state.layers or ())
    if len(pull.state.layers or ()) < 2 or size < LARGE_LAYER * total:
        return None
    several = pull.verdict.best_rate
    known = paces.of(pull.node.name, pull.state.registry or "", now)
    if not several and known and rate >= DROPPED * known.per_connection:
        several = known.total
    if rate > DROPPED * several:
        return None
    figures = {"layerBytes": float(size), "totalBytes": float(total), "bytesPerSec": rate, "bestBytesPerSec": several}
    sentence = (
        "One layer holds {layerBytes} of {totalBytes} and is fetched over one connection at {bytesPerSec}; "
        "several connections reached {bestBytesPerSec}."
    )
    return Moment(Factor.LAYER, sentence, (), figures)


def _compared(pull: Pull, per_connection: float, rate: float, paces: Paces, now: float) -> Moment | None:
    """Compare the pull with pulls from other registries on this node, and with pulls from this registry on other nodes.
    Return ``Factor.REGISTRY`` or ``Factor.NETWORK`` if the comparisons prove that one of them is the limiting factor,
    otherwise None.
    """
    registry = pull.state.registry
    if not registry:
        return None
    node = pull.node
    peers = paces.peers(registry, now)
    fast_elsewhere = peers.nodes >= 3 and peers.per_connection >= FASTER * per_connection
    other = paces.best_other(node.name, registry, now)
    figures = {"bytesPerSec": rate, "bytesPerSecPerConnection": per_connection}
    total = per_connection * pull.verdict.connections  # does not change when fewer layers are left
    if other and other[1].per_connection >= FASTER * per_connection and other[1].total >= FASTER * total:
        if fast_elsewhere:
            return None  # the registry is fast on other nodes, and this node is fast with other registries
        figures |= {"comparedBytesPerSec": other[1].per_connection}
        sentence = (
            "{} delivers {bytesPerSecPerConnection} per connection; {} reached {comparedBytesPerSec} on this node."
        )
        return Moment(Factor.REGISTRY, sentence, (registry, other[0]), figures)
    if fast_elsewhere and other:
        figures |= {"comparedBytesPerSec": peers.per_connection}
        sentence = "{} delivers {bytesPerSecPerConnection} per connection here, {comparedBytesPerSec} to other nodes."
        return Moment(Factor.NETWORK, sentence, (registry,), figures)
    return _full_line(pull, figures, paces, now)


def _full_line(judged: Pull, figures: dict[str, float], paces: Paces, now: float) -> Moment | None:
    """Return ``Factor.NETWORK`` if the network limits the whole node, otherwise None. The network is the limiting
    factor if at least two registries deliver far less than their best rates on this node while the node's total rate is
    close to its maximum.

    The rate of the ``judged`` pull is checked first. This check is usually enough to show that the pull's registry is
    not slow on this node.
    """
    node = judged.node
    if len(node.active) < 2:
        return None
    own = paces.of(node.name, judged.state.registry or "", now)
    if own and judged.bytes_per_second(now) > own.total / 2:
        return None
    rates: dict[str, float] = {}
    for pull in node.active.values():
        registry, rate = pull.state.registry, pull.bytes_per_second(now)
        if registry and rate > 0.0:
            rates[registry] = rates.get(registry, 0.0) + rate
    if len(rates) < 2:
        return None
    total, most = sum(rates.values()), 0.0
    for registry, rate in rates.items():
        pace = paces.of(node.name, registry, now)
        if pace is None or rate > pace.total / 2:
            return None
        most = max(most, pace.total)
    if total < FULL_LINE * most:
        return None
    sentence = "This node receives {nodeBytesPerSec} from several registries, close to its highest rate so far."
    return Moment(Factor.NETWORK, sentence, (), figures | {"nodeBytesPerSec": total, "bestBytesPerSec": most})


def _image(pull: Pull) -> str:
    """Return the image's repository without its registry, for use in a sentence."""
    return pull.state.repository or "another image"
