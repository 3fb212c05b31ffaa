"""The directory in which built components are stored. It is outside the repository, so all clones share it."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the directory `${XDG_CACHE_HOME:-~/.cache}/pulltrace`, and create it if necessary."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pulltrace"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
