"""The ways of obtaining an image that are tested with a real containerd. A test compares the result of ``table`` with
`docs/compatibility.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import pytest

from tests.real.containerd import Containerd
from tests.real.fixtures import require_containerd
from tests.real.images import Image
from tests.real.registry import Registry
from tests.real.snapshotters import Soci, SociMode, Stargz, make_indexed, make_streamable
from tests.real.versions import SOCI, SOCI_CONVERT, STARGZ, Built

LINES = {"debian": "1.6", "1.7": "1.7", "2.4": "2.4"}


class Progress(Enum):
    """How precisely an agent can observe the downloaded bytes of a pull."""

    EXACT = "exact"
    LAYERS = "completed layers; exact with `agent.soci.root`"
    NONE_NEEDED = "none needed: the container starts before the layers are fetched"
    FILES = "completed files of the archive; the size is known at the end"


class Daemon(Enum):
    """A snapshotter that is a separate program."""

    SOCI_PARALLEL = SociMode.PARALLEL
    SOCI_PARALLEL_KEEP = SociMode.PARALLEL_KEEP
    SOCI_LAZY = SociMode.LAZY
    STARGZ = "stargz"

    @property
    def proxy(self) -> str:
        """Return the name of the snapshotter in containerd's configuration."""
        return "stargz" if self is Daemon.STARGZ else "soci"

    @property
    def programs(self) -> tuple[Built, ...]:
        """Return the programs that a test with this snapshotter needs."""
        if self is Daemon.STARGZ:
            return (STARGZ,)
        return (SOCI, SOCI_CONVERT) if self is Daemon.SOCI_LAZY else (SOCI,)


@dataclass(frozen=True)
class Way:
    """A way of obtaining an image, and its row in the compatibility table. ``settings`` are passed to `Containerd`."""

    title: str
    lines: tuple[str, ...] = ("2.4",)
    progress: Progress = Progress.EXACT
    settings: Mapping[str, object] = field(default_factory=dict)
    daemon: Daemon | None = None
    plain: bool = False
    """True if the image has an ordinary format, which means that containerd, not the snapshotter, fetches the layers.
    """

    @property
    def snapshotter(self) -> str:
        """Return the name of the snapshotter that stores the layers."""
        return self.daemon.proxy if self.daemon else str(self.settings.get("snapshotter", "overlayfs"))

    async def start(self, line: str, registry: Registry, stack: AsyncExitStack) -> Containerd:
        """Start a node whose containerd and snapshotter are configured for this way of obtaining an image."""
        binary = require_containerd(line)
        for program in self.daemon.programs if self.daemon else ():
            if not program.path.exists():
                pytest.skip(f"no {program.name} here; `make parts` builds it (needs Go)")
        settings = dict(self.settings) | ({"proxy": self.daemon.proxy} if self.daemon else {})
        node = Containerd(binary, **settings)  # type: ignore[arg-type]
        node.trust(registry.host, registry.url)
        if self.daemon is Daemon.STARGZ:
            await stack.enter_async_context(Stargz(node, registry.host))
        elif self.daemon:
            await stack.enter_async_context(Soci(node, registry.host, SociMode(self.daemon.value)))
        return await stack.enter_async_context(node)

    def push(self, name: str, image: Image, registry: Registry, folder: Path) -> tuple[str, Image]:
        """Serve the image in the format that this way of pulling requires.

        Return the reference of the image, and the image in the format in which it is served.
        """
        if self.plain or self.progress is not Progress.NONE_NEEDED:
            return registry.push(name, image), image
        if self.daemon is Daemon.SOCI_LAZY:
            return registry.push_layout(name, make_indexed(image, folder)), image
        image = make_streamable(image, folder)
        return registry.push(name, image), image


CLIENT = {"client": True}
CHUNKS = "concurrent_layer_fetch_buffer = 262144"
PARALLEL = Progress.LAYERS
LAZY = Progress.NONE_NEEDED

WAYS = (
    Way("containerd's client, overlayfs", ("debian", "1.7", "2.4"), settings=CLIENT),
    Way("containerd's transfer service, overlayfs"),
    Way("overlayfs with `discard_unpacked_layers`", ("1.7", "2.4"), settings={"discard_unpacked_layers": True}),
    Way("overlayfs with parallel unpacking", settings={"transfer": "max_concurrent_unpacks = 4"}),
    Way("overlayfs with chunked downloads", settings={"transfer": CHUNKS}),
    Way("native", ("1.7", "2.4"), settings={"snapshotter": "native"}),
    Way("erofs", settings={"snapshotter": "erofs"}),
    Way("SOCI, parallel mode", ("1.7", "2.4"), PARALLEL, CLIENT, Daemon.SOCI_PARALLEL),
    Way("SOCI, parallel mode that keeps blobs", ("1.7", "2.4"), PARALLEL, CLIENT, Daemon.SOCI_PARALLEL_KEEP),
    Way("SOCI, parallel mode, containerd's transfer service", progress=PARALLEL, daemon=Daemon.SOCI_PARALLEL),
    Way("SOCI with an index", ("1.7", "2.4"), LAZY, CLIENT, Daemon.SOCI_LAZY),
    Way("stargz", ("1.7", "2.4"), LAZY, CLIENT, Daemon.STARGZ),
    Way("stargz, containerd's transfer service", progress=LAZY, daemon=Daemon.STARGZ),
    Way("an ordinary image on a node with stargz", ("1.7", "2.4"), settings=CLIENT, daemon=Daemon.STARGZ, plain=True),
    Way("an ordinary image on a node with SOCI's index mode", settings=CLIENT, daemon=Daemon.SOCI_LAZY, plain=True),
)
IMPORT = Way("import of an archive (`ctr images import`)", ("debian", "1.7", "2.4"), Progress.FILES)
"""Importing an archive does not count as a pull, because the bytes do not come from a registry."""


def table() -> str:
    """Return the table in `docs/compatibility.md`."""
    lines = [f"| way of pulling | {' | '.join(LINES.values())} | progress |", f"|{'---|' * (len(LINES) + 2)}"]
    for way in (*WAYS, IMPORT):
        tested = ["tested" if line in way.lines else "" for line in LINES]
        lines.append(f"| {way.title} | {' | '.join(tested)} | {way.progress.value} |")
    return "\n".join(lines) + "\n"
