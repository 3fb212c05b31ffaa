"""The images' root file systems, assembled by the script the Dockerfiles run, from this machine's Python and packages.

Their Python is another one (3.13, Debian's compiler flags); what is in them and what is not is the same.
"""

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

import pulltrace
from tests.release.scripts import script

rootfs = script("rootfs")
CHROOT = shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin")
MEBIBYTE = 2**20
_log = logging.getLogger(__name__)
# What an image may grow to, unpacked. The agent's is pulled by every node.
BUDGET = {"agent": 40 * MEBIBYTE, "server": 72 * MEBIBYTE}


def installed(name: str, extra: str | None = None) -> Iterator[str]:
    """The distributions ``name`` needs, itself among them, as they are installed here."""
    try:
        wanted = distribution(name)
    except PackageNotFoundError:
        return
    yield wanted.metadata["Name"]
    for requirement in wanted.requires or []:
        asked, _, marker = requirement.partition(";")
        if "extra ==" in marker and (extra is None or not re.search(rf"extra == ['\"]{extra}['\"]", marker)):
            continue
        yield from installed(re.split(r"[^\w.-]", asked.strip(), maxsplit=1)[0])


def site(folder: Path, half: str) -> Path:
    """What ``pip install --target`` would have made."""
    source = Path(pulltrace.__file__).parent
    shutil.copytree(source, folder / "pulltrace", ignore=shutil.ignore_patterns("__pycache__", "demo"))
    shutil.rmtree(folder / "pulltrace" / ("server" if half == "agent" else "agent"), ignore_errors=True)
    for name in sorted(set(installed("pulltrace", half)) - {"pulltrace"}):
        for file in distribution(name).files or []:
            if file.suffix != ".pyc" and ".." not in file.parts:
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(str(file.locate()), target)
    return folder


@pytest.fixture(scope="module", params=["agent", "server"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The half's name and its assembled root."""
    for tool in ("strip", "ldd", "dpkg-query"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here (Debian's binutils, libc-bin, dpkg)")
    folder = tmp_path_factory.mktemp(request.param)
    rootfs.assemble(site(folder / "site", request.param), folder / "root")
    return request.param, folder / "root"


def inside(root: Path, *command: str) -> str:
    if os.geteuid() != 0 or CHROOT is None:
        pytest.skip("chroot needs root")
    # A Python built with an rpath of its own finds its library there; Debian's image has one relative to itself.
    environment = {"LD_LIBRARY_PATH": "/usr/local/lib", "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
    said = subprocess.run(
        [CHROOT, "--userspec=65532:65532", root, "/usr/local/bin/python3", *command],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert said.returncode == 0, said.stderr
    return said.stdout


def test_it_starts_as_nobody_with_nothing_else_around(image: tuple[str, Path]) -> None:
    half, root = image
    assert inside(root, "-m", "pulltrace", "--version").startswith("pulltrace ")
    libraries = {
        "agent": "h11, h2.connection, google.protobuf.message, msgspec",
        "server": "uvicorn, uvloop, httptools, starlette",
    }
    code = f"import ssl, {libraries[half]}; print(len(ssl.create_default_context().get_ca_certs()))"
    assert int(inside(root, "-c", code)) > 50


def test_every_module_of_its_half_finds_all_it_imports(image: tuple[str, Path]) -> None:
    half, root = image
    code = f"""if True:
        import importlib, pkgutil, pulltrace.{half} as half
        modules = [module.name for module in pkgutil.walk_packages(half.__path__, "pulltrace.{half}.")]
        for name in modules:
            importlib.import_module(name)
        print(len(modules))
    """
    assert int(inside(root, "-c", code)) > 5


def test_it_has_no_shell_no_installer_and_nothing_of_the_other_half(image: tuple[str, Path]) -> None:
    half, root = image
    names = {path.name for path in root.rglob("*")}
    assert not names & {"sh", "bash", "dash", "busybox", "pip", "apt", "gcc", "curl"}
    packages = {path.name for path in (root / "usr/local/lib").glob("python*/site-packages/*")}
    foreign = {"agent": {"kubernetes_asyncio", "starlette", "uvicorn"}, "server": {"h2", "google"}}
    assert not packages & {"grpc", *foreign[half]}


def test_third_parties_are_bytecode_and_scanners_find_debians_packages(image: tuple[str, Path]) -> None:
    _, root = image
    [library] = (root / "usr/local/lib").glob("python3.*")
    theirs = [path for path in library.rglob("*.py") if "pulltrace" not in path.parts]
    assert [path for path in theirs if path.with_suffix(".pyc").exists()] == []
    assert len(theirs) < 5  # templates that are no Python
    known = {path.name for path in (root / "var/lib/dpkg/status.d").iterdir()}
    assert {"libc6"} <= known
    assert any(name.startswith("libssl") for name in known)


def test_it_keeps_to_its_budget(image: tuple[str, Path], tmp_path: Path) -> None:
    half, root = image
    size = rootfs.size(root)
    with tarfile.open(tmp_path / "layer.tar.gz", "w:gz", compresslevel=6) as layer:
        layer.add(root, arcname=".")
    packed = (tmp_path / "layer.tar.gz").stat().st_size
    # docs/images.md has these; --log-cli-level=info shows them.
    _log.info("%s: %.1f MiB unpacked, %.1f MiB to pull", half, size / MEBIBYTE, packed / MEBIBYTE)
    assert size < BUDGET[half]
