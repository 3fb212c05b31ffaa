"""Tests that the published JSON Schema is up to date, and that both golden and live events match the schema."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from pulltrace.server.models import EventType
from pulltrace.server.pulls.feed import Entry
from pulltrace.wire import UNKNOWN_IMAGE, LayerPhase, PullPhase
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs/schemas/pull-event-v1.json").read_text())
VALID = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)


def test_the_published_schema_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("event_schema", ROOT / ".github/scripts/event_schema.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.text() == (ROOT / "docs/schemas/pull-event-v1.json").read_text(), "out of date: run make schema"
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", sorted((ROOT / "tests/contract").glob("event-*.json")), ids=lambda path: path.stem)
def test_golden_events_match_the_schema(path: Path) -> None:
    VALID.validate(json.loads(path.read_text()))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"type": "pull.odd"}, id="an unknown type"),
        pytest.param({"pull": {"id": "x"}}, id="a change with an incomplete pull"),
        pytest.param({"schemaVersion": "v2"}, id="an unknown version"),
    ],
)
def test_invalid_events_fail_schema_validation(change: dict[str, Any]) -> None:
    event = json.loads((ROOT / "tests/contract/event-progress.json").read_text())
    assert not VALID.is_valid(event | change)


def test_live_events_match_the_schema() -> None:
    sim = SimulatedHub(STALL_TIMEOUT="3s", HISTORY_TTL="30s")
    told: list[Entry] = []
    seen = 0

    def collect() -> None:
        nonlocal seen
        told.extend(sim.hub.feed.since(seen) or [])
        seen = sim.hub.feed.revision

    unknown = {"image_ref": UNKNOWN_IMAGE, "registry": None, "repository": None, "total_known": False}
    for second in range(1, 20):
        first = pull("a", *[layer(str(n), second * MIB, state=state) for n, state in enumerate(LayerPhase)])
        sim.report(first, pull("b", status=PullPhase.RESOLVING, **unknown), at=second)
        collect()
    sim.report(
        pull("a", layer("a", 9), status=PullPhase.COMPLETED, ended_at=NOW + 20, image_ref="docker.io/library/nginx:1"),
        pull("b", status=PullPhase.FAILED, ended_at=NOW + 20, error="no", **unknown),
        at=20,
    )
    collect()
    sim.at(60)
    collect()
    assert {entry.type for entry in told} == set(EventType)
    for entry in told:
        for layers in (True, False):
            VALID.validate(json.loads(entry.data(layers=layers)))
    assert msgspec.json.decode(told[-1].data(layers=False))["type"] == "pull.removed"
