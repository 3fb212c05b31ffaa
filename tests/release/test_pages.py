"""Publish releases as the workflow does, but to a temporary repository's Pages branch and a local OCI registry."""

import hashlib
import re
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.patience import PATIENCE
from tests.real.process import free_port
from tests.release.scripts import ROOT, script

helm_library = pytest.importorskip("helm_python.chart", reason="helm-python-sdk is not installed")
pages = script("pages")
packaging = script("package_chart")

URL = "https://d44b.github.io/pulltrace/charts"


def run(*command: object, cwd: Path) -> str:
    return subprocess.run([str(word) for word in command], cwd=cwd, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of a bare repository that has one commit, but no Pages branch yet."""
    run("git", "init", "--quiet", "--bare", "--initial-branch=main", "origin.git", cwd=tmp_path)
    run("git", "clone", "--quiet", "origin.git", "clone", cwd=tmp_path)
    folder = tmp_path / "clone"
    run("git", "config", "user.name", "release", cwd=folder)
    run("git", "config", "user.email", "release@example.org", cwd=folder)
    (folder / "README.md").write_text("sources\n")
    run("git", "add", "--all", cwd=folder)
    run("git", "commit", "--quiet", "--message", "sources", cwd=folder)
    run("git", "push", "--quiet", "origin", "HEAD:main", cwd=folder)
    return folder


@pytest.fixture
def package(helm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that packages this repository's chart as a given version."""

    def make(version: str, repository: str = "d44b/pulltrace", **digests: str) -> Path:
        copy = tmp_path / f"source-{version}" / "pulltrace"
        shutil.copytree(ROOT / "charts" / "pulltrace", copy)
        about = copy / "Chart.yaml"
        text = re.sub(r"^(version: ).*$", rf"\g<1>{version}", about.read_text(), flags=re.MULTILINE)
        about.write_text(re.sub(r"^(appVersion: ).*$", rf'\g<1>"{version}"', text, flags=re.MULTILINE))
        monkeypatch.setattr(packaging, "CHART", copy)
        archive: Path = packaging.package(tmp_path, repository, digests)
        return archive

    return make


def branch(clone: Path, path: str) -> bytes:
    """Return the contents of a file on the published branch."""
    origin = clone.parent / "origin.git"
    return subprocess.run(["git", "show", f"gh-pages:{path}"], cwd=origin, check=True, capture_output=True).stdout


def site(folder: Path, text: str) -> Path:
    made = folder / f"site-{text}"
    (made / "installation").mkdir(parents=True)
    (made / "index.html").write_text(text)
    (made / "installation" / "index.html").write_text(f"install {text}")
    return made


def test_nothing_is_lost_when_three_releases_and_two_versions_of_the_docs_are_published(
    clone: Path, package, monkeypatch
) -> None:
    monkeypatch.chdir(clone)
    assert pages.main(["docs", str(site(clone.parent, "first"))]) == 0
    archives = {}
    for version in ("0.1.0", "0.1.1", "0.2.0"):
        archives[version] = package(version)
        assert pages.main(["chart", str(archives[version]), URL]) == 0
        if version == "0.1.1":
            assert pages.main(["docs", str(site(clone.parent, "second"))]) == 0

    index = yaml.safe_load(branch(clone, "charts/index.yaml"))
    charts = {chart["version"]: chart for chart in index["entries"]["pulltrace"]}
    assert charts.keys() == archives.keys()
    for version, chart in charts.items():
        published = branch(clone, f"charts/pulltrace-{version}.tgz")
        assert published == archives[version].read_bytes()
        assert chart["digest"] == hashlib.sha256(published).hexdigest()
        assert chart["urls"] == [f"{URL}/pulltrace-{version}.tgz"]
    assert branch(clone, "charts/artifacthub-repo.yml") == (ROOT / "charts/artifacthub-repo.yml").read_bytes()
    assert branch(clone, "index.html") == b"second"
    assert branch(clone, "installation/index.html") == b"install second"
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    assert run("git", "worktree", "list", cwd=clone).count("\n") == 1


def test_publishing_a_chart_keeps_the_index_entries_of_earlier_versions(clone: Path, package, monkeypatch) -> None:
    digest = "0773d7230dd7be37cb796524eca8d6e2574dd110128d6ee3a65d79647ce7dfae"
    old = {"name": "pulltrace", "version": "0.1.0", "digest": digest, "urls": [f"{URL}/pulltrace-0.1.0.tgz"]}

    def as_it_was(tree: Path) -> None:
        (tree / "charts").mkdir()
        (tree / "charts" / "index.yaml").write_text(
            yaml.safe_dump({"apiVersion": "v1", "entries": {"pulltrace": [old]}})
        )

    monkeypatch.chdir(clone)
    pages.publish(clone, "as it was", as_it_was)
    assert pages.main(["chart", str(package("0.2.0")), URL]) == 0
    entries = yaml.safe_load(branch(clone, "charts/index.yaml"))["entries"]["pulltrace"]
    assert [(chart["version"], chart["digest"]) for chart in entries][1:] == [("0.1.0", digest)]


def test_a_published_version_cannot_be_published_again_with_different_contents(
    clone: Path, package, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(clone)
    archive = package("0.1.0")
    assert pages.main(["chart", str(archive), URL]) == 0
    assert pages.main(["chart", str(archive), URL]) == 0, (
        "a second run must change nothing, so that a failed job can be repeated"
    )
    before = branch(clone, "charts/index.yaml")
    archive.write_bytes(archive.read_bytes() + b"\0")
    assert pages.main(["chart", str(archive), URL]) == 1
    assert "published already" in capsys.readouterr().err
    assert branch(clone, "charts/index.yaml") == before


def test_docs_are_rejected_if_they_use_the_path_of_the_helm_repository(clone: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(clone)
    made = site(clone.parent, "bad")
    (made / "charts").mkdir()
    assert pages.main(["docs", str(made)]) == 1
    assert "the Helm repository is at this path" in capsys.readouterr().err


def test_a_concurrent_push_is_not_overwritten(clone: Path, package, monkeypatch) -> None:
    monkeypatch.chdir(clone)
    pages.main(["docs", str(site(clone.parent, "first"))])
    archive, calls = package("0.1.0"), []

    def change(tree: Path) -> None:
        calls.append(tree)
        if len(calls) == 1:
            pages.publish(clone, "docs", partial(pages.replace_docs, site=site(clone.parent, "other")))
        pages.add_chart(tree, archive, URL)

    pages.publish(clone, "chart", change)
    assert len(calls) == 2
    assert branch(clone, "index.html") == b"other"
    assert b"0.1.0" in branch(clone, "charts/index.yaml")


def test_a_chart_released_by_a_fork_uses_the_images_of_the_fork(package, tmp_path: Path, helm: str) -> None:
    archive = package("0.3.0", "Someone/pulls")
    shown = run(helm, "show", "all", archive, cwd=tmp_path)
    assert "ghcr.io/someone/pulls-agent" in shown
    assert "someone.github.io/pulls/charts" in shown
    assert "d44b" not in shown


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The address of Debian's docker-registry, running on loopback."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("no docker-registry here (Debian's docker-registry)")
    port = free_port()
    config = tmp_path / "registry.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "version": 0.1,
                "storage": {"filesystem": {"rootdirectory": str(tmp_path / "blobs")}},
                "http": {"addr": f"127.0.0.1:{port}"},
                "log": {"level": "error"},
            }
        )
    )
    process = subprocess.Popen([program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/v2/", process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    waiting = threading.Event()
    for _ in range(3600):
        assert process.poll() is None
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            waiting.wait(0.05)
    raise AssertionError(f"the registry at {url} does not respond")


def test_the_classic_repository_and_the_oci_registry_serve_the_same_bytes(
    *, clone: Path, package, registry: str, helm: str, tmp_path: Path, monkeypatch
) -> None:
    archive = package("0.2.0")
    run(helm, "push", archive, f"oci://{registry}/charts", "--plain-http", cwd=tmp_path)
    (tmp_path / "oci").mkdir()
    run(helm, "pull", f"oci://{registry}/charts/pulltrace", "--version=0.2.0", "--plain-http", cwd=tmp_path / "oci")

    served = tmp_path / "served"
    handler = partial(SimpleHTTPRequestHandler, directory=served)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/charts"
            monkeypatch.chdir(clone)
            assert pages.main(["chart", str(archive), url]) == 0
            run("git", "clone", "--quiet", "--branch=gh-pages", "origin.git", served, cwd=tmp_path)
            run(helm, "repo", "add", "pulltrace", url, cwd=tmp_path)
            (tmp_path / "classic").mkdir()
            run(helm, "pull", "pulltrace/pulltrace", "--version=0.2.0", cwd=tmp_path / "classic")
        finally:
            server.shutdown()
            thread.join()
    pulled = {name: (tmp_path / name / "pulltrace-0.2.0.tgz").read_bytes() for name in ("oci", "classic")}
    assert pulled["oci"] == pulled["classic"] == archive.read_bytes()


@pytest.mark.usefixtures("helm")
def test_packaging_a_chart_twice_produces_identical_archives(tmp_path: Path) -> None:
    first, second = (packaging.package(tmp_path / name).read_bytes() for name in ("first", "second"))
    assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()


def test_a_released_chart_pins_the_images_by_digest_unless_the_user_sets_a_tag(package) -> None:
    digests = {"agent": f"sha256:{'a' * 64}", "server": f"sha256:{'b' * 64}"}
    archive = package("0.3.0", **digests)
    with helm_library.Chart.load(archive) as chart:
        about = chart.metadata
        images = {}
        for name, given in (("default", {}), ("tag", {"agent": {"image": {"tag": "dev"}}})):
            merged = {"agent": {"runtimeSocket": {"risksAcknowledged": True}, **given.get("agent", {})}}
            chart.validate_schema(merged)
            rendered = chart.render(merged, name="pulltrace", namespace="pulltrace")
            images[name] = sorted(set(re.findall(r'image: "?([^"\n]+)', "\n".join(rendered.values()))))
    agent, server = "ghcr.io/d44b/pulltrace-agent", "ghcr.io/d44b/pulltrace-server"
    assert images["default"] == [f"{agent}:0.3.0@{digests['agent']}", f"{server}:0.3.0@{digests['server']}"]
    assert images["tag"] == [f"{agent}:dev", f"{server}:0.3.0@{digests['server']}"]
    listed = yaml.safe_load(about["annotations"]["artifacthub.io/images"])
    assert [image["image"].partition("@")[2] for image in listed] == list(digests.values())


def test_the_artifact_hub_annotations_list_the_changes_of_a_version_and_state_whether_it_is_a_prerelease() -> None:
    about = yaml.safe_load((ROOT / "charts/pulltrace/Chart.yaml").read_text())
    new = "### Added\n\n- One `thing`\n  on two lines.\n- Two.\n\n### Fixed\n\n- Three.\n"
    text = f"# Changelog\n\n## [0.3.0]\n\n{new}\n## 0.2.0\n\n### Added\n\n- Old.\n"
    made = packaging.annotations({**about, "version": "0.3.0"}, text, {})
    assert yaml.safe_load(made["artifacthub.io/changes"]) == [
        {"kind": "added", "description": "One thing on two lines."},
        {"kind": "added", "description": "Two."},
        {"kind": "fixed", "description": "Three."},
    ]
    assert made["artifacthub.io/prerelease"] == "false"
    assert packaging.annotations({**about, "version": "0.3.0-rc.1"}, text, {})["artifacthub.io/prerelease"] == "true"
    assert packaging.changes("0.2.0", (ROOT / "CHANGELOG.md").read_text())


def test_every_artifact_hub_screenshot_is_in_the_docs() -> None:
    about = yaml.safe_load((ROOT / "charts/pulltrace/Chart.yaml").read_text())
    for shown in yaml.safe_load(about["annotations"]["artifacthub.io/screenshots"]):
        assert (ROOT / "docs" / shown["url"].removeprefix("https://d44b.github.io/pulltrace/")).is_file()
