"""Tests for the sums over a pull's layers. Each report updates the sums only for the layers that have changed."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from pulltrace.server.pulls.node import Node, Pull
from pulltrace.server.pulls.sums import Sums
from pulltrace.wire import SNAPSHOTTER, LayerPhase, LayerState, PullPhase, PullState
from tests.server.build import NOW

LAYERS = st.builds(
    LayerState,
    digest=st.sampled_from("abc"),
    total_bytes=st.integers(0, 5),
    total_known=st.booleans(),
    downloaded_bytes=st.integers(0, 5),
    cached_bytes=st.integers(0, 5),
    state=st.sampled_from([None, *LayerPhase]),
    fetched_by=st.sampled_from([None, "other", SNAPSHOTTER]),
)


@given(st.lists(st.none() | st.lists(LAYERS, max_size=3), min_size=1, max_size=6), st.booleans())
def test_the_sums_match_the_newest_layers_after_each_report(reports, interrupted):
    pull = Pull("lease", Node("n", NOW, NOW), PullState(), NOW)
    for number, layers in enumerate(reports):
        pull.update(PullState(layers=layers), NOW + number)
        assert pull.sums == Sums.of(layers or ())
        if interrupted:
            pull.end(PullPhase.FAILED, NOW + number, NOW + number, None, None)
            pull.succeed()
            assert pull.sums == Sums.of(pull.state.layers or ())
            pull.revive(NOW + number)


@given(LAYERS, st.integers(0, 5), st.integers(0, 5), st.sampled_from([LayerPhase.DOWNLOADING, LayerPhase.CACHED]))
def test_replacing_a_layer_updates_the_sums(layer, downloaded, total, state):
    old = structs.replace(layer, state=LayerPhase.DOWNLOADING, total_bytes=total)
    new = structs.replace(old, state=state, downloaded_bytes=downloaded)
    sums = Sums.of([old])
    sums.replace(old, new)
    assert sums == Sums.of([new])


def test_a_layer_in_each_state_is_counted_in_the_right_sums():
    layers = [LayerState(digest=str(number), total_bytes=10, state=state) for number, state in enumerate(LayerPhase)]
    sums = Sums.of(layers)
    assert (sums.total, sums.remote_bytes, sums.extracted_bytes, sums.to_unpack) == (80, 10, 10, 50)
    assert (sums.done, sums.cached, sums.extracted, sums.unpacking) == (5, 1, 1, 1)
