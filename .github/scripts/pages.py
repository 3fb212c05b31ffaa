"""Publish to the Pages branch, which has the docs at its root and the Helm repository in ``charts/``.

``pages.py chart ARCHIVE URL`` adds a packaged chart. The merged index keeps all versions that the branch's index
already contains.

``pages.py docs SITE`` replaces the docs, but not ``charts/``.

Run the script in a clone that has permission to push to its remote ``origin``. If someone else has pushed in the
meantime, the script applies the change again on top of the new commits. It never force-pushes the branch.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

BRANCH = "gh-pages"
CHARTS = "charts"
ARTIFACT_HUB = Path(__file__).parents[2] / "charts" / "artifacthub-repo.yml"
_TRIES = 5


class RefusedError(Exception):
    """Raised if the change would damage the published branch or could not be pushed."""


def publish(clone: Path, message: str, change: Callable[[Path], None]) -> None:
    """Check out the branch, apply ``change``, and push. If someone else has pushed in the meantime, start again."""
    for _ in range(_TRIES):
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "pages"
            _checkout(clone, tree)
            try:
                change(tree)
                _git(tree, "add", "--all")
                if not _git(tree, "status", "--porcelain"):
                    return
                _git(tree, "commit", "--quiet", "--message", message)
                if _pushed(tree):
                    return
            finally:
                _git(clone, "worktree", "remove", "--force", str(tree))
    raise RefusedError(f"{BRANCH} changed {_TRIES} times before we could push")


def add_chart(tree: Path, archive: Path, url: str) -> None:
    """Add ``archive`` to the Helm repository that is served at ``url``."""
    charts = tree / CHARTS
    charts.mkdir(exist_ok=True)
    index = charts / "index.yaml"
    before = _versions(index)
    if (charts / archive.name).exists():
        if (charts / archive.name).read_bytes() != archive.read_bytes():
            raise RefusedError(f"{archive.name} is published already with other contents")
        return
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy2(archive, folder)
        merge = ["--merge", str(index)] if index.exists() else []
        subprocess.run(["helm", "repo", "index", folder, "--url", url, *merge], check=True)
        merged = Path(folder) / "index.yaml"
        if lost := before.items() - _versions(merged).items():
            raise RefusedError(f"the merged index would lose or change {sorted(lost)}")
        shutil.copy2(merged, index)
    shutil.copy2(archive, charts)
    shutil.copy2(ARTIFACT_HUB, charts)
    (tree / ".nojekyll").touch()


def replace_docs(tree: Path, site: Path) -> None:
    """Replace everything except the Helm repository with the contents of ``site``."""
    if (site / CHARTS).exists():
        raise RefusedError(f"the docs have a page {CHARTS}/, but the Helm repository is at this path")
    for path in tree.iterdir():
        if path.name not in (".git", CHARTS, "CNAME"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(site, tree, dirs_exist_ok=True)
    (tree / ".nojekyll").touch()


def _versions(index: Path) -> dict[tuple[str, str], str]:
    """Return the digest of each (chart, version) pair in an index."""
    entries = yaml.safe_load(index.read_text())["entries"] if index.exists() else {}
    return {(name, chart["version"]): chart.get("digest", "") for name in entries for chart in entries[name]}


def _checkout(clone: Path, tree: Path) -> None:
    _git(clone, "worktree", "prune")
    if _git(clone, "ls-remote", "--heads", "origin", BRANCH):
        _git(clone, "fetch", "--quiet", "--depth=1", "origin", BRANCH)
        _git(clone, "worktree", "add", "--quiet", "--detach", str(tree), "FETCH_HEAD")
    else:
        _git(clone, "worktree", "add", "--quiet", "--detach", str(tree))
        _git(tree, "checkout", "--quiet", "--orphan", f"{BRANCH}-new")
        _git(tree, "rm", "-r", "--force", "--quiet", "--ignore-unmatch", ".")


def _pushed(tree: Path) -> bool:
    push = subprocess.run(["git", "push", "--quiet", "origin", f"HEAD:refs/heads/{BRANCH}"], cwd=tree, check=False)
    return push.returncode == 0


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def main(words: list[str]) -> int:
    """Run the command given on the command line."""
    clone = Path.cwd()
    try:
        match words:
            case ["chart", archive, url]:
                path = Path(archive).resolve()
                publish(clone, f"Publish {path.name}", lambda tree: add_chart(tree, path, url))
            case ["docs", site]:
                pages = Path(site).resolve()
                publish(clone, "Publish the docs", lambda tree: replace_docs(tree, pages))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except RefusedError as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
