"""Real limits for a containerd process: a slow disk and too little CPU time. Both limits require root and cgroup v1."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
_BLKIO = CGROUPS / "blkio" / "blkio.throttle.write_bps_device"
_CPU = CGROUPS / "cpu"


class UnavailableError(Exception):
    """The limit cannot be applied on this machine."""


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def slow_disk(bytes_per_second: int, size: int = 2 << 30) -> Iterator[Path]:
    """Mount a file system on a disk with a limited write speed. A disk counts as busy while it is being written to.

    The disk is a loop device on top of a second loop device. The kernel limits how fast the second device can be
    written. A request to the first device remains in progress until the second device has accepted it.
    """
    if not _BLKIO.exists():
        raise UnavailableError("no blkio controller of cgroup v1 for the whole machine")
    with tempfile.TemporaryDirectory(prefix="pulltrace-") as folder, ExitStack() as cleanup:
        image, mount = Path(folder) / "disk.img", Path(folder) / "disk"
        with image.open("wb") as file:
            file.truncate(size)
        mount.mkdir()
        _run("mkfs.ext4", "-q", "-F", image)
        lower = _run("losetup", "--find", "--show", image)
        cleanup.callback(_run, "losetup", "--detach", lower)
        upper = _run("losetup", "--find", "--show", "--direct-io=on", lower)
        cleanup.callback(_run, "losetup", "--detach", upper)
        _run("mount", upper, mount)
        cleanup.callback(_run, "umount", mount)
        number = Path(lower).stat().st_rdev
        device = f"{os.major(number)}:{os.minor(number)}"
        _BLKIO.write_text(f"{device} {bytes_per_second}\n")
        cleanup.callback(_BLKIO.write_text, f"{device} 0\n")
        yield mount


@contextmanager
def starved_cpu(pid: int, percent: int) -> Iterator[None]:
    """Limit a process and its children to a percentage of a single CPU."""
    group = _CPU / f"pulltrace-test-{pid}"
    if not (_CPU / "cpu.cfs_quota_us").exists() and not (_CPU / "tasks").exists():
        raise UnavailableError("no cpu controller of cgroup v1")
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text(str(1000 * percent))
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for member in (group / "cgroup.procs").read_text().split():
            (_CPU / "cgroup.procs").write_text(member)
        group.rmdir()
