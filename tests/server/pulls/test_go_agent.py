"""Tests with reports in the format of the Go agent (v0.1.0): only ingest refs, no ids, and JSON as Go writes it."""

import json

import msgspec
import pytest

from pulltrace.wire import UNKNOWN_IMAGE, AgentReport, PullPhase
from tests.server.build import MIB, SimulatedHub

A, B = "a" * 64, "b" * 64


def original(*ingests: tuple[str, int, int], second: int) -> AgentReport:
    """Return a report that contains these ingests, given as (ref, offset, total) tuples."""
    started = "2023-11-14T22:13:21Z"
    pulls = [
        {
            "imageRef": ref,
            "layers": [
                {
                    "digest": ref,
                    "mediaType": "",
                    "totalBytes": total,
                    "downloadedBytes": offset,
                    "totalKnown": total > 0,
                }
            ],
            "startedAt": started,
            "totalKnown": total > 0,
        }
        for ref, offset, total in ingests
    ]
    body = {"nodeName": "node-1", "timestamp": f"2023-11-14T22:13:{20 + second:02}Z", "pulls": pulls or None}
    return msgspec.json.decode(json.dumps(body), type=AgentReport)


def reported(sim: SimulatedHub, second: int, *ingests: tuple[str, int, int]) -> None:
    sim.at(second)
    sim.hub.report(original(*ingests, second=second))
    sim.hub.tick(sim.now)


def test_all_layers_that_a_node_is_downloading_form_one_pull_of_an_unknown_image() -> None:
    sim = SimulatedHub()
    reported(sim, 2, (f"layer-sha256:{A}", 10 * MIB, 40 * MIB), (f"layer-sha256:{B}", 0, 60 * MIB))
    status = sim.one
    assert (status.image_ref, status.layer_count, status.total_bytes) == (UNKNOWN_IMAGE, 2, 100 * MIB)
    assert [layer.digest for layer in status.layers or ()] == [f"sha256:{A}", f"sha256:{B}"]
    assert (status.percent, status.status) == (10.0, PullPhase.DOWNLOADING)


def test_a_layer_that_is_no_longer_reported_counts_as_complete_and_the_pull_completes_with_its_last_layer() -> None:
    sim = SimulatedHub()
    reported(sim, 2, (f"layer-sha256:{A}", 10 * MIB, 40 * MIB), (f"layer-sha256:{B}", 0, 60 * MIB))
    reported(sim, 4, (f"layer-sha256:{B}", 30 * MIB, 60 * MIB))
    assert (sim.one.downloaded_bytes, sim.one.layers_done) == (70 * MIB, 1)
    reported(sim, 6)
    assert (sim.one.status, sim.one.percent) == (PullPhase.COMPLETED, 100.0)


def test_a_later_download_on_the_same_node_is_a_new_pull() -> None:
    sim = SimulatedHub()
    for second in (2, 10, 20):
        reported(sim, second, (f"layer-sha256:{A}", MIB, 40 * MIB))
        reported(sim, second + 3)
    assert len({status.id for status in sim.shown}) == 3


@pytest.mark.parametrize("kind", ["manifest", "index", "config"])
def test_ingests_of_manifests_and_configs_do_not_count_as_layers(kind: str) -> None:
    sim = SimulatedHub()
    reported(sim, 2, (f"{kind}-sha256:{A}", 100, 1000), (f"layer-sha256:{B}", MIB, 60 * MIB))
    assert (sim.one.layer_count, sim.one.total_bytes) == (1, 60 * MIB)


def test_an_image_name_that_the_go_agent_reports_is_shown() -> None:
    sim = SimulatedHub()
    reported(sim, 2, ("ghcr.io/acme/web:1", MIB, 60 * MIB))
    assert sim.one.image_ref == "ghcr.io/acme/web:1"


def test_a_time_in_the_year_1_is_treated_as_unknown() -> None:
    body = {"nodeName": "node-1", "timestamp": "0001-01-01T00:00:00Z"}
    body["pulls"] = [{"imageRef": f"layer-sha256:{A}", "startedAt": "0001-01-01T00:00:00Z"}]
    sim = SimulatedHub()
    sim.hub.report(msgspec.json.decode(json.dumps(body), type=AgentReport))
    sim.hub.tick(sim.now)
    assert sim.one.started_at.timestamp() == sim.now


def test_a_pull_from_a_go_agent_ends_when_a_python_agent_replaces_the_go_agent() -> None:
    sim = SimulatedHub()
    reported(sim, 2, (f"layer-sha256:{A}", MIB, 40 * MIB))
    sim.report(at=4)
    sim.report(at=5)
    assert sim.one.status.ended
