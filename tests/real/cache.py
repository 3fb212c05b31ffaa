"""The directory for built components. All clones share this directory, because it is outside the repository."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return `${XDG_CACHE_HOME:-~/.cache}/pulltrace`; create it if it is missing."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pulltrace"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
