"""Tests that all files have the same version, that every file whose version differs from the tag is listed, and that a
release gets the right image tags.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.real.versions import HELM_DOCS
from tests.release.scripts import PACKAGE, ROOT, script

versions = script("versions")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for folder, name in ((PACKAGE.parent, "pulltrace/__init__.py"), (ROOT, "charts/pulltrace/Chart.yaml")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-11-24\n\nNew.\n\n### Added\n\n- all of it\n\n"
        "## 0.1.0\n\nOld.\n"
    )
    return tmp_path


def test_all_files_in_this_repository_have_the_same_version(tree: Path) -> None:
    assert versions.disagreements(None, tree) == []


def test_the_release_notes_are_the_section_of_the_changelog_for_the_version(tree: Path) -> None:
    assert versions.disagreements("v0.2.0", tree) == []
    assert versions.notes("0.2.0", tree) == "New.\n\n### Added\n\n- all of it"
    assert versions.notes("0.1.0", tree) == "Old."


def test_every_file_whose_version_differs_from_the_tag_is_listed(tree: Path) -> None:
    wrong = versions.disagreements("v0.3.0", tree)
    assert len(wrong) == 6
    assert "Chart.yaml appVersion is 0.2.0, not 0.3.0" in wrong
    assert "CHANGELOG.md has no section for 0.3.0" in wrong


def test_a_release_tag_must_be_a_version(tree: Path) -> None:
    assert "the tag release is not vX.Y.Z" in versions.disagreements("release", tree)


def test_the_readme_of_the_chart_matches_its_values() -> None:
    if not HELM_DOCS.path.exists():
        pytest.skip("no helm-docs here; `make parts` builds it (needs Go)")
    chart = ROOT / "charts" / "pulltrace"
    command = [HELM_DOCS.path, "--chart-search-root", chart, "--sort-values-order=file"]
    done = subprocess.run([*command, "--dry-run", "--log-level=warning"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (chart / "README.md").read_text() == done.stdout.rstrip("\n") + "\n", "run `make chart-readme`"
    assert not re.findall(r"^\| `.*\|\s*\|$", done.stdout, re.MULTILINE), "every value must have a description"


@pytest.mark.parametrize(
    ("tag", "others", "expected"),
    [
        ("v0.3.0", [], ["0.3.0", "0.3", "latest"]),
        ("v0.3.1", ["v0.3.0", "v0.2.9"], ["0.3.1", "0.3", "latest"]),
        ("v0.2.10", ["v0.2.9", "v0.3.0"], ["0.2.10", "0.2"]),
        ("v0.3.0", ["v0.3.1", "v0.4.0-rc.1"], ["0.3.0"]),
        ("v0.10.0", ["v0.9.0", "v0.10.0-rc.1"], ["0.10.0", "0.10", "latest"]),
        ("v0.4.0-rc.1", ["v0.3.0"], ["0.4.0-rc.1"]),
    ],
)
def test_a_release_gets_a_shared_image_tag_only_if_it_is_the_newest_version_for_that_tag(
    tag: str, others: list[str], expected: list[str]
) -> None:
    assert versions.image_tags(tag, [tag, *others, "not-a-version"]) == expected
