"""Run the Makefile's rules with stub scripts in place of Node, npm and Python."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.release.scripts import ROOT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the files that the Makefile's rules need. The ``bin`` subfolder will be the only directory on the
    PATH, and it does not contain npm.
    """
    (tmp_path / "web").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy2(ROOT / "Makefile", tmp_path)
    shutil.copy2(ROOT / "web" / "package-lock.json", tmp_path / "web")
    for name in ("make", "sh", "find", "mkdir", "touch", "rm", "cat"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "bin" / name).symlink_to(found)
    return tmp_path


def script(clone: Path, name: str, text: str) -> None:
    path = clone / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": str(clone / "bin")}
    environment.pop("MAKEFLAGS", None)
    return subprocess.run(
        [clone / "bin" / "make", *words], cwd=clone, env=environment, check=False, capture_output=True, text=True
    )


def install(clone: Path) -> str:
    done = run(clone, ".make/web")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_python_without_the_venv_module_is_reported_and_leaves_no_environment_behind(clone: Path) -> None:
    for name in ("pyproject.toml", "requirements/all.txt", "requirements/packaging.txt"):
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).touch()
    script(clone, "python", '[ "$1" = -c ] || { mkdir -p .venv/bin; touch .venv/bin/python; exit 1; }')
    done = run(clone, ".make/venv", "PYTHON=python")
    assert done.returncode != 0
    assert "apt-get install python3-venv" in done.stdout
    assert not (clone / ".venv").exists()


def test_make_uses_npm_as_soon_as_it_is_installed_and_a_second_run_does_nothing(clone: Path) -> None:
    output = install(clone)
    assert "npm with Node 20.19 or newer was not found" in output
    assert "the dashboard has no page" in output

    script(clone, "node", "exit 1")  # this version of Node is too old
    script(clone, "npm", f'echo "$@" >> {clone}/called')
    assert "was not found" in install(clone)
    assert not (clone / "called").exists()

    script(clone, "node", "exit 0")
    assert "building the dashboard" in install(clone)
    called = (clone / "called").read_text()
    assert [line.split()[0] for line in called.splitlines()] == ["ci", "run"]
    install(clone)
    assert (clone / "called").read_text() == called


@pytest.mark.parametrize(
    ("version", "fits"), [("18.19.1", False), ("20.18.3", False), ("20.19.0", True), ("24.1.0", True)]
)
def test_only_supported_versions_of_node_are_accepted(version: str, fits: bool) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here")
    text = (ROOT / "Makefile").read_text()
    program = text.split("node -e '", 1)[1].split("'", 1)[0].replace("process.versions.node", f"'{version}'")
    assert (subprocess.run([node, "-e", program], check=False).returncode == 0) is fits


def test_make_demo_checks_its_port_before_it_installs_anything(clone: Path) -> None:
    script(clone, "python", f'exec {sys.executable} "$@"')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(clone, "demo", f"PORT={port}", "PYTHON=python")
    assert done.returncode != 0
    assert f"port {port}: Address already in use; choose another one: make demo PORT=8090" in done.stdout
    assert "install:" not in done.stdout
    assert run(clone, "free-port", f"PORT={port}", "PYTHON=python").returncode == 0


def test_a_missing_or_outdated_python_is_reported_before_the_port_is_checked(clone: Path) -> None:
    for text in (None, "exit 1"):
        if text:
            script(clone, "python", text)
        done = run(clone, "demo", "PYTHON=python")
        assert done.returncode != 0
        assert "Pulltrace needs Python 3.11 or newer; set PYTHON=python3.x" in done.stdout
        assert "port" not in done.stdout


def test_the_output_of_vite_is_shown_only_if_the_build_fails(clone: Path) -> None:
    script(clone, "node", "exit 0")
    script(clone, "npm", 'echo "noise of $1"; [ "$1" = ci ] || exit 1')
    done = run(clone, ".make/web")
    assert done.returncode != 0
    assert "noise of run" in done.stdout
    script(clone, "npm", 'echo "noise of $1"')
    assert "noise of run" not in install(clone)
