"""Tests for the node's load, which the agent derives from the kernel's counters."""

import os
from pathlib import Path

import pytest

from pulltrace.agent.pressure import Pressure

PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
DISKS = """\
   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
   1       0 ram0 9 0 9 0 9 0 9999999 0 0 9999 0 0 0 0 0 0 0
 259       0 nvme0n1 100 0 {read} 0 200 0 {written} 0 0 {busy} 0 0 0 0 0 0 0
 259       1 nvme0n1p1 100 0 0 0 200 0 0 0 0 10 0 0 0 0 0 0 0
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "pressure").mkdir()
    return tmp_path


def write(proc: Path, *, io: int = 0, cpu: int = 0, memory: int = 0, **disk: int) -> None:
    """Write files like those in ``/proc``. Pressures are in microseconds. ``disk`` contains the number of sectors read
    and written, and for how many milliseconds the disk was busy.
    """
    for name, total in (("io", io), ("cpu", cpu), ("memory", memory)):
        (proc / "pressure" / name).write_text(PRESSURE.format(total))
    (proc / "diskstats").write_text(DISKS.format(**({"read": 0, "written": 0, "busy": 0} | disk)))


def test_the_load_is_derived_from_the_difference_between_two_measurements(proc: Path) -> None:
    pressure = Pressure(str(proc))
    write(proc, io=5_000_000, cpu=1_000_000, busy=70_000)
    assert pressure.measure(100.0, pulling=True) is None
    write(proc, io=6_000_000, cpu=1_500_000, memory=20_000, read=2048, written=4096, busy=71_840)
    load = pressure.measure(102.0, pulling=True)
    assert load is not None
    assert (load.seconds, load.io_pressure, load.cpu_pressure, load.memory_pressure) == (2.0, 50.0, 25.0, 1.0)
    assert (load.disk, load.disk_busy) == ("nvme0n1", 92.0)
    assert (load.disk_read_per_sec, load.disk_written_per_sec) == (512 * 1024, 1024 * 1024)


def test_the_agent_does_not_read_any_counters_while_the_node_is_idle(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(proc)
    pressure = Pressure(str(proc))
    monkeypatch.setattr(pressure, "_contents", lambda name: pytest.fail(f"{name} was read"))
    assert pressure.measure(1.0, pulling=False) is None


def test_the_load_between_two_pulls_is_not_measured(proc: Path) -> None:
    pressure = Pressure(str(proc))
    write(proc)
    pressure.measure(1.0, pulling=True)
    assert pressure.measure(2.0, pulling=True)
    pressure.measure(3.0, pulling=False)
    assert pressure.measure(4.0, pulling=True) is None
    assert pressure.measure(5.0, pulling=True)


def test_only_the_values_from_an_unreadable_file_are_unknown(proc: Path) -> None:
    pressure = Pressure(str(proc))
    write(proc)
    for name in ("io", "memory"):
        (proc / "pressure" / name).unlink()
    (proc / "diskstats").unlink()
    pressure.measure(1.0, pulling=True)
    load = pressure.measure(2.0, pulling=True)
    assert load is not None
    assert (load.io_pressure, load.cpu_pressure, load.disk, load.disk_busy) == (None, 0.0, "", None)


def test_disk_statistics_are_read_completely_no_matter_how_many_disks_there_are(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single read of a file in /proc returns at most 4 KiB."""
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, at: pread(file, min(size, 4096), at))
    pressure = Pressure(str(proc))
    quiet = "".join(f"   8 {number} sd{number} 1 0 0 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n" for number in range(300))
    for busy in (1000, 1700):
        write(proc)
        (proc / "diskstats").write_text(quiet + DISKS.format(read=0, written=0, busy=busy))
        load = pressure.measure(busy / 1000, pulling=True)
    assert load is not None
    assert (load.disk, load.disk_busy) == ("nvme0n1", 100.0)


def test_the_agent_does_not_keep_any_files_open_while_the_node_is_idle(proc: Path) -> None:
    write(proc)
    before = set(Path("/proc/self/fd").iterdir())
    pressure = Pressure(str(proc))
    pressure.measure(1.0, pulling=True)
    pressure.measure(2.0, pulling=True)
    assert len(set(Path("/proc/self/fd").iterdir()) - before) == 4
    pressure.measure(3.0, pulling=False)
    assert set(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("text", ["", "garbage", "259 0 sda 1 2", "259 0 sda a b c d e f g h i j k", "\x00" * 100])
def test_values_are_unknown_if_the_file_they_are_read_from_has_an_unexpected_format(proc: Path, text: str) -> None:
    for name in ("diskstats", "pressure/io", "pressure/cpu", "pressure/memory"):
        (proc / name).write_text(text)
    pressure = Pressure(str(proc))
    pressure.measure(1.0, pulling=True)
    load = pressure.measure(2.0, pulling=True)
    assert load is not None
    assert (load.io_pressure, load.cpu_pressure, load.memory_pressure, load.disk_busy) == (None, None, None, None)


def test_decreasing_counters_never_produce_a_negative_load(proc: Path) -> None:
    pressure = Pressure(str(proc))
    write(proc, io=9_000_000, busy=9_000, written=9_000)
    pressure.measure(1.0, pulling=True)
    write(proc, io=1_000_000, busy=1_000, written=1_000)
    load = pressure.measure(2.0, pulling=True)
    assert load is not None
    assert load.io_pressure == 0.0
    assert (load.disk_busy, load.disk_written_per_sec) == (0.0, 0.0)
