"""The tree's versions agree, and a tag that does not is told everything that is wrong."""

import shutil
from pathlib import Path

import pytest

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


def test_this_tree_has_one_version(tree: Path) -> None:
    assert versions.disagreements(None, tree) == []


def test_a_tag_that_agrees_passes_and_its_notes_are_its_section_alone(tree: Path) -> None:
    assert versions.disagreements("v0.2.0", tree) == []
    assert versions.notes("0.2.0", tree) == "New.\n\n### Added\n\n- all of it"
    assert versions.notes("0.1.0", tree) == "Old."


def test_a_tag_that_disagrees_is_told_every_place(tree: Path) -> None:
    wrong = versions.disagreements("v0.3.0", tree)
    assert len(wrong) == 6
    assert "Chart.yaml appVersion is 0.2.0, not 0.3.0" in wrong
    assert "CHANGELOG.md says nothing of 0.3.0" in wrong


def test_a_tag_must_be_a_version(tree: Path) -> None:
    assert "the tag release is not vX.Y.Z" in versions.disagreements("release", tree)


def test_the_charts_readme_is_as_its_values_say() -> None:
    readme = script("chart_readme")
    assert (readme.CHART / "README.md").read_text() == readme.readme(), "run `make chart-readme`"
