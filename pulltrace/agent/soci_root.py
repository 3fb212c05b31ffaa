"""Find out from SOCI's root directory how many bytes of each layer SOCI's parallel mode has written.

The daemon downloads each layer into ``ROOT/unpack/<id>/<digest>`` and sets the file's full size at the start, so only
the allocated blocks show the progress. The layout is internal to SOCI, so an unexpected layout is logged once and then
ignored.
"""

import logging
import os
import re
from itertools import islice

from pulltrace.logs import fields

MAX_LAYERS = 1024
"""Maximum number of layers that one poll examines."""

_MAX_ENTRIES = 8  # maximum number of files in one layer's directory, which normally contains two files

_BLOCK = 512  # st_blocks counts 512-byte blocks
_LAYER = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_UNPACKED = "fs"  # the directory tree into which a layer is being unpacked

_log = logging.getLogger(__name__)


class SociRoot:
    """SOCI's root directory, mounted read-only."""

    def __init__(self, root: str) -> None:
        self._folder = f"{root}/unpack"
        self._warned = False

    def received(self) -> dict[str, int] | None:
        """Return how many bytes of each layer being fetched are on disk, or None if these numbers cannot be
        determined.
        """
        try:
            return self._read()
        except (OSError, _LayoutError) as error:
            if not self._warned:
                self._warned = True
                _log.warning("SOCI's root directory is not usable", extra=fields(folder=self._folder, error=error))
            return None

    def _read(self) -> dict[str, int]:
        received: dict[str, int] = {}
        with os.scandir(self._folder) as layers:
            for layer in islice(layers, MAX_LAYERS):
                for digest, size in _files(layer).items():
                    received[digest] = max(size, received.get(digest, 0))
        return received


class _LayoutError(Exception):
    """A directory does not have the expected layout."""


def _files(layer: "os.DirEntry[str]") -> dict[str, int]:
    """Return how many bytes of a layer are on disk, given the layer's directory. SOCI may delete the layer's directory
    at any time.
    """
    if not layer.is_dir(follow_symlinks=False):
        raise _LayoutError(f"{layer.name} is not a directory")
    found: dict[str, int] = {}
    try:
        with os.scandir(layer.path) as entries:
            for entry in islice(entries, _MAX_ENTRIES):
                name = _LAYER.fullmatch(entry.name)
                if name and entry.is_file(follow_symlinks=False):
                    stat = entry.stat(follow_symlinks=False)
                    found[f"sha256:{name[1]}"] = min(stat.st_blocks * _BLOCK, stat.st_size)
                elif entry.name != _UNPACKED:
                    raise _LayoutError(f"{layer.name}/{entry.name} is unknown")
    except FileNotFoundError:
        pass  # the directory disappears when the layer has been unpacked
    return found
