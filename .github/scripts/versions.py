"""Check that the package, the chart, its appVersion, its image list, CHANGELOG.md and the release tag agree on the
version.

``versions.py`` checks the tree.

``versions.py v1.2.3`` also checks the tag.

``versions.py v1.2.3 --notes`` prints that version's section of CHANGELOG.md for the GitHub Release.

``versions.py --image-tags v1.2.3 v1.2.2 …`` prints the image tags of the first version, given all tags.

If the versions disagree, the script prints every difference and exits with status 1.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
_TAG = re.compile(r"v(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.]+)?")


def found(root: Path = ROOT) -> dict[str, str]:
    """Return the version that each file contains, including the tag of each image in the chart's list."""
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
    """Return CHANGELOG.md's section for ``version`` without its heading, or None if there is none."""
    parts = re.split(r"^## \[?([^]\s]+)\]?.*$", (root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    return sections[version].strip() if version in sections else None


def disagreements(tag: str | None, root: Path = ROOT) -> list[str]:
    """Return one sentence for each version that differs from the others. If no tag is given, the changelog does not
    need a section for the version yet.
    """
    versions = found(root)
    expected = tag.removeprefix("v") if tag else versions["pulltrace/__init__.py"]
    wrong = [f"{place} is {version}, not {expected}" for place, version in versions.items() if version != expected]
    if tag and not _TAG.fullmatch(tag):
        wrong.append(f"the tag {tag} is not vX.Y.Z")
    if tag and not notes(expected, root):
        wrong.append(f"CHANGELOG.md has no section for {expected}")
    return wrong


def image_tags(tag: str, others: Iterable[str]) -> list[str]:
    """Return the image tags of a release.

    The tag X.Y.Z is always included. X.Y is added for the newest release of its minor version, and latest for the
    newest release of all. A prerelease is tagged only with its own version.
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
    """Run the command given on the command line."""
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
