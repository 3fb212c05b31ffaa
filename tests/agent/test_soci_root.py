"""Tests that the agent reads SOCI's root directory only if it has the expected layout, and only within fixed limits."""

import logging
import os
import tempfile
from pathlib import Path

import pytest

from pulltrace.agent import soci_root
from pulltrace.agent.containerd import Containerd
from pulltrace.agent.poller import Poller
from pulltrace.agent.soci_root import SociRoot
from pulltrace.demo.grpc_server import SimulatedContainerd
from pulltrace.demo.snapshotter import Mode

DIGEST = "sha256:" + "a" * 64
MIB = 1 << 20


@pytest.fixture
def layer(tmp_path):
    """Return a function that creates a directory with a partly written layer."""

    def layer(written, size=8 * MIB, name=DIGEST, folder="x1y2"):
        (tmp_path / "unpack" / folder / "fs").mkdir(parents=True)
        path = tmp_path / "unpack" / folder / name
        with path.open("wb") as file:
            file.truncate(size)
            file.write(os.urandom(written))
            os.fsync(file.fileno())
        return path

    return layer


def test_the_allocated_blocks_of_a_file_are_counted_rather_than_its_size(tmp_path, layer):
    layer(3 * MIB)
    (received,) = SociRoot(str(tmp_path)).received().values()
    assert 3 * MIB <= received < 3 * MIB + 64 * 1024


def test_the_size_of_a_complete_layer_is_exact(tmp_path, layer):
    layer(5_000_001, size=5_000_001)
    assert SociRoot(str(tmp_path)).received() == {DIGEST: 5_000_001}


def test_a_file_name_may_be_a_digest_without_its_algorithm(tmp_path, layer):
    layer(MIB, size=MIB, name="a" * 64)
    assert SociRoot(str(tmp_path)).received() == {DIGEST: MIB}


def test_no_layers_are_read_from_an_empty_directory(tmp_path):
    (tmp_path / "unpack").mkdir()
    assert SociRoot(str(tmp_path)).received() == {}


@pytest.mark.parametrize("kind", ["missing", "file", "unknown name", "symbolic link"])
def test_a_directory_with_an_unexpected_layout_is_logged_once_and_not_read(tmp_path, layer, kind, caplog):
    if kind == "file":
        (tmp_path / "unpack").mkdir()
        (tmp_path / "unpack" / "x").write_text("")
    elif kind == "unknown name":
        layer(MIB, name="snapshot.db")
    elif kind == "symbolic link":
        (tmp_path / "unpack" / "x").mkdir(parents=True)
        (tmp_path / "unpack" / "x" / DIGEST).symlink_to("/etc/hostname")
    root = SociRoot(str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert [root.received() for _ in range(3)] == [None] * 3
    assert [record.message for record in caplog.records] == ["SOCI's root directory is not usable"]


def test_the_number_of_examined_layers_is_limited(tmp_path, layer, monkeypatch):
    monkeypatch.setattr(soci_root, "MAX_LAYERS", 3)
    for number in range(9):
        layer(1, name=f"sha256:{number:064x}", folder=str(number))
    assert len(SociRoot(str(tmp_path)).received()) == 3


async def test_the_files_of_soci_are_read_as_soon_as_the_layers_of_the_image_are_known(
    tmp_path, layer, start_simulated, push
):
    node = start_simulated(snapshotter="soci", mode=Mode.PARALLEL)
    ref, image = push("app:1", ("base", 100), ("top", 300))
    digests = [item.blob.digest for item in image.layers]
    layer(3 * MIB, name=digests[0])
    with tempfile.TemporaryDirectory(prefix="pulltrace-") as folder:
        socket = Path(folder) / "containerd.sock"
        async with SimulatedContainerd(node, socket), Containerd(str(socket)) as client:
            poller = Poller(client, SociRoot(str(tmp_path)))
            await poller.poll(node.now)
            node.pull(ref)
            while not any(pull.total_known for pull in poller.tracker.pulls()):
                node.advance(0.1)
                await poller.poll(node.now)
            (pull,) = poller.tracker.pulls()
    assert [layer.digest for layer in pull.layers] == digests
    assert {layer.fetched_by for layer in pull.layers} == {None}
    assert pull.layers[0].downloaded_bytes >= 3 * MIB
