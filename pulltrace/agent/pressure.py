"""Use ``/proc`` to measure how busy the node is, but only while it is pulling images.

The kernel exposes pressure stall information (https://docs.kernel.org/accounting/psi.html) and disk statistics
(https://docs.kernel.org/admin-guide/iostats.html) for the whole host. A container can read both kinds of statistics
without privileges. If a file cannot be read, the values that come from it are unknown.
"""

import os
import re
from typing import NamedTuple

from pulltrace.wire import NodeLoad

_RESOURCES = ("io", "cpu", "memory")
_MOST = 64 << 10  # maximum bytes to read from a file: enough for the statistics of several hundred disks
_STALL = re.compile(rb"^some .*total=(\d+)", re.MULTILINE)
_SECTOR = 512  # bytes per sector in /proc/diskstats, regardless of the disk's own sector size
_SKIPPED = re.compile(rb"(ram|zram|sr|fd)\d")  # devices that never store unpacked images
_LATEST = 10.0  # maximum seconds between two readings; a longer average would not show the current load


class _Disk(NamedTuple):
    """A disk's counters since boot: bytes read and written, and seconds during which at least one request was in
    progress.
    """

    read: int
    written: int
    busy: float


class Pressure:
    """Derives the load from pairs of consecutive readings. Readings are taken only while the node is pulling images."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        self._at: float | None = None
        self._stalls: dict[str, int] = {}
        self._disks: dict[str, _Disk] = {}
        self._files: dict[str, int] = {}  # file descriptors by name, open only while the node is pulling images

    def measure(self, now: float, *, pulling: bool) -> NodeLoad | None:
        """Return the load since the last call; None if the node is not pulling or has just started pulling, or if the
        last call was too long ago. ``now`` is monotonic time.
        """
        if not pulling:
            self._at = None
            self._close()
            return None
        stalls = {name: total for name in _RESOURCES if (total := self._stall(name)) is not None}
        disks = parse_disks(self._contents("diskstats"))
        at, self._at = self._at, now
        before, self._stalls = self._stalls, stalls
        disks_before, self._disks = self._disks, disks
        if at is None or not 0.0 < now - at <= _LATEST:
            return None
        seconds = now - at
        percent = {
            name: round(min(max((total - before[name]) / (seconds * 1e4), 0.0), 100.0), 1)
            for name, total in stalls.items()
            if name in before
        }
        changes = [
            (disk.busy - old.busy, name, disk, old) for name, disk in disks.items() if (old := disks_before.get(name))
        ]
        busy, name, disk, old = max(changes, default=(0.0, "", _Disk(0, 0, 0.0), _Disk(0, 0, 0.0)))
        return NodeLoad(
            seconds=round(seconds, 3),
            io_pressure=percent.get("io"),
            cpu_pressure=percent.get("cpu"),
            memory_pressure=percent.get("memory"),
            disk=name,
            disk_busy=round(min(max(100 * busy / seconds, 0.0), 100.0), 1) if name else None,
            disk_read_per_sec=round(max(disk.read - old.read, 0) / seconds, 1) if name else None,
            disk_written_per_sec=round(max(disk.written - old.written, 0) / seconds, 1) if name else None,
        )

    def _stall(self, resource: str) -> int | None:
        """Return the number of microseconds since boot during which at least one task was waiting for the resource."""
        found = _STALL.search(self._contents(f"pressure/{resource}"))
        return int(found[1]) if found else None

    def _contents(self, name: str) -> bytes:
        contents = b""
        try:
            if name not in self._files:
                self._files[name] = os.open(f"{self._proc}/{name}", os.O_RDONLY)
            # The kernel returns at most one page per read.
            while len(contents) < _MOST and (more := os.pread(self._files[name], _MOST, len(contents))):
                contents += more
        except OSError:
            return b""
        return contents

    def _close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()


def parse_disks(text: bytes) -> dict[str, _Disk]:
    """Parse ``/proc/diskstats``, omitting disks that have not handled any request."""
    disks = {}
    for line in text.splitlines():
        columns = line.split()
        if len(columns) < 14 or _SKIPPED.match(columns[2]) or not all(map(bytes.isdigit, columns[3:14])):
            continue
        if columns[3] == columns[7] == b"0":
            continue
        name = columns[2].decode(errors="replace")
        disks[name] = _Disk(int(columns[5]) * _SECTOR, int(columns[9]) * _SECTOR, int(columns[12]) / 1000)
    return disks
