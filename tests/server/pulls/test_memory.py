"""Tests for the limits on how much of the server's memory agents can use. SECURITY.md states the limits in bytes."""

import re
import tracemalloc
from pathlib import Path

import msgspec
import pytest

from pulltrace.server.limits import Limits
from pulltrace.server.pulls.memory import ENDED_LAYER, ENDED_PULL, LIVE_LAYER, LIVE_PULL
from pulltrace.wire import LayerPhase, PullPhase, PullState
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull, report

ROOT = Path(__file__).parents[3]


def filler(number: int, ended: bool) -> PullState:
    """Return a pull with strings of the maximum length and the maximum number of layers."""
    state = LayerPhase.EXTRACTED if ended else LayerPhase.DOWNLOADING
    layers = [layer(f"{number:0>4}{one:0>4}" + "d" * 150, one, media_type="m" * 256, state=state) for one in range(500)]
    more = {"status": PullPhase.COMPLETED, "ended_at": NOW + 1} if ended else {}
    return pull(f"{'p' * 500}{number}", *layers, image_ref="r/" + "i" * 500, at=NOW, **more)


@pytest.mark.parametrize("ended", [True, False])
def test_a_single_node_cannot_use_more_memory_than_its_share(ended: bool) -> None:
    limits = Limits(report_interval=0.0, live_bytes=2 * MIB, history_bytes=2 * MIB)
    sim = SimulatedHub(limits)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(10):
            sim.sequence += 1
            state = filler(number, ended)
            others = [f"{'p' * 500}{other}" for other in range(number)]
            sim.hub.report(report(state, sequence=sim.sequence, others=[] if ended else others))
            sim.hub.tick(sim.now)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    share = limits.history_bytes if ended else limits.live_bytes
    (node,) = sim.hub._pulls.nodes.values()
    assert (node.history_bytes if ended else node.live_bytes) <= share
    assert kept - before < 1.25 * share, "the pulls and the newest frame"
    assert sim.metric("dropped_total") > 0


def test_the_memory_used_by_all_nodes_together_is_limited() -> None:
    limits = Limits(all_bytes=2 * MIB, report_interval=0.0)
    sim = SimulatedHub(limits)
    for number in range(40):
        sim.report(filler(number, True), at=2 + number, node=f"n{number}")
    inventory = sim.hub._pulls
    assert inventory.bytes <= limits.all_bytes
    assert inventory.bytes == sum(node.live_bytes + node.history_bytes for node in inventory.nodes.values())
    sim.at(4000)
    assert inventory.bytes == 0


def test_pulls_without_layers_count_towards_the_limit_but_each_node_can_always_have_one_pull() -> None:
    limits = Limits(all_bytes=MIB, report_interval=0.0)
    sim = SimulatedHub(limits)
    for node in range(40):
        pulls = [pull(f"lease-{number}", at=NOW) for number in range(20)]
        sim.hub.report(report(*pulls, node=f"n{node}", sequence=1))
        sim.hub.tick(sim.now)
    nodes = sim.hub._pulls.nodes.values()
    assert {len(node.active) for node in nodes} > {1, 20}
    assert sim.hub._pulls.bytes < limits.all_bytes + 40 * 5000
    assert sim.metric("dropped_total") > 0
    dropped = next(node for node in nodes if len(node.active) == 1)
    sim.hub.report(report(*pulls[:1], node=dropped.name, sequence=2))
    assert dropped.active, "a pull that is already known is never dropped"


def test_layers_of_finished_pulls_on_an_idle_node_are_not_stored_twice() -> None:
    sim = SimulatedHub()
    for number in range(3):
        ended = {"status": PullPhase.COMPLETED, "ended_at": NOW + number, "at": NOW}
        sim.report(pull(f"l{number}", layer("a", MIB), **ended), at=number)
    for second in range(10, 200, 10):
        sim.report(at=second)
    pulls = sim.hub._pulls.nodes["node-1"].ended.values()
    assert [one.state.layers for one in pulls] == [None] * 3
    assert [entry.shown(layers=True).layers is not None for entry in sim.hub.feed.current()] == [True] * 3


def test_the_security_page_lists_the_limits() -> None:
    text = re.sub(r"\s+", " ", (ROOT / "SECURITY.md").read_text())
    limits = Limits()
    for words in (
        f"{limits.live_bytes // MIB} MiB for running pulls",
        f"{limits.history_bytes // MIB} MiB for finished pulls per node",
        f"{limits.all_bytes // MIB} MiB across all nodes",
        f"A running pull counts as {LIVE_PULL:,} bytes, and each of its layers counts as {LIVE_LAYER:,}",
        f"A finished pull counts as {ENDED_PULL:,} bytes, and each of its layers counts as {ENDED_LAYER:,}",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("field", "longest"), [("image_ref", 512), ("manifest_digest", 200), ("media_type", 256), ("error", 2048)]
)
def test_the_length_of_strings_in_reports_is_limited(field: str, longest: int) -> None:
    msgspec.convert(msgspec.to_builtins(pull("l", **{field: "x" * longest})), PullState)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(msgspec.to_builtins(pull("l", **{field: "x" * (longest + 1)})), PullState)
