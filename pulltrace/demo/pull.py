"""A single simulated pull, which goes through the same steps as a pull in containerd. Sans-I/O.

Each generator method simulates one thread of the pull. Simulated time passes at each ``yield``.
"""

import math
from collections.abc import Callable, Generator
from contextlib import ExitStack
from functools import partial
from inspect import GEN_RUNNING, getgeneratorstate

from pulltrace.demo.images import Blob, Image, Layer
from pulltrace.demo.machine import SLOTS, Machine, Slots
from pulltrace.demo.registries import Refusal
from pulltrace.demo.snapshotter import Mode, Snapshotter
from pulltrace.demo.store import Ingest, Lease
from pulltrace.images import parse, registry_host
from pulltrace.wire import PullPhase

Thread = Generator[None, None, None]


class Pull:
    """A pull. ``state`` is None until the pull has completed or failed. ``error`` is the CRI's error message."""

    def __init__(self, node: Machine, reference: str, lease: Lease, snapshotter: Snapshotter) -> None:
        self.node = node
        self.snapshotter = snapshotter
        self.reference = parse(reference)
        self.lease = lease
        self.image: Image | None = None
        self.state: PullPhase | None = None
        self.error = ""
        self._host = registry_host(self.reference.registry)
        self._slots = Slots(math.inf if node.slots_per_node else SLOTS)
        self._threads: list[Thread] = [self._run()]

    def advance(self) -> None:
        """Advance every thread by one step."""
        for thread in list(self._threads):
            over = next(thread, self) is self
            if over and thread in self._threads:
                self._threads.remove(thread)

    def fail(self, error: str) -> None:
        """End the pull without an image. The pull's lease is deleted immediately, and the content that the lease
        protected is deleted soon afterwards.
        """
        self._end(PullPhase.FAILED, error)
        self.node.release(self.lease)

    def cancel(self) -> None:
        """End the pull as if the kubelet had cancelled the call."""
        self.fail(
            f'rpc error: code = Canceled desc = failed to pull and unpack image "{self.reference}": context canceled'
        )

    def abandon(self, error: str) -> None:
        """End the pull as if containerd had been killed: the lease and the ingests remain."""
        self._end(PullPhase.FAILED, error)

    def _end(self, state: PullPhase, error: str = "") -> None:
        self.state, self.error = state, error
        threads, self._threads = self._threads, []
        for thread in threads:
            # the thread that called this method is still running and returns by itself
            if getgeneratorstate(thread) != GEN_RUNNING:
                thread.close()

    def _run(self) -> Thread:
        """Resolve the reference, fetch the index, manifest and config in order, and finally fetch and unpack the
        layers.
        """
        yield from self._wait(2 * self.node.registries.manner(self._host).latency)
        yield from _until(lambda: self.reference.name not in self.node.registries.silent)
        image = self.node.registries.resolve(str(self.reference))
        if isinstance(image, Refusal):
            self.fail(image.message(str(self.reference)))
            return
        self.image = image
        for document in image.documents:
            yield from self._fetch(document)
        if self.snapshotter.mode is Mode.UNPACK or image.manifest.digest in self.snapshotter.declines:
            yield from self._unpack(image)
        else:
            yield from self._delegate(image)
        # The CRI plugin creates three image records: for the tag (or the requested digest), for the digest, and for the
        # image id.
        by_digest = f"{self.reference.name}@{image.target.digest}"
        for name in dict.fromkeys((str(self.reference), by_digest, image.config.digest)):
            self.node.store.record(name, image, self.node.now)
        self._end(PullPhase.COMPLETED)
        self.node.release(self.lease)

    def _fetch(self, blob: Blob) -> Thread:
        """Fetch a blob, unless the node already has it. If another pull is already fetching the blob, wait for that
        pull.
        """
        node, store = self.node, self.node.store
        with ExitStack() as held:
            yield from _until(self._slots.take)
            held.callback(self._slots.give)
            yield from _until(partial(node.blobs.take, blob.digest))
            held.callback(node.blobs.give, blob.digest)
            if blob.digest not in store.content:
                ingest = store.open(blob, node.now)
                self._hold("ingests", blob.ref)
                yield from _until(node.slots.take)
                held.callback(node.slots.give)
                yield from self._download(ingest)
                store.commit(blob, node.now)
                self._drop("ingests", blob.ref)
            self._hold("content", blob.digest)
        yield  # containerd sets the source label only after the commit
        store.label_source(blob.digest, self._host, self.reference.repository, node.now)

    def _download(self, ingest: Ingest) -> Thread:
        node, registries = self.node, self.node.registries
        yield from self._wait(registries.manner(self._host).latency)
        with ExitStack() as held:
            node.transfers.add(ingest.blob.ref)
            held.callback(node.transfers.discard, ingest.blob.ref)
            while ingest.received < ingest.blob.size:
                if sent := self._receive(ingest.blob, ingest.received):
                    ingest.received += sent
                    ingest.updated_at = node.now
                yield

    def _receive(self, blob: Blob, received: float) -> float:
        """Return how many bytes of the blob arrive in this step."""
        node, registries = self.node, self.node.registries
        speed = min(registries.speed(self._host, blob), node.bandwidth / len(node.transfers))
        return registries.sends(blob, received, speed * node.elapsed)

    def _unpack(self, image: Image) -> Thread:
        """Unpack the layers in order, starting with the base layer. At the first missing layer, start downloading that
        layer and all layers above it.
        """
        fetched: dict[str, bool] = {}
        for number in range(len(image.layers)):
            yield from self._unpack_layer(image, number, fetched)

    def _unpack_layer(self, image: Image, number: int, fetched: dict[str, bool]) -> Thread:
        node, snapshotter = self.node, self.snapshotter
        layer, chain = image.layers[number], image.chain_ids[number]
        with ExitStack() as held:
            yield from _until(partial(node.chains.take, chain))
            held.callback(node.chains.give, chain)
            if self._finds(chain):
                return
            # containerd prepares the snapshot before it downloads the layer.
            key = f"extract-{node.random.randrange(10**9)}-{node.random.randbytes(2).hex()} {chain}"
            snapshotter.prepare(key, _parent(image, number), node.now)
            self._hold(snapshotter.resource_type, key)
            if layer.blob.digest in snapshotter.cache:
                yield
            else:
                if not fetched:
                    fetched.update({item.blob.digest: False for item in image.layers[number:]})
                    self._threads += [self._fetch_layer(item, fetched) for item in image.layers[number:]]
                yield from _until(lambda: fetched[layer.blob.digest])
                yield from self._apply(layer, chain)
            snapshotter.commit(key, chain, node.now)
            self._drop(snapshotter.resource_type, key)
            self._hold(snapshotter.resource_type, chain)

    def _finds(self, chain: str) -> bool:
        """Return whether a layer is already unpacked."""
        if chain not in self.snapshotter.snapshots:
            return False
        if self.node.leases_snapshots:
            self._hold(self.snapshotter.resource_type, chain)
        return True

    def _delegate(self, image: Image) -> Thread:
        """Let the snapshotter deliver the layers. The pull's lease lists a layer's snapshot only after the snapshot has
        been committed.
        """
        node, snapshotter = self.node, self.snapshotter
        fetching = snapshotter.mode in (Mode.PARALLEL, Mode.PARALLEL_KEEP)
        missing = {
            layer.blob.digest: layer.blob
            for layer, chain in zip(image.layers, image.chain_ids, strict=True)
            if chain not in snapshotter.snapshots and layer.blob.digest not in node.store.content
        }
        if fetching:
            self._threads += [self._fetch_into_file(blob) for blob in missing.values()]
        for number, (layer, chain) in enumerate(zip(image.layers, image.chain_ids, strict=True)):
            with ExitStack() as held:
                yield from _until(partial(node.chains.take, chain))
                held.callback(node.chains.give, chain)
                if self._finds(chain):
                    continue
                if fetching:
                    yield from _until(partial(self._is_fetched, layer.blob))
                    yield from self._apply(layer, chain)
                    if snapshotter.mode is Mode.PARALLEL_KEEP and layer.blob.digest in missing:
                        yield from self._copy(layer.blob)
                    snapshotter.files.pop(layer.blob.digest, None)
                else:
                    yield from self._wait(node.registries.manner(self._host).latency)
                snapshotter.deliver(chain, _parent(image, number), node.now)
                self._hold(snapshotter.resource_type, chain)

    def _fetch_into_file(self, blob: Blob) -> Thread:
        """Fetch a blob as SOCI does, into a file that belongs to the snapshotter and is not visible to containerd."""
        node, files = self.node, self.snapshotter.files
        name = f"{self.snapshotter.name} {blob.digest}"
        if blob.digest in files:
            return
        files[blob.digest] = 0.0
        with ExitStack() as held:
            node.transfers.add(name)
            held.callback(node.transfers.discard, name)
            while not self._is_fetched(blob) and blob.digest in files:
                files[blob.digest] += self._receive(blob, files[blob.digest])
                yield

    def _is_fetched(self, blob: Blob) -> bool:
        received = self.snapshotter.files.get(blob.digest, 0.0)
        return received >= blob.size or blob.digest in self.node.store.content

    def _copy(self, blob: Blob) -> Thread:
        """Copy a fetched blob into containerd through an ingest that has no lease and whose ref is the bare digest."""
        store = self.node.store
        ingest = store.ingests[blob.digest] = Ingest(blob, self.node.now, self.node.now, received=blob.size / 2)
        yield from self._wait(1.0)
        ingest.received = blob.size
        store.ingests.pop(blob.digest, None)
        store.commit(blob, self.node.now)

    def _fetch_layer(self, layer: Layer, fetched: dict[str, bool]) -> Thread:
        yield from self._fetch(layer.blob)
        fetched[layer.blob.digest] = True

    def _apply(self, layer: Layer, chain: str) -> Thread:
        node, left = self.node, float(layer.unpacked)
        with ExitStack() as held:
            node.unpacking.add(chain)
            held.callback(node.unpacking.discard, chain)
            while left > 0:
                left -= node.disk / len(node.unpacking) * node.elapsed
                yield

    def _wait(self, seconds: float) -> Thread:
        while seconds > 0:
            seconds -= self.node.elapsed
            yield

    def _hold(self, kind: str, name: str) -> None:
        self.lease.resources[kind, name] = None

    def _drop(self, kind: str, name: str) -> None:
        self.lease.resources.pop((kind, name), None)


def _parent(image: Image, number: int) -> str:
    return image.chain_ids[number - 1] if number else ""


def _until(done: Callable[[], bool]) -> Thread:
    while not done():
        yield
