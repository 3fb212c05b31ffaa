"""A control group for a kubelet's pods. In cgroup v1, the group exists in several hierarchies; cgroup v2 has only one
hierarchy.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_V2 = (_ROOT / "cgroup.controllers").exists()
_NEEDED = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")


def _hierarchies() -> list[Path]:
    return [_ROOT] if _V2 else [path for path in _ROOT.iterdir() if path.is_dir() and not path.is_symlink()]


def make(name: str) -> None:
    """Create the control group in which the kubelet creates a group for each pod."""
    if _V2:
        known = (_ROOT / "cgroup.controllers").read_text().split()
        enable = " ".join(f"+{each}" for each in _NEEDED if each in known)
        (_ROOT / "cgroup.subtree_control").write_text(enable)
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir()
        # In cgroup v1, a new cpuset is empty: its processors and memory must be set.
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if not _V2 and (group / setting).exists():
                (group / setting).write_text((hierarchy / setting).read_text())


def remove(name: str) -> None:
    """Remove a control group and all groups below it. All processes in these groups must have exited."""
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / name, topdown=False):
            with suppress(FileNotFoundError):
                Path(folder).rmdir()
