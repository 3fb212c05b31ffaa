"""One version: package, chart, appVersion, the chart's image list, CHANGELOG and, at a release, the tag agree.

``versions.py`` checks the tree, ``versions.py v1.2.3`` the tag too, ``versions.py v1.2.3 --notes`` prints that
version's part of CHANGELOG.md for the GitHub Release. Exits 1 with every disagreement.
"""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def found(root: Path = ROOT) -> dict[str, str]:
    """Where a version stands → the version that stands there."""
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
    """CHANGELOG.md's section of ``version``, without its heading; None when there is none."""
    parts = re.split(r"^## \[?([^]\s]+)\]?.*$", (root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    return sections[version].strip() if version in sections else None


def disagreements(tag: str | None, root: Path = ROOT) -> list[str]:
    """What is wrong, a sentence each. Without a tag CHANGELOG may still call the version Unreleased."""
    versions = found(root)
    expected = tag.removeprefix("v") if tag else versions["pulltrace/__init__.py"]
    wrong = [f"{place} is {version}, not {expected}" for place, version in versions.items() if version != expected]
    if tag and not re.fullmatch(r"v\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?", tag):
        wrong.append(f"the tag {tag} is not vX.Y.Z")
    if tag and not notes(expected, root):
        wrong.append(f"CHANGELOG.md says nothing of {expected}")
    return wrong


def main() -> int:
    """Check, and print the notes when asked."""
    tag = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    if wrong := disagreements(tag):
        print("\n".join(wrong), file=sys.stderr)
        return 1
    if tag and "--notes" in sys.argv:
        print(notes(tag.removeprefix("v")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
