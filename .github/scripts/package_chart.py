"""Package the chart for a release: ``package_chart.py OUT [OWNER/NAME] [agent=sha256:… server=sha256:…]``.

The chart in the source tree refers to d44b/pulltrace, whereas a chart released by a fork refers to the fork's own
images and pages. The script also pins the images' digests, and derives Artifact Hub's annotations from the version and
CHANGELOG.md.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "pulltrace"
HOME = "d44b/pulltrace"


def package(out: Path, repository: str = HOME, digests: dict[str, str] | None = None) -> Path:
    """Make the archive in ``out`` and return its path."""
    owner, name = repository.lower().split("/")
    places = {
        f"ghcr.io/{HOME}": f"ghcr.io/{owner}/{name}",
        "oci://ghcr.io/d44b/charts/pulltrace": f"oci://ghcr.io/{owner}/charts/pulltrace",
        f"github.com/{HOME}": f"github.com/{repository}",
        "d44b.github.io/pulltrace": f"{owner}.github.io/{name}",
    }
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / CHART.name
        shutil.copytree(CHART, copy)
        for path in (copy / "Chart.yaml", copy / "values.yaml", copy / "README.md"):
            text = path.read_text()
            for ours, theirs in places.items():
                text = text.replace(ours, theirs)
            path.write_text(text)
        about = yaml.safe_load((copy / "Chart.yaml").read_text())
        about["annotations"] |= annotations(about, (ROOT / "CHANGELOG.md").read_text(), digests or {})
        (copy / "Chart.yaml").write_text(yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=1000))
        command = ["helm", "package", copy, "--destination", out]
        # All files in the archive have the commit's timestamp, so the same commit always produces the same archive.
        epoch = os.environ.get("SOURCE_DATE_EPOCH") or time_of_commit()
        environment = os.environ | {"SOURCE_DATE_EPOCH": epoch}
        output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return Path(output.rpartition("saved it to: ")[2].strip())


def time_of_commit() -> str:
    """Return the time of the commit that is checked out, in Unix seconds."""
    command = ["git", "log", "-1", "--format=%ct"]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def annotations(about: dict[str, Any], changelog: str, digests: dict[str, str]) -> dict[str, str]:
    """Return the annotations that only a released chart has."""
    version = str(about["version"])
    made = {f"pulltrace/{half}-digest": digest for half, digest in digests.items()}
    made["artifacthub.io/prerelease"] = str("-" in version).lower()
    images = yaml.safe_load(about["annotations"]["artifacthub.io/images"])
    for image in images:
        half = image["name"].removeprefix("pulltrace-")
        if half in digests:
            image["image"] += f"@{digests[half]}"
    made["artifacthub.io/images"] = yaml.safe_dump(images, sort_keys=False, width=1000)
    if listed := changes(version, changelog):
        made["artifacthub.io/changes"] = yaml.safe_dump(listed, sort_keys=False, allow_unicode=True, width=1000)
    return made


def changes(version: str, changelog: str) -> list[dict[str, str]]:
    """Return the changelog's entries for a version, in Artifact Hub's format."""
    section = re.search(rf"^## \[?{re.escape(version)}\]?.*?$(.*?)(?=^## |\Z)", changelog, re.M | re.S)
    found: list[dict[str, str]] = []
    for kind, body in re.findall(r"^### (\w+)$(.*?)(?=^### |\Z)", section[1] if section else "", re.M | re.S):
        entries = re.findall(r"^- (.*?)(?=^- |\Z)", body.strip(), re.M | re.S)
        found += ({"kind": kind.lower(), "description": " ".join(entry.split()).replace("`", "")} for entry in entries)
    return found


if __name__ == "__main__":
    pinned = dict(word.split("=", 1) for word in sys.argv[2:] if "=" in word)
    wanted = [word for word in sys.argv[2:] if "=" not in word]
    print(package(Path(sys.argv[1]), *wanted, digests=pinned))
