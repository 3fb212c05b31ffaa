"""Put the Helm binary on the PATH, where the release scripts look for it."""

import os
import shutil
from pathlib import Path

import pytest

from tests.real.versions import HELM


@pytest.fixture
def helm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of the Helm binary that was built for the tests. If there is none, the Helm installed on the machine is
    used.
    """
    found = str(HELM.path) if HELM.path.exists() else shutil.which("helm")
    if found is None:
        pytest.skip("no helm here; `make parts` builds it")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "helm").symlink_to(found)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"HELM_{name}_HOME", str(tmp_path / name.lower()))
    return found
