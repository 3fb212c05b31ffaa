"""Tests for finding the mirrors that containerd is configured to use."""

import pytest

from pulltrace.agent.registry_hosts import MAX_FILE, MAX_MIRRORS, RegistryHosts, mirrors_in
from pulltrace.wire import PullState

TWO = b"""
server = "https://registry-1.docker.io"

[host."http://127.0.0.1:5000"]
  capabilities = ["pull", "resolve"]
[host."https://cache.example.com/v2/docker"]
[host."https://push.example.com"]
  capabilities = ["push"]
[host."https://registry-1.docker.io"]
  capabilities = ["pull"]
"""


@pytest.fixture
def folder(tmp_path):
    def write(name, text):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hosts.toml").write_bytes(text)

    write("docker.io", TWO)
    write("_default", b'[host."http://mirror.internal:80"]\n')
    return str(tmp_path)


def test_mirrors_keep_the_order_in_which_the_file_lists_them(folder):
    hosts = RegistryHosts(folder)
    assert hosts.of("docker.io") == ["http://127.0.0.1:5000", "https://cache.example.com/v2/docker"]
    assert hosts.of("quay.io") == ["http://mirror.internal:80"]


def test_a_pull_is_reported_with_the_mirrors_of_its_registry(folder):
    pulls = [PullState(id="a", registry="docker.io"), PullState(id="b")]
    known, unknown = RegistryHosts(folder).complete(pulls)
    assert known.via == ["http://127.0.0.1:5000", "https://cache.example.com/v2/docker"]
    assert unknown.via is None
    assert RegistryHosts(None).complete(pulls) == pulls


def test_a_registry_has_no_mirrors_if_the_folder_does_not_exist(tmp_path):
    assert RegistryHosts(str(tmp_path / "absent")).of("docker.io") == []


def test_files_outside_the_mirror_folder_are_not_read(tmp_path, folder):
    (tmp_path / "hosts.toml").write_bytes(TWO)
    hosts = RegistryHosts(f"{folder}/docker.io")
    assert [hosts.of(name) for name in ("..", "../_default", "", "/", ".", "a/../..")] == [[]] * 6


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not toml",
        b"\xff\xfe",
        b"host = 3",
        b'host = ["a"]',
        b'[host."http://a"]\ncapabilities = "pull"',
        b'[host."http://[a"]\ncapabilities = ["resolve"]',
        b"#" * (MAX_FILE + 1) + TWO,
    ],
)
def test_no_mirrors_are_read_from_an_invalid_file(text):
    assert mirrors_in(text, "docker.io") == []


def test_the_number_of_mirrors_is_limited():
    text = "".join(f'[host."http://m{number}"]\n' for number in range(MAX_MIRRORS + 5)).encode()
    assert len(mirrors_in(text, "docker.io")) == MAX_MIRRORS
