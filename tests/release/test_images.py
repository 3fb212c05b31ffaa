"""Tests for the images' root file systems. Here, the Dockerfiles' script assembles each file system from this machine's
Python and packages.

The released images contain a different Python (3.13, built with Debian's compiler flags) but are otherwise the same.
"""

import hashlib
import logging
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tests.release.scripts import PACKAGE, script

rootfs = script("rootfs")
CHROOT = shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin")
MEBIBYTE = 2**20
_log = logging.getLogger(__name__)
# The maximum size of each image when unpacked. The limit for the agent's image is lower, because every node pulls it.
BUDGET = {"agent": 40 * MEBIBYTE, "server": 72 * MEBIBYTE}


EXTRAS = {"agent": "agent", "server": "server|otel"}


def installed(name: str, extras: str | None = None) -> Iterator[str]:
    """Yield the name of a Python distribution and the names of its dependencies, except those that are not installed
    here.
    """
    try:
        wanted = distribution(name)
    except PackageNotFoundError:
        return
    yield wanted.metadata["Name"]
    for requirement in wanted.requires or []:
        wanted, _, marker = requirement.partition(";")
        if "extra ==" in marker and (extras is None or not re.search(rf"extra == ['\"]({extras})['\"]", marker)):
            continue
        yield from installed(re.split(r"[^\w.-]", wanted.strip(), maxsplit=1)[0])


def site(folder: Path, half: str) -> Path:
    """Copy the packages that an image needs into a folder, as ``pip install --target`` does."""
    shutil.copytree(PACKAGE, folder / "pulltrace", ignore=shutil.ignore_patterns("__pycache__", "demo"))
    shutil.rmtree(folder / "pulltrace" / ("server" if half == "agent" else "agent"), ignore_errors=True)
    for name in sorted(set(installed("pulltrace", EXTRAS[half])) - {"pulltrace"}):
        for file in distribution(name).files or []:
            if file.suffix != ".pyc" and ".." not in file.parts:
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(str(file.locate()), target)
    return folder


@pytest.fixture(scope="module", params=["agent", "server"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of an image (``agent`` or ``server``), and the image's root file system."""
    for tool in ("strip", "ldd", "dpkg-query"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here (Debian's binutils, libc-bin, dpkg)")
    folder = tmp_path_factory.mktemp(request.param)
    rootfs.assemble(site(folder / "site", request.param), folder / "root")
    return request.param, folder / "root"


def inside(root: Path, *command: str) -> str:
    if os.geteuid() != 0 or CHROOT is None:
        pytest.skip("chroot needs root")
    # If this Python was built with an rpath, LD_LIBRARY_PATH is needed, because the image has Python's library
    # elsewhere. The Python in the released images has a relative rpath.
    environment = {"LD_LIBRARY_PATH": "/usr/local/lib", "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
    done = subprocess.run(
        [CHROOT, "--userspec=65532:65532", root, "/usr/local/bin/python3", *command],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_image_runs_unprivileged_and_needs_only_its_own_files(image: tuple[str, Path]) -> None:
    half, root = image
    assert inside(root, "-m", "pulltrace", "--version").startswith("pulltrace ")
    libraries = {
        "agent": "h11, hpack, google.protobuf.message, msgspec",
        "server": "uvicorn, uvloop, httptools, starlette, kubernetes_asyncio.watch, pulltrace.server.traces",
    }
    code = f"import ssl, {libraries[half]}; print(len(ssl.create_default_context().get_ca_certs()))"
    assert int(inside(root, "-c", code)) > 50


def test_every_module_that_an_image_needs_can_be_imported(image: tuple[str, Path]) -> None:
    half, root = image
    code = f"""if True:
        import importlib, pkgutil, pulltrace.{half} as half
        modules = [module.name for module in pkgutil.walk_packages(half.__path__, "pulltrace.{half}.")]
        for name in modules:
            importlib.import_module(name)
        print(len(modules))
    """
    assert int(inside(root, "-c", code)) > 5


def test_an_image_contains_no_shell_no_installer_and_no_code_of_the_other_program(image: tuple[str, Path]) -> None:
    half, root = image
    names = {path.name for path in root.rglob("*")}
    assert not names & {"sh", "bash", "dash", "busybox", "pip", "apt", "gcc", "curl"}
    packages = {path.name for path in (root / "usr/local/lib").glob("python*/site-packages/*")}
    foreign = {"agent": {"kubernetes_asyncio", "starlette", "uvicorn", "opentelemetry"}, "server": {"hpack"}}
    assert not packages & {"grpc", *foreign[half]}


def test_third_party_packages_are_shipped_as_bytecode_and_scanners_can_identify_the_debian_packages(
    image: tuple[str, Path],
) -> None:
    _, root = image
    [library] = (root / "usr/local/lib").glob("python3.*")
    theirs = [path for path in library.rglob("*.py") if "pulltrace" not in path.parts]
    assert [path for path in theirs if path.with_suffix(".pyc").exists()] == []
    assert len(theirs) < 5  # a few files, such as templates, are not valid Python
    known = {path.name for path in (root / "var/lib/dpkg/status.d").iterdir()}
    assert {"libc6"} <= known
    assert any(name.startswith("libssl") for name in known)


def test_a_rebuild_in_a_different_directory_produces_identical_files(image: tuple[str, Path], tmp_path: Path) -> None:
    half, root = image
    rootfs.assemble(site(tmp_path / "site", half), tmp_path / "root")
    assert contents(tmp_path / "root") == contents(root)


def contents(root: Path) -> dict[Path, bytes]:
    """Return the digest of each file below a directory, keyed by relative path."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(root): hashlib.sha256(path.read_bytes()).digest() for path in files}


def test_each_image_stays_within_its_size_budget(image: tuple[str, Path], tmp_path: Path) -> None:
    half, root = image
    size = rootfs.size(root)
    with tarfile.open(tmp_path / "layer.tar.gz", "w:gz", compresslevel=6) as layer:
        layer.add(root, arcname=".")
    packed = (tmp_path / "layer.tar.gz").stat().st_size
    # docs/images.md contains these figures; pytest prints them with --log-cli-level=info.
    _log.info("%s: %.1f MiB unpacked, %.1f MiB to pull", half, size / MEBIBYTE, packed / MEBIBYTE)
    assert size < BUDGET[half]
