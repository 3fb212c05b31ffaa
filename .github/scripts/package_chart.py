"""Package the chart for the repository that releases it: ``package_chart.py OUT [OWNER/NAME]``.

The sources say d44b/pulltrace; a fork's release must point at the fork's images and pages.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHART = Path(__file__).parents[2] / "charts" / "pulltrace"
HOME = "d44b/pulltrace"


def package(out: Path, repository: str = HOME) -> Path:
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
        command = ["helm", "package", copy, "--destination", out]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Path(said.rpartition("saved it to: ")[2].strip())


if __name__ == "__main__":
    print(package(Path(sys.argv[1]), *sys.argv[2:3]))
