"""Check that the package, the chart, appVersion, the chart's image list, CHANGELOG and a release's tag name the same
version.

``versions.py``                      check the tree
``versions.py v1.2.3``               check the tag too
``versions.py v1.2.3 --notes``       print that version's part of CHANGELOG.md for the GitHub Release
``versions.py --image-tags v1.2.3 v1.2.2 …``  print the image tags of the first version, given all tags

If there are disagreements, the script prints all of them and exits with status 1.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
_TAG = re.compile(r"v(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.]+)?")


def found(root: Path = ROOT) -> dict[str, str]:
    """Return the version stated in each of the files, and for each image in the chart's list."""
    package = re.search(r'^__version__ = "(.+)"$', (root / "pulltrace/__init__.py").read_text(), re.MULTILINE)
    chart = yaml.safe_load((root / "charts/pulltrace/Chart.yaml").read_text())
    versions = {
        "pulltrace/__init__.py": package[1] if package else "none",
        "Chart.yaml version": str(chart["version"]),
        "Chart.yaml appVersion": str(chart["appVersion"]),
    }
    for image in yaml.safe_load(chart["annotations"]["artifacthub.io/images"]):
        versions[f"Chart.yaml image {image['name']}"] = image["image"].rpartition(":")[2]
    return versions


def notes(version: str, root: Path = ROOT) -> str | None:
    """Return CHANGELOG.md's section for ``version`` without the heading, or None if there is no such section."""
    parts = re.split(r"^## \[?([^]\s]+)\]?.*$", (root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    return sections[version].strip() if version in sections else None


def disagreements(tag: str | None, root: Path = ROOT) -> list[str]:
    """Return every disagreement as a sentence. Without a tag, CHANGELOG may still call the version Unreleased."""
    versions = found(root)
    expected = tag.removeprefix("v") if tag else versions["pulltrace/__init__.py"]
    wrong = [f"{place} is {version}, not {expected}" for place, version in versions.items() if version != expected]
    if tag and not _TAG.fullmatch(tag):
        wrong.append(f"the tag {tag} is not vX.Y.Z")
    if tag and not notes(expected, root):
        wrong.append(f"CHANGELOG.md has no section for {expected}")
    return wrong


def image_tags(tag: str, others: Iterable[str]) -> list[str]:
    """Return the image tags of a release: always X.Y.Z, also X.Y if the release is the newest of its minor version,
    and also latest if it is the newest of all releases.
    """
    match = _TAG.fullmatch(tag)
    if match is None or match[4]:
        return [tag.removeprefix("v")]
    this = tuple(int(part) for part in match.groups()[:3])
    released = {
        tuple(int(part) for part in other.groups()[:3])
        for other in map(_TAG.fullmatch, others)
        if other and not other[4]
    }
    tags = [tag.removeprefix("v")]
    if this >= max((other for other in released if other[:2] == this[:2]), default=this):
        tags.append(f"{this[0]}.{this[1]}")
    if this >= max(released, default=this):
        tags.append("latest")
    return tags


def main() -> int:
    """Run the command that the command line selects."""
    tags = [word for word in sys.argv[1:] if not word.startswith("-")]
    if "--image-tags" in sys.argv:
        print(*image_tags(tags[0], tags))
        return 0
    tag = tags[0] if tags else None
    if wrong := disagreements(tag):
        print("\n".join(wrong), file=sys.stderr)
        return 1
    if tag and "--notes" in sys.argv:
        print(notes(tag.removeprefix("v")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
