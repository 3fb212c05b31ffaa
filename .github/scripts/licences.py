"""Generate docs/licences.md, which lists the licences of everything that is shipped: ``make licences``.

The images contain the packages in requirements/agent.txt and requirements/server.txt, and the page contains the
packages in package-lock.json that are not development dependencies. Each licence is the one that the package itself
declares.
"""

import json
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "docs" / "licences.md"
HEAD = """\
# Licences

Pulltrace is licensed under Apache-2.0. Its images and its page also contain the following packages, each under the
licence that it states. The interpreter in the images is CPython (PSF-2.0), and the copyright files of Debian's
libraries are in `/usr/share/doc`. `make licences` generates this page.

"""
# Packages whose metadata contains free text or an obsolete classifier instead of an SPDX identifier.
_SPDX = {
    "MIT License": "MIT",
    "Apache 2.0": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
}


def licence(package: Distribution) -> str:
    """Return the licence that a package declares."""
    about = package.metadata
    classifiers = [text.rpartition(" :: ")[2] for text in about.get_all("Classifier") or () if "License ::" in text]
    stated = about.get("License-Expression") or about.get("License") or ""
    if not stated or "\n" in stated:
        stated = " AND ".join(dict.fromkeys(_SPDX.get(name, name) for name in classifiers))
    return _SPDX.get(stated, stated) or "?"


def python(half: str) -> list[tuple[str, str, str]]:
    """Return the name, version and licence of each package in an image.

    A package that is listed but not installed is required only on other systems, so it is not in the image either.
    """
    found = []
    text = (ROOT / "requirements" / f"{half}.txt").read_text()
    for name, version in re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", text, re.MULTILINE):
        try:
            found.append((name, version, licence(distribution(name))))
        except PackageNotFoundError:
            continue
    return found


def page() -> list[tuple[str, str, str]]:
    """Return the name, version and licence of each npm package in the page."""
    packages = json.loads((ROOT / "web" / "package-lock.json").read_text())["packages"]
    return [
        (path.removeprefix("node_modules/"), about["version"], about.get("license", "?"))
        for path, about in sorted(packages.items())
        if path and not about.get("dev") and not about.get("optional")
    ]


def text() -> str:
    """Return the contents of docs/licences.md."""
    parts = [HEAD]
    tables = [("The agent's image", python("agent")), ("The server's image", python("server")), ("The page", page())]
    for title, rows in tables:
        parts.append(f"## {title}\n\n| package | version | licence |\n|---|---|---|\n")
        parts += [f"| {name} | {version} | {name_of_licence} |\n" for name, version, name_of_licence in rows]
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
