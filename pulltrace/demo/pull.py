"""One pull, carried out in the way containerd does it. Sans-I/O.

Each generator is one of its threads; a ``yield`` lets time pass.
"""

import math
from collections.abc import Callable, Generator
from contextlib import ExitStack
from functools import partial
from inspect import GEN_RUNNING, getgeneratorstate

from pulltrace.demo.images import Blob, Image, Layer
from pulltrace.demo.machine import SLOTS, Machine, Slots
from pulltrace.demo.registries import Refusal
from pulltrace.demo.store import Ingest, Lease
from pulltrace.images import parse, registry_host
from pulltrace.wire import PullPhase

Thread = Generator[None, None, None]


class Pull:
    """A pull of ``reference``. ``state`` is None, then completed or failed; ``error`` is what the kubelet is told."""

    def __init__(self, node: Machine, reference: str, lease: Lease) -> None:
        self.node = node
        self.reference = parse(reference)
        self.lease = lease
        self.image: Image | None = None
        self.state: PullPhase | None = None
        self.error = ""
        self._host = registry_host(self.reference.registry)
        self._slots = Slots(math.inf if node.slots_per_node else SLOTS)
        self._threads: list[Thread] = [self._run()]

    def advance(self) -> None:
        """One step of time."""
        for thread in list(self._threads):
            over = next(thread, self) is self
            if over and thread in self._threads:
                self._threads.remove(thread)

    def fail(self, error: str) -> None:
        """It ends without an image; its lease goes, then what it had fetched."""
        self._end(PullPhase.FAILED, error)
        self.node.release(self.lease)

    def cancel(self) -> None:
        """The kubelet hung up."""
        self.fail(
            f'rpc error: code = Canceled desc = failed to pull and unpack image "{self.reference}": context canceled'
        )

    def abandon(self, error: str) -> None:
        """Nobody is left to finish it: its lease and ingests stay as they are."""
        self._end(PullPhase.FAILED, error)

    def _end(self, state: PullPhase, error: str = "") -> None:
        self.state, self.error = state, error
        threads, self._threads = self._threads, []
        for thread in threads:
            if getgeneratorstate(thread) != GEN_RUNNING:  # the one that ends the pull returns by itself
                thread.close()

    def _run(self) -> Thread:
        """Resolve, fetch the documents one after the other, then unpack; that fetches the layers."""
        yield from self._wait(2 * self.node.registries.manner(self._host).latency)
        yield from _until(lambda: self.reference.name not in self.node.registries.silent)
        image = self.node.registries.resolve(str(self.reference))
        if isinstance(image, Refusal):
            self.fail(image.message(str(self.reference)))
            return
        self.image = image
        for document in image.documents:
            yield from self._fetch(document)
        yield from self._unpack(image)
        # The CRI plugin names it by tag (or digest, when that was asked for), by digest and by image id.
        by_digest = f"{self.reference.name}@{image.target.digest}"
        for name in dict.fromkeys((str(self.reference), by_digest, image.config.digest)):
            self.node.store.record(name, image, self.node.now)
        self._end(PullPhase.COMPLETED)
        self.node.release(self.lease)

    def _fetch(self, blob: Blob) -> Thread:
        """Get a blob, unless the node has it or another pull is getting it."""
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
        yield  # the label comes just after the blob
        store.label_source(blob.digest, self._host, self.reference.repository)

    def _download(self, ingest: Ingest) -> Thread:
        node, registries = self.node, self.node.registries
        yield from self._wait(registries.manner(self._host).latency)
        with ExitStack() as held:
            node.transfers.add(ingest.blob.ref)
            held.callback(node.transfers.discard, ingest.blob.ref)
            while ingest.received < ingest.blob.size:
                speed = min(registries.speed(self._host, ingest.blob), node.bandwidth / len(node.transfers))
                sent = registries.sends(ingest.blob, ingest.received, speed * node.elapsed)
                if sent:
                    ingest.received += sent
                    ingest.updated_at = node.now
                yield

    def _unpack(self, image: Image) -> Thread:
        """Layer by layer, the base first. The first one that is missing starts the download of all that follow."""
        fetched: dict[str, bool] = {}
        for number in range(len(image.layers)):
            yield from self._unpack_layer(image, number, fetched)

    def _unpack_layer(self, image: Image, number: int, fetched: dict[str, bool]) -> Thread:
        node, store = self.node, self.node.store
        layer, chain = image.layers[number], image.chain_ids[number]
        with ExitStack() as held:
            yield from _until(partial(node.chains.take, chain))
            held.callback(node.chains.give, chain)
            if chain in store.snapshots:
                if node.leases_snapshots:
                    self._hold(store.snapshots_type, chain)
                return
            # Prepared before its download begins.
            key = f"extract-{node.random.randrange(10**9)}-{node.random.randbytes(2).hex()} {chain}"
            store.prepare(key, image.chain_ids[number - 1] if number else "", node.now)
            self._hold(store.snapshots_type, key)
            if not fetched:
                fetched.update({item.blob.digest: False for item in image.layers[number:]})
                self._threads += [self._fetch_layer(item, fetched) for item in image.layers[number:]]
            yield from _until(lambda: fetched[layer.blob.digest])
            yield from self._apply(layer, chain)
            store.commit_snapshot(key, chain, node.now)
            self._drop(store.snapshots_type, key)
            self._hold(store.snapshots_type, chain)

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


def _until(done: Callable[[], bool]) -> Thread:
    while not done():
        yield
