"""A wheel built from a clean clone contains the page. Installing the wheel for the agent or the server installs only
the libraries that this program needs.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.patience import PATIENCE
from tests.release.scripts import ROOT

BIN = Path(sys.executable).parent
UV = shutil.which("uv", path=str(BIN))
pytestmark = [
    pytest.mark.skipif(UV is None, reason="uv is not installed (it is in the dependency group lint)"),
    pytest.mark.skipif(not (ROOT / "web" / "node_modules").exists(), reason="web/node_modules is missing (needs npm)"),
]


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def hatchling(clone: Path, target: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Build a wheel or an sdist from a clone."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    return subprocess.run(
        command, cwd=clone, check=False, capture_output=True, text=True, env={**os.environ, **variables}
    )


def clean_clone(folder: Path) -> Path:
    """Return a clone of this repository in which the page has not been built."""
    run("git", "clone", "--quiet", "--no-hardlinks", ROOT, "clone", cwd=folder)
    return folder / "clone"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the repository in which the page has been built as in `make install` and the release workflow."""
    return build_page(clean_clone(tmp_path_factory.mktemp("clone")))


def build_page(clone: Path) -> Path:
    """Build the page in a clone. Use the npm packages that are already installed instead of running `npm ci`."""
    (clone / "web" / "node_modules").symlink_to(ROOT / "web" / "node_modules")
    run("npm", "run", "--silent", "build", cwd=clone / "web")
    return clone


@pytest.fixture(scope="module")
def wheel(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, which contains the page."""
    folder = tmp_path_factory.mktemp("wheel")
    done = hatchling(built, "wheel", folder)
    assert done.returncode == 0, done.stderr
    [found] = folder.glob("pulltrace-*.whl")
    return found


@pytest.mark.parametrize("target", ["wheel", "sdist"])
def test_a_package_without_the_page_is_built_only_on_request(tmp_path: Path, target: str) -> None:
    clone, made = clean_clone(tmp_path), tmp_path / "made"
    done = hatchling(clone, target, made)
    assert done.returncode != 0
    assert "the dashboard is not built" in done.stderr
    assert "make web" in done.stderr
    assert not made.exists() or list(made.iterdir()) == []
    assert hatchling(clone, target, made, BUILD_WITHOUT_DASHBOARD="1").returncode == 0
    assert len(list(made.iterdir())) == 1


def test_building_a_commit_twice_produces_identical_files(built: Path, wheel: Path, tmp_path: Path) -> None:
    another = build_page(clean_clone(tmp_path))
    first, second = (digests(clone / "pulltrace" / "server" / "static") for clone in (built, another))
    assert first
    assert second == first
    assert hatchling(another, "wheel", tmp_path / "again").returncode == 0
    [again] = (tmp_path / "again").iterdir()
    assert again.read_bytes() == wheel.read_bytes()
    for clone, name in ((built, "sdist"), (another, "other")):
        assert hatchling(clone, "sdist", tmp_path / name).returncode == 0
    [sdist] = (tmp_path / "sdist").iterdir()
    assert digests(tmp_path / "other") == digests(tmp_path / "sdist")
    run("tar", "--extract", "--file", sdist, cwd=tmp_path)
    assert hatchling(tmp_path / sdist.name.removesuffix(".tar.gz"), "wheel", tmp_path / "third").returncode == 0
    [third] = (tmp_path / "third").iterdir()
    assert contents(third) == contents(wheel)


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of each file in a folder, keyed by relative path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def contents(archive: Path) -> dict[str, bytes]:
    """Return the contents of each file in a wheel, keyed by name."""
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.mark.parametrize("command", ["agent", "server", "local", "demo"])
def test_a_command_whose_libraries_are_missing_prints_how_to_install_them(
    wheel: Path, tmp_path: Path, command: str
) -> None:
    python = environment(tmp_path, str(wheel))
    done = subprocess.run(
        [python, "-m", "pulltrace", command],
        env=os.environ | {"PULLTRACE_NODE_NAME": "node-1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert f"pulltrace {command}: the library " in done.stderr
    assert "pulltrace[all]" in done.stderr
    assert "Traceback" not in done.stderr


def environment(folder: Path, *wanted: str) -> Path:
    """Create an environment with these packages and return its Python interpreter. uv trusts the machine's
    certificates, as pip does.
    """
    run(UV, "venv", "--quiet", "--python", sys.executable, folder / "env", cwd=folder)
    python = folder / "env" / "bin" / "python"
    run(UV, "pip", "install", "--quiet", "--system-certs", "--python", python, *wanted, cwd=folder)
    return python


def test_the_wheel_contains_the_page_and_the_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "pulltrace/server/static/index.html" in names
    assert any(re.fullmatch(r"pulltrace/server/static/assets/.+\.js", name) for name in names)
    assert any(name.endswith(".woff2") for name in names)
    assert "pulltrace/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "web/", "charts/"))]


def test_the_demo_from_an_installed_wheel_serves_the_page(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path, f"{wheel}[all]")
    code = """if True:
        import re, subprocess, sys, urllib.request
        command = [sys.executable, "-m", "pulltrace", "demo", "--port=0"]
        demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            for line in demo.stdout:
                if found := re.search(r"dashboard is at (http://[^ /]+)", line):
                    break
            print(urllib.request.urlopen(found[1] + "/", timeout=180).read().decode())
        finally:
            demo.terminate()
            demo.wait(120)
    """
    assert '<div id="' in run(python, "-c", code, cwd=tmp_path)


@pytest.mark.parametrize(
    ("half", "foreign"),
    [
        ("agent", {"starlette", "uvicorn", "kubernetes-asyncio", "prometheus-client", "uvloop", "grpcio"}),
        ("server", {"grpcio", "hpack", "protobuf"}),
    ],
)
def test_the_agent_and_the_server_each_start_without_the_libraries_of_the_other_program(
    wheel: Path, tmp_path: Path, half: str, foreign: set[str]
) -> None:
    python = environment(tmp_path, f"{wheel}[{half}]")
    listing = json.loads(run(UV, "pip", "list", "--python", python, "--format", "json", cwd=tmp_path))
    assert not {package["name"] for package in listing} & foreign
    done = subprocess.run(
        [python, "-m", "pulltrace", half],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        env={"PULLTRACE_LOG_LEVEL": "loud"},
        timeout=PATIENCE,
    )
    assert done.returncode == 2, "the program must start and reject its configuration"
    assert "PULLTRACE_LOG_LEVEL='loud'" in done.stderr
