"""What ``make install`` does about npm, with a Node and an npm that are scripts."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.release.scripts import ROOT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what the rules for the page need, and programs that are not npm."""
    (tmp_path / "web").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy2(ROOT / "Makefile", tmp_path)
    shutil.copy2(ROOT / "web" / "package-lock.json", tmp_path / "web")
    for name in ("make", "sh", "find", "mkdir", "touch", "rm"):
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


def test_a_python_without_venv_says_so_and_leaves_nothing_half_made(clone: Path) -> None:
    for name in ("pyproject.toml", "requirements/dev.txt"):
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).touch()
    script(clone, "python", '[ "$1" = -c ] || { mkdir -p .venv/bin; touch .venv/bin/python; exit 1; }')
    done = run(clone, ".make/venv", "PYTHON=python")
    assert done.returncode != 0
    assert "apt-get install python3-venv" in done.stdout
    assert not (clone / ".venv").exists()


def test_npm_that_comes_later_is_used_and_the_second_time_nothing_is_done(clone: Path) -> None:
    said = install(clone)
    assert "no npm with Node 20.19 or newer here" in said
    assert "its page is not built" in said

    script(clone, "node", "exit 1")  # one that is too old
    script(clone, "npm", f'echo "$@" >> {clone}/asked')
    assert "no npm" in install(clone)
    assert not (clone / "asked").exists()

    script(clone, "node", "exit 0")
    assert "building the page" in install(clone)
    asked = (clone / "asked").read_text()
    assert [line.split()[0] for line in asked.splitlines()] == ["ci", "run"]
    install(clone)
    assert (clone / "asked").read_text() == asked


@pytest.mark.parametrize(
    ("version", "fits"), [("18.19.1", False), ("20.18.3", False), ("20.19.0", True), ("24.1.0", True)]
)
def test_which_node_will_do(version: str, fits: bool) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here")
    text = (ROOT / "Makefile").read_text()
    program = text.split("node -e '", 1)[1].split("'", 1)[0].replace("process.versions.node", f"'{version}'")
    assert (subprocess.run([node, "-e", program], check=False).returncode == 0) is fits
