"""The wheel, built from a clean clone and installed alone: it carries the page, and each half only what it needs."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.release.scripts import ROOT

BIN = Path(sys.executable).parent
UV = shutil.which("uv", path=str(BIN))
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(UV is None, reason="uv is not installed (it is among the tools of lint)"),
    pytest.mark.skipif(
        not (ROOT / "web" / "node_modules").exists(), reason="web/node_modules is not there (needs npm)"
    ),
]


def run(*command: object, cwd: Path) -> str:
    said = subprocess.run([str(word) for word in command], cwd=cwd, check=False, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make install` and the release do: the page first, then the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    run("git", "clone", "--quiet", "--no-hardlinks", ROOT, "clone", cwd=folder)
    clone = folder / "clone"
    # What `npm ci` would put there; the packages are those of the lock file already.
    (clone / "web" / "node_modules").symlink_to(ROOT / "web" / "node_modules")
    run("npm", "run", "--silent", "build", cwd=clone / "web")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=clone)
    [built] = folder.glob("pulltrace-*.whl")
    return built


def environment(folder: Path, *wanted: str) -> Path:
    """A fresh environment with the wanted packages; answers its Python."""
    run(UV, "venv", "--quiet", "--python", sys.executable, folder / "env", cwd=folder)
    python = folder / "env" / "bin" / "python"
    run(UV, "pip", "install", "--quiet", "--python", python, *wanted, cwd=folder)
    return python


def test_it_carries_the_built_page_and_its_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "pulltrace/server/static/index.html" in names
    assert any(re.fullmatch(r"pulltrace/server/static/assets/.+\.js", name) for name in names)
    assert any(name.endswith(".woff2") for name in names)
    assert "pulltrace/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "web/", "charts/"))]


def test_installed_alone_the_demo_serves_the_page(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path, f"{wheel}[all]")
    code = """if True:
        import re, subprocess, sys, urllib.request
        command = [sys.executable, "-m", "pulltrace", "demo", "--port=0"]
        demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            for line in demo.stdout:
                if found := re.search(r"dashboard is at (http://[^ /]+)", line):
                    break
            print(urllib.request.urlopen(found[1] + "/", timeout=10).read().decode())
        finally:
            demo.terminate()
            demo.wait(10)
    """
    assert '<div id="' in run(python, "-c", code, cwd=tmp_path)


@pytest.mark.parametrize(
    ("half", "foreign"),
    [
        ("agent", {"starlette", "uvicorn", "kubernetes-asyncio", "prometheus-client", "uvloop", "grpcio"}),
        ("server", {"grpcio", "h2", "protobuf"}),
    ],
)
def test_a_half_installs_nothing_of_the_other_and_starts(
    wheel: Path, tmp_path: Path, half: str, foreign: set[str]
) -> None:
    python = environment(tmp_path, f"{wheel}[{half}]")
    listing = json.loads(run(UV, "pip", "list", "--python", python, "--format", "json", cwd=tmp_path))
    assert not {package["name"] for package in listing} & foreign
    said = subprocess.run(
        [python, "-m", "pulltrace", half],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        env={"PULLTRACE_LOG_LEVEL": "loud"},
        timeout=30,
    )
    assert said.returncode == 2, "it got as far as reading its configuration"
    assert "PULLTRACE_LOG_LEVEL='loud'" in said.stderr
